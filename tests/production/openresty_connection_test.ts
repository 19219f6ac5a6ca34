/** Calls of the OpenResty client side by side on one connection, in nginx and under plain LuaJIT. */

import { assertEquals, assertMatch } from "@std/assert";
import { encode } from "../support/msgpack.ts";
import { command, connect, type ListeningServer } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";
import { frame } from "../support/wire.ts";
import {
  LUAJIT,
  LUAJIT_PACKAGES,
  next,
  NGINX,
  NGINX_PACKAGES,
  saidBy,
  startLua,
  testInLua,
  withScript,
} from "./lua.ts";
import { testWith } from "./programs.ts";

/** A server whose HOLD ends at a RELEASE, or a cancel, and what became of each HOLD. */
async function serveHolds(options: Parameters<typeof serve>[0] = {}): Promise<ListeningServer & { holds: string[] }> {
  const holds: string[] = [];
  let release = () => {};
  const commands = {
    HOLD: command((_: object, { signal }) => {
      const index = holds.push("held") - 1;
      return new Promise<string>((resolve, reject) => {
        signal.addEventListener("abort", () => {
          holds[index] = signal.reason.code;
          reject(signal.reason);
        });
        release = () => {
          holds[index] = "released";
          resolve("held");
        };
      });
    }),
    RELEASE: command(() => {
      release();
      return "released";
    }),
  };
  return Object.assign(await serve({ port: 0, commands, onError: () => {}, ...options }), { holds });
}

const accepted = (server: ListeningServer) => server.statistics().connections.accepted;

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

testInLua("a server that is about to stop loses no call: the next go over another connection", async (world) => {
  const said = await withScript(
    world,
    `
    local connection = client:connection()
    local first = connection:start("FIRST")
    local second = connection:start("SECOND")
    say(tell(second:wait()))
    local third = connection:start("THIRD")
    say(tell(third:wait()))
    say(tell(first:wait()))
    connection:close()`,
    async (accept) => {
      const old = await accept();
      assertEquals(await old.message(), { cmd: 0, max: 1_048_576, alive: 10_000, notice: true });
      const [first, second] = [await old.request(), await old.request()];
      await old.reply({ going: 10_000 }, { seq: second.seq, res: 2 });
      const fresh = await accept();
      const third = await next(fresh);
      assertEquals(third.cmd, "THIRD");
      await fresh.reply({ seq: third.seq, res: 3 });
      await old.reply({ seq: first.seq, res: 1 });
      assertEquals(await old.message(), undefined);
      assertEquals(await fresh.message(), undefined);
    },
  );
  assertEquals(said, ["2", "3", "1"]);
});

testInLua("a lost connection fails its calls, repeats those that may run twice, and is replaced", async (world) => {
  const said = await withScript(
    world,
    `
    local connection = client:connection()
    local once, twice = connection:start("ONCE"), connection:start("TWICE", {}, { idempotent = true })
    say(tell(once:wait()))
    say(tell(twice:wait()))
    connection:close()`,
    async (accept) => {
      const first = await accept();
      await next(first);
      await next(first);
      first.cut();
      const second = await accept();
      const request = await next(second);
      assertEquals(request.cmd, "TWICE");
      await second.reply({ seq: request.seq, res: "twice" });
      assertEquals(await second.message(), undefined);
    },
  );
  assertEquals(said, ["CONNECTION_LOST: cannot receive the reply: closed", "twice"]);
});

