/** Calls of the OpenResty client side by side on one connection, in nginx and under plain LuaJIT. */

import { assertEquals, assertMatch } from "@std/assert";
import { next, NGINX, NGINX_PACKAGES, saidBy, testInLua, withScript } from "./lua.ts";
import { accepted, serveHolds } from "./lua_servers.ts";
import { testWith } from "./programs.ts";

testInLua("calls run side by side on one connection, and one of them is cancelled", async (world) => {
  await using server = await serveHolds();
  const said = await saidBy(
    world,
    server.port,
    `
    local connection = client:connection()
    local cancelled = connection:start("HOLD")
    local held = connection:start("HOLD")
    say(tell(connection:call("ECHO", { data = "overtakes" })))
    cancelled:close()
    say(tell(cancelled:wait()))
    say(tell(connection:call("RELEASE")))
    say(tell(held:wait()))
    local late = connection:start("HOLD", {}, { timeout = 50 })
    local ticks, sum = connection:stream("TICK", { count = 100, interval = 0 }, { credit = 4 }), 0
    for tick in ticks do sum = sum + tick end
    say(sum)
    say(select(2, late:wait()).code)
    say(tell(connection:call("TALLY", {}, { items = { "a", "b" } })).items)
    connection:close()`,
  );
  assertEquals(said, [
    "overtakes",
    "CANCELLED: it was closed here",
    "released",
    "held",
    "5050",
    "TIMEOUT",
    "2",
  ]);
  assertEquals(server.holds.slice(0, 2), ["CANCELLED", "released"]);
  assertMatch(server.holds[2], /^(DEADLINE_EXCEEDED|CANCELLED)$/);
  assertEquals(accepted(server), 1);
});

testInLua("calls of a client run side by side as well, each on its own connection", async (world) => {
  await using server = await serveHolds();
  const said = await saidBy(
    world,
    server.port,
    `
    local held = client:start("HOLD")
    say(tell(client:call("RELEASE")))
    say(tell(held:wait()))`,
  );
  assertEquals(said, ["released", "held"]);
  assertEquals(accepted(server), 2);
});

testWith(NGINX_PACKAGES, "in nginx, light threads share a connection from its first call on", async () => {
  await using server = await serveHolds();
  const said = await saidBy(
    NGINX,
    server.port,
    `
    local connection = client:connection()
    local threads, sum = {}, 0
    for n = 1, 50 do
      threads[n] = ngx.thread.spawn(function() return connection:call("ECHO", { data = n }).res end)
    end
    for _, thread in ipairs(threads) do sum = sum + select(2, ngx.thread.wait(thread)) end
    say(sum)

    local hold = connection:start("HOLD")
    local waiting = ngx.thread.spawn(function() return hold:wait() end) -- it reads
    local other = ngx.thread.spawn(function() return connection:call("HOLD") end) -- it waits for what that one reads
    connection:call("PING")
    hold:close()
    local _, reply, failure = ngx.thread.wait(waiting)
    say(tell(reply, failure))
    connection:call("RELEASE")
    _, reply, failure = ngx.thread.wait(other)
    say(tell(reply, failure))
    connection:close()`,
  );
  assertEquals(said, ["1275", "CANCELLED: it was closed here", "held"]);
  assertEquals(server.holds, ["CANCELLED", "released"]);
  assertEquals(accepted(server), 1);
});

testWith(NGINX_PACKAGES, "in nginx, who has its reply hands the reading over to who still waits", async () => {
  await using server = await serveHolds();
  const said = await saidBy(
    NGINX,
    server.port,
    `
    local connection = client:connection()
    local reader = ngx.thread.spawn(function() return connection:call("DELAY", { sleep = 0.02 }) end)
    local waiting = ngx.thread.spawn(function() return connection:call("DELAY", { sleep = 0.1 }) end)
    for _, thread in ipairs { reader, waiting } do
      local _, reply, failure = ngx.thread.wait(thread)
      say(tell(reply, failure))
    end
    connection:close()`,
    "alive = 3600000, timeout = 2000",
  );
  assertEquals(said, ["DONE", "DONE"]);
});

testWith(NGINX_PACKAGES, "in nginx, signs of life are given beside a light thread that polls at rest", async () => {
  const said = await withScript(
    NGINX,
    `
    local connection = client:connection()
    connection:call("FIRST")
    ngx.thread.spawn(function() connection:poll(3600000) end)
    say(tell(connection:call("SLOW")))
    connection:close()`,
    async (accept) => {
      const server = await accept();
      await server.reply({ seq: (await next(server)).seq, res: 1 });
      const slow = await next(server);
      const ping = await next(server);
      assertEquals(ping.cmd, 1);
      await server.reply({ seq: ping.seq, res: "PONG" }, { seq: slow.seq, res: "slow" });
      assertEquals(await server.message(), undefined);
    },
    "alive = 1000, timeout = 2000",
  );
  assertEquals(said, ["slow"]);
});