testInLua("a call is sent as it was made, also the second time and as a stream", async (world) => {
  const said = await withScript(
    world,
    `
    local connection, params, meta = client:connection(), { words = { "made" } }, { token = "made" }
    local call = connection:start("CALL", params, { meta = meta })
    local stream = connection:stream("STREAM", params, { meta = meta })
    params.words[1], params.more, meta.token = "changed", true, "changed"
    say(tell(call:wait()))
    say(stream())
    connection:close()`,
    async (accept) => {
      const first = await accept();
      await first.reply({ seq: (await next(first)).seq, err: "SHUTTING_DOWN" });
      const second = await accept();
      for (const cmd of ["CALL", "STREAM"]) {
        const { seq, ttl: _, credit = 0, ...request } = await next(second);
        assertEquals(request, { cmd, words: ["made"], meta: { token: "made" } });
        await second.reply({ seq, res: cmd, ...(credit === 0 ? {} : { more: true }) });
      }
      while (await second.message() !== undefined);
    },
  );
  assertEquals(said, ["CALL", "STREAM"]);
});

testInLua("a connection that has ended at rest is replaced before the next call", async (world) => {
  const said = await withScript(
    world,
    `
    local connection = client:connection()
    say(tell(connection:call("FIRST")))
    local started = require("resty.packline.clock").now()
    repeat until require("resty.packline.clock").now() - started > 150
    say(tell(connection:call("SECOND")))
    connection:close()`,
    async (accept) => {
      for (const res of ["first", "second"]) {
        const server = await accept();
        await server.reply({ seq: (await next(server)).seq, res });
        if (res === "first") server.cut();
        else assertEquals(await server.message(), undefined);
      }
    },
  );
  assertEquals(said, ["first", "second"]);
});

testInLua("while one call waits to be sent again, others get their replies, and it waits its time", async (world) => {
  const said = await withScript(
    world,
    `
    local connection, now = client:connection(), require("resty.packline.clock").now
    local ticks = connection:stream("TICKS")
    ticks()
    local began = now()
    say(tell(connection:call("BUSY")))
    say(now() - began >= 200 and "in time" or now() - began)
    for tick in ticks do say(tick) end
    connection:close()`,
    async (accept) => {
      const server = await accept();
      const { seq } = await next(server);
      await server.reply({ seq, res: 0, more: true });
      await server.reply({ seq: (await next(server)).seq, err: "OVERLOADED", $after: 200 });
      for (let res = 1; res <= 3; res++) await server.reply({ seq, res, more: true });
      await server.reply({ seq: (await next(server)).seq, res: "at last" }, { seq, res: 3 });
      assertEquals(await server.message(), undefined);
    },
  );
  assertEquals(said, ["at last", "in time", "1", "2", "3"]);
});

testInLua("half a reply is kept while its call waits, and while others run out of time", async (world) => {
  const said = await withScript(
    world,
    `
    local connection = client:connection()
    local slow = connection:start("SLOW")
    for _ = 1, 3 do say(select(2, connection:call("SHORT", {}, { timeout = 50 })).code) end
    say(tell(slow:wait()))
    connection:close()`,
    async (accept) => {
      const server = await accept();
      const slow = await next(server);
      const bytes = frame(encode({ seq: slow.seq, res: "x".repeat(60_000) }));
      for (const [from, to] of [[0, 1], [1, 9], [9, undefined]]) {
        const short = await next(server);
        await server.send(bytes.slice(from, to));
        assertEquals(await next(server), { cmd: 0, seq: short.seq, cancel: true });
      }
      assertEquals(await server.message(), undefined);
    },
  );
  assertEquals(said, [...Array(3).fill("TIMEOUT"), "x".repeat(60_000)]);
});

testInLua("bytes that never end a reply do not hold up a call's time", async (world) => {
  const said = await withScript(
    world,
    `say(tell(client:call("SLOW", {}, { timeout = 200 })))`,
    async (accept) => {
      const server = await accept();
      await next(server);
      await server.send(Uint8Array.of(0x30, 0x20)); // a payload of 4,096 bytes
      const drip = setInterval(() => void server.send(Uint8Array.of(0xc0)).catch(() => {}), 20);
      while (await server.message() !== undefined);
      clearInterval(drip);
    },
  );
  assertEquals(said, ["TIMEOUT: cannot receive the reply: timeout"]);
});