testInLua("the items of one call come from a stream on the same connection", async (world) => {
  await using server = await serveHolds();
  const said = await saidBy(
    world,
    server.port,
    `
    local connection = client:connection()
    local echo = connection:stream("ECHO", {}, { items = connection:stream("TICK", { count = 500, interval = 0 }) })
    local sum = 0
    for item in echo do sum = sum + item end
    say(tostring(echo.failure) .. " " .. sum)
    local endless = connection:stream("ECHO", {}, { items = connection:stream("TICK", { interval = 0 }) })
    for item in endless do
      if item == 50 then endless:close() break end
    end
    say(tell(connection:call("PING")))
    connection:close()`,
  );
  assertEquals(said, ["nil 125250", "PONG"]);
  assertEquals(accepted(server), 1);
});

testInLua("more goes both ways than anything between them holds, beside other calls", async (world) => {
  await using server = await serveHolds();
  const said = await saidBy(
    world,
    server.port,
    `
    local connection = client:connection()
    local text = ("x"):rep(1000000)
    local function texts(count)
      return function()
        count = count - 1
        if count >= 0 then return text end
      end
    end
    local first = connection:stream("ECHO", {}, { items = texts(30), credit = 30 })
    local size = #first()
    local calls = {}
    for n = 1, 20 do calls[n] = connection:start("ECHO", { data = text }) end
    for item in first do size = size + #item end
    for _, call in ipairs(calls) do
      local reply, failure = call:wait()
      if reply then size = size + #reply.res else say(tostring(failure)) end
    end
    say(size)
    connection:close()`,
    "timeout = 20000",
  );
  assertEquals(said, ["50000000"]);
  assertEquals(accepted(server), 1);
});

testInLua("what no server can read is refused here, and other calls of the connection go on", async (world) => {
  await using server = await serveHolds();
  const said = await saidBy(
    world,
    server.port,
    `
    local connection = client:connection()
    local held = connection:start("HOLD")
    local function nest(depth) return depth > 0 and { nest(depth - 1) } or nil end
    local function echo(data, meta) say(tell(connection:call("ECHO", { data = data }, { meta = meta }))) end
    echo("a\\255")
    echo({ ["\\237\\160\\128"] = 1 })
    echo(1, { name = "\\195" })
    echo(nest(64))
    echo({ [1.5] = 1 })
    echo({ [true] = 1 })
    echo(io.stdout)
    echo(1, { name = 5 })
    say(tell(connection:stream("COUNT", {}, { credit = 0.5 })()))
    say(tell(connection:call("TALLY", {}, { items = { "a", "\\244\\144\\128\\128" } })))
    say(type(connection:call("ECHO", { data = nest(63) }).res))
    say(tostring(connection:call("ECHO", { data = require("cjson").null }, { meta = { "text" } }).res))
    echo("\\0 \\195\\188 \\226\\130\\172 \\237\\159\\191 \\240\\159\\152\\128")
    say(tell(connection:call("RELEASE")))
    say(tell(held:wait()))
    connection:close()`,
  );
  const refusal = (at: number, size: number) =>
    `INVALID_PARAMS: text that is not UTF-8 at byte ${at} of ${size}; packline.binary() marks what is no text`;
  assertEquals(said, [
    refusal(2, 2),
    refusal(2, 3),
    refusal(1, 1),
    "INVALID_PARAMS: more than 64 tables in one another, or a table in itself",
    "INVALID_PARAMS: a key must be text or an integer: 1.5",
    "INVALID_PARAMS: a key must be text or an integer: true",
    "INVALID_PARAMS: pack 'userdata' is unimplemented",
    "INVALID_PARAMS: meta.name must be text",
    "INVALID_PARAMS: credit must be an integer above 0, and is 0.5",
    refusal(2, 4),
    "table",
    "nil",
    "\0 ü € \ud7ff 😀",
    "released",
    "held",
  ]);
  assertEquals(accepted(server), 1);
});

testInLua(
  "a source of items may be a coroutine, but not one that waits for the same connection in LuaJIT",
  async (world) => {
    await using server = await serveHolds();
    const said = await saidBy(
      world,
      server.port,
      `
    local connection = client:connection()
    local function upload(source)
      local items = coroutine.wrap(function()
        for tick in source:stream("TICK", { count = 3, interval = 0 }) do coroutine.yield(tick) end
      end)
      local done, reply, failure = pcall(connection.call, connection, "TALLY", {}, { items = items })
      say(done and (failure and failure.code or reply.res.items) or reply)
    end
    upload(client)
    upload(connection)
    say(tell(connection:call("PING")))
    connection:close()`,
    );
    const refusal = "a source of items cannot wait in another coroutine for a call on its own connection";
    assertEquals([said[0], said[2]], ["3", "PONG"]);
    assertMatch(said[1], world.name === "nginx" ? /^3$/ : new RegExp(`${refusal}$`));
  },
);

testInLua("a promise that no server takes is refused", async (world) => {
  const said = await saidBy(
    world,
    1,
    `
    for _, alive in ipairs { 999, 3600001 } do
      say((select(2, pcall(packline.new, { alive = alive })):gsub("^.-:%d+: ", "")))
    end`,
  );
  assertEquals(said, Array(2).fill("alive must be 1000 to 3600000 (ms)"));
});