testInLua("a long reply may take longer than a silence, if it goes on", async (world) => {
  const said = await withScript(
    world,
    `
    local connection = client:connection()
    say(#connection:call("LONG").res)
    connection:close()`,
    async (accept) => {
      const server = await accept();
      const { seq } = await next(server);
      const bytes = frame(encode({ seq, res: "x".repeat(10_000) }));
      // The client says something three times a second, and here each is answered by a part of the reply: for 3 s.
      for (let at = 0; at < bytes.length; at += 1_200) {
        await server.send(bytes.slice(at, at + 1_200));
        if (at + 1_200 < bytes.length) await server.message();
      }
      while (await server.message() !== undefined);
    },
    "alive = 1000",
  );
  assertEquals(said, ["10000"]);
});

testInLua("a call that gets more items than it asked for fails, and no other", async (world) => {
  const said = await withScript(
    world,
    `
    local connection = client:connection()
    local other, stream, single = connection:start("OTHER"), connection:stream("WORDS", {}, { credit = 2 }), nil
    say(stream())
    single = connection:start("SINGLE")
    say(tell(other:wait()))
    say(tell(stream()))
    say(tell(single:wait()))
    say(tell(connection:call("LAST")))
    connection:close()`,
    async (accept) => {
      const server = await accept();
      const other = await next(server);
      const { seq } = await next(server);
      const item = { seq, res: "word", more: true };
      await server.reply(item); // and a credit of 1 for the next one
      assertEquals(await next(server), { cmd: 0, seq, credit: 1 });
      const single = await next(server);
      await server.reply(...Array(100).fill(item), ...Array(100).fill({ seq: single.seq, res: 1, more: true }));
      assertEquals(
        [await next(server), await next(server)],
        [seq, single.seq].map((seq) => ({ cmd: 0, seq, cancel: true })),
      );
      await server.reply({ seq: other.seq, res: "other" }, { seq, res: 0 }, { seq: single.seq, res: 0 });
      await server.reply({ seq: (await next(server)).seq, res: "last" });
      assertEquals(await server.message(), undefined);
    },
  );
  assertEquals(said, [
    "word",
    "other",
    "BAD_REPLY: more items than the credit",
    "BAD_REPLY: the command answers with a stream",
    "last",
  ]);
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

testWith(NGINX_PACKAGES, "in nginx, a call that is made while close() waits opens another connection", async () => {
  const said = await withScript(
    NGINX,
    `
    local connection = client:connection()
    local held = connection:start("HOLD")
    local closing = ngx.thread.spawn(function() connection:close() end)
    say(tell(connection:call("NEXT")))
    say(tell(held:wait()))
    ngx.thread.wait(closing)
    connection:close()`,
    async (accept) => {
      const old = await accept();
      const held = await next(old);
      assertEquals(await next(old), { cmd: 0, seq: held.seq, cancel: true }); // no answer
      const fresh = await accept();
      await fresh.reply({ seq: (await next(fresh)).seq, res: "next" });
      assertEquals([await old.message(), await fresh.message()], [undefined, undefined]);
    },
  );
  assertEquals(said, ["next", "CANCELLED: it was closed here"]);
});

testWith(NGINX_PACKAGES, "in nginx, set_keepalive() gives the connection to the next request", async () => {
  await using server = await serveHolds();
  await using owned = new AsyncDisposableStack();
  const { url } = await startLua(
    owned,
    `location / {
      content_by_lua_block {
        local client = require("resty.packline").new { port = ${server.port} }
        local connection = client:connection()
        local first, second = connection:start("PING"), connection:start("PING")
        ngx.print(second:wait().res, " ", first:wait().res)
        if ngx.var.arg_open then connection:start("HOLD") end
        connection:set_keepalive()
      }
    }`,
  );
  const get = async (path: string) => await (await fetch(url + path)).text();
  for (let count = 0; count < 5; count++) assertEquals(await get("/"), "PONG PONG");
  assertEquals(accepted(server), 1);
  assertEquals(await get("/?open=1"), "PONG PONG"); // closed: a call is open
  assertEquals(await get("/"), "PONG PONG");
  assertEquals(accepted(server), 2);
  while (server.holds[0] === "held") await get("/");
});

testWith(NGINX_PACKAGES, "in nginx, a connection of another request is refused as long as that goes on", async () => {
  await using server = await serveHolds();
  await using owned = new AsyncDisposableStack();
  const { url } = await startLua(
    owned,
    `location / {
      content_by_lua_block {
        local _, reply = pcall(shared.call, shared, ngx.var.arg_cmd)
        ngx.print(type(reply) == "table" and reply.res or reply)
      }
    }`,
    {
      http: `init_worker_by_lua_block {
        shared = require("resty.packline").new { port = ${server.port} }:connection() -- a mistake
      }`,
    },
  );
  const get = async (cmd: string) => await (await fetch(`${url}/?cmd=${cmd}`)).text();
  await using other = await connect({ port: server.port });
  const held = get("HOLD");
  while (server.holds.length === 0) await other.call.PING();
  assertEquals(
    await get("PING"),
    "this connection belongs to another request or timer; make one for each by client:connection()",
  );
  await other.call.RELEASE();
  assertEquals(await held, "held");
  assertEquals(await get("PING"), "PONG"); // nginx has closed it, and this call opens another
});

testWith(LUAJIT_PACKAGES, "under LuaJIT, set_keepalive() closes: nobody would read the notices", async () => {
  await using server = await serveHolds();
  const said = await saidBy(
    LUAJIT,
    server.port,
    `
    for _ = 1, 2 do
      local connection = client:connection()
      say(tell(connection:call("PING")))
      connection:set_keepalive()
    end
    say(client:call("STATS").res.connections.accepted)`,
  );
  assertEquals(said, ["PONG", "PONG", "3"]);
});

testWith(NGINX_PACKAGES, "in nginx, a light thread that is ended while it reads fails the others soon", async () => {
  await using server = await serveHolds();
  const said = await saidBy(
    NGINX,
    server.port,
    `
    local connection = client:connection()
    local reader = ngx.thread.spawn(function() return connection:call("HOLD") end)
    local waiting = ngx.thread.spawn(function() return connection:call("HOLD") end)
    connection:call("PING")
    ngx.thread.kill(reader)
    local _, reply, failure = ngx.thread.wait(waiting)
    say(failure.code)
    say(tell(connection:call("PING")))
    connection:close()`,
    "alive = 1000, timeout = 3000",
  );
  assertEquals(said, ["CONNECTION_LOST", "PONG"]);
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

testInLua("numbers of the environment, which are text, configure a client", async (world) => {
  await using server = await serve({ port: 0 });
  const said = await saidBy(
    world,
    server.port,
    `
    local options = { port = "${server.port}", bytes_max = "60000", alive = "5000", pool_size = "4", keepalive = "60000" }
    local texts = packline.new(options)
    for _ = 1, 2 do say(tell(texts:call("PING"))) end
    say(tell(texts:connection():call("PING")))
    say(type(options.port))`,
  );
  assertEquals(said, ["PONG", "PONG", "PONG", "string"]);
});

testInLua("no connection is kept in a pool of 0, or for 0 ms", async (world) => {
  await using server = await serve({ port: 0 });
  const said = await saidBy(
    world,
    server.port,
    `
    for _, option in ipairs { "pool_size", "keepalive" } do
      local forgetful = packline.new { port = ${server.port}, [option] = 0 }
      say(tell(forgetful:call("PING")))
      say(tell(forgetful:call("PING")))
    end`,
  );
  assertEquals(said, Array(4).fill("PONG"));
  assertEquals(accepted(server), 4);
});
