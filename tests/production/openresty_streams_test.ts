/** Streams of the OpenResty client, both ways, against real servers: in nginx and under plain LuaJIT. */

import { assert, assertEquals } from "@std/assert";
import { command, RpcError, serve, unchecked } from "../../mod.ts";
import { FaultProxy } from "../faults/fault_proxy.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { NGINX, NGINX_PACKAGES, saidBy, testInLua } from "./lua.ts";
import { serveStreams } from "./lua_servers.ts";
import { example, Folder, testWith } from "./programs.ts";

testInLua("a call that a server may have started says so, whatever its last failure is", async (world) => {
  let losses = 0;
  const commands = {
    REFUSE: command((): null => {
      throw new RpcError("SHUTTING_DOWN");
    }),
    LOSE: command((): null => {
      if (losses++ > 0) throw new RpcError("SHUTTING_DOWN");
      proxy.cutAll("RST");
      return null;
    }),
    BEGIN: command(async function* () {
      yield 1;
      throw new RpcError("OVERLOADED");
    }),
    TAKE: command({
      items: unchecked<number>(),
      async handler(_: object, { items }): Promise<null> {
        for await (const _item of items) throw new RpcError("OVERLOADED");
        return null;
      },
    }),
  };
  await using server = await serve({ port: 0, commands });
  await using proxy = await FaultProxy.start({ port: server.port });
  const said = await saidBy(
    world,
    proxy.port,
    `
    local function last(_, failure)
      say(failure.code .. " " .. tostring(failure.retryable))
      return failure
    end
    local refused = last(client:call("REFUSE"))
    last(client:call("LOSE", {}, { idempotent = true }))
    local stream = client:stream("BEGIN")
    stream()
    last(stream())
    last(client:call("TAKE", {}, { items = { 1, 2 } }))
    last(client:call("TAKE", {}, { items = function() error(refused) end }))`,
  );
  assertEquals(said, [
    "SHUTTING_DOWN true",
    "SHUTTING_DOWN false",
    "OVERLOADED false",
    "OVERLOADED false",
    "SHUTTING_DOWN false",
  ]);
});

testInLua("the items of a grant may be read before its writer goes on", async (world) => {
  await using server = await serveStreams();
  const said = await saidBy(
    world,
    server.port,
    `
    local Link, sockets = require "resty.packline.links", require "resty.packline.sockets"
    local say_to = Link.say
    function Link.say(link, message, ms)
      say_to(link, message, ms)
      if not message.credit then return end
      Link.say = say_to
      for _ = 1, 2 do link:take(link:read(sockets.now() + 5000)) end -- as another light thread does
    end
    local ticks, sum = client:stream("TICK", { count = 5, interval = 0 }, { credit = 2 }), 0
    for tick in ticks do sum = sum + tick end
    Link.say = say_to
    say(sum .. " " .. tell(ticks.reply, ticks.failure))`,
  );
  assertEquals(said, ["15 5"]);
});

testInLua("a stream is an iterator, and its end is known", async (world) => {
  await using server = await serveStreams();
  const said = await saidBy(
    world,
    server.port,
    `
    local ticks, sum = client:stream("TICK", { count = 100, interval = 0 }, { credit = 7 }), 0
    for tick in ticks do sum = sum + tick end
    say(table.concat({ sum, ticks.reply.res, tostring(ticks.failure), tostring(ticks()) }, " "))

    local pages = client:stream("BREAKS")
    for page in pages do say(page) end
    say(tell(pages.reply, pages.failure))
    local item, failure = pages()
    say(tostring(item) .. " " .. tell(item, failure))

    for _, stream in ipairs {
      client:stream("TICK", { count = "many" }), client:stream("FOO"), client:stream("PING"), client:stream("TICK", { ttl = 1 })
    } do
      for _ in stream do say("an item") end
      say(stream.failure.code)
    end
    say(connections())`.replaceAll(', " ", ', ' .. " " .. '),
  );
  assertEquals(said, [
    "5050 100 nil nil",
    "a",
    "OUT_OF_PAPER: the tray is empty",
    "nil OUT_OF_PAPER: the tray is empty",
    "INVALID_PARAMS",
    "CMD_NOT_FOUND",
    "BAD_REPLY",
    "INVALID_PARAMS",
    "1",
  ]);
});

testInLua(
  "a loop that is left closes its stream: its handler ends, and the connection is used again",
  async (world) => {
    await using server = await serveStreams();
    const said = await saidBy(
      world,
      server.port,
      `
    -- On a busy machine the answer to a cancel may come after the client's patience with it, so its clock stands still.
    local sockets = require "resty.packline.sockets"
    local now = sockets.now()
    sockets.now = function() return now end
    for round = 1, 20 do
      local ticks = client:stream("TICK", { interval = 0 })
      for tick in ticks do
        if tick == round then ticks:close() break end
      end
      ticks:close()
      assert(ticks() == nil)
      say(ticks.failure.code)
    end
    local stats = client:call("STATS").res
    say(stats.connections.accepted .. " " .. stats.inFlight)
    local unread = client:stream("TICK")
    unread:close()
    say(tell(unread()))`,
    );
    assertEquals(said, [...Array(20).fill("CANCELLED"), "1 0", "CANCELLED: it was closed here"]);
  },
);

testInLua("a list, a function and another stream are streams to a command", async (world) => {
  await using server = await serveStreams();
  const said = await saidBy(
    world,
    server.port,
    `
    say(tell(client:call("UPLOAD", {}, { items = { "a", packline.binary "\\0\\255", packline.null, 5, false, {}, packline.map {} } })))
    say(tell(client:call("UPLOAD", {}, { items = {} })))
    say(tell(client:call("UPLOAD", {}, { items = ("b c"):gmatch "%a" })))
    say(tell(client:call("UPLOAD", {}, { items = client:stream("TICK", { count = 3, interval = 0 }) })))
    local n = 0
    local reply = client:call("TALLY", {}, { items = function()
      n = n + 1
      if n <= 10000 then return "x" end
    end })
    say(reply.res.items .. " " .. reply.res.bytes)`,
  );
  assertEquals(said, ["7", "0", "2", "3", "10000 10000"]);
  assertEquals(server.uploads, [
    { items: ["a", Uint8Array.of(0, 255), null, 5, false, [], {}], end: "whole" },
    { items: [], end: "whole" },
    { items: ["b", "c"], end: "whole" },
    { items: [1, 2, 3], end: "whole" },
  ]);
});

testInLua("a stream goes both ways, also where both ends send more than anything between them holds", async (world) => {
  // On a busy machine, room for an item may come after the server's patience with it.
  await using server = await serveStreams({ clock: new FakeClock() });
  const said = await saidBy(
    world,
    server.port,
    `
    local function numbers(count, of)
      local n = 0
      return function()
        n = n + 1
        if n <= count then return of(n) end
      end
    end
    local small, n = client:stream("ECHO", {}, { items = numbers(3000, function(n) return n end) }), 0
    for item in small do
      n = n + 1
      assert(item == n)
    end
    say(n .. " " .. tostring(small.reply.res))

    -- Small items win much credit, and large ones then use it.
    local large = ("x"):rep(1000000)
    local heavy, size = client:stream("ECHO", {}, {
      items = numbers(360, function(n) return n <= 300 and "x" or large end),
      credit = 400,
    }), 0
    for item in heavy do size = size + #item end
    say(size .. " " .. tell(heavy.reply and { res = "whole" }, heavy.failure))

    for item in client:stream("ECHO", {}, { items = { packline.null, false } }) do
      say(item == packline.null and "null" or tostring(item))
    end
    say(connections())`,
    "timeout = 20000",
  );
  assertEquals(said, ["3000 nil", "60000300 whole", "null", "false", "1"]);
});

testInLua(
  "half a stream is never a whole one: the caller gets its own error, and the server a cancel",
  async (world) => {
    await using server = await serveStreams();
    const said = await saidBy(
      world,
      server.port,
      `
    local function source(ending)
      local n = 0
      return function()
        n = n + 1
        if n <= 2 then return n end
        return ending()
      end
    end
    local function upload(items) return pcall(client.call, client, "UPLOAD", {}, { items = items }) end
    local _, reply, failure = upload(source(function() error("the file is damaged", 0) end))
    say(tostring(reply))
    _, reply, failure = upload(source(function() return nil, "timeout" end))
    say(tell(reply, failure))
    _, reply, failure = upload(source(function() return print end))
    say(tell(reply, failure))
    _, reply, failure = upload(source(function() return ("x"):rep(1048577) end))
    say(failure.code)
    say(connections())
    _, reply, failure = upload(client:stream("BREAKS"))
    say(tell(reply, failure))`,
    );
    assertEquals(said, [
      "the file is damaged",
      "CANCELLED: the source of items failed: timeout",
      "INVALID_PARAMS: pack 'function' is unimplemented",
      "INVALID_PARAMS",
      "1",
      "CANCELLED: the source of items failed: OUT_OF_PAPER: the tray is empty",
    ]);
    assertEquals(server.uploads.map(({ end }) => end), Array(5).fill("CANCELLED"));
  },
);

testInLua("items that cannot be a stream are refused before anything is sent", async (world) => {
  const said = await saidBy(
    world,
    1, // nobody is there
    `
    for _, items in pairs { "text", 5, { 1, nil, 3 }, { a = 1 }, packline.binary "bytes" } do
      say(select(2, client:call("TALLY", {}, { items = items })).code)
    end
    say(tell(client:call("TALLY", {}, { items = {}, idempotent = true })))`,
  );
  assertEquals(said, [
    ...Array(5).fill("INVALID_PARAMS"),
    "INVALID_PARAMS: a call with items cannot be idempotent: they are sent once",
  ]);
});

testInLua("a list of items is taken as it is at the call, whatever becomes of it", async (world) => {
  await using server = await serveStreams();
  const said = await saidBy(
    world,
    server.port,
    `
    local list = { "a", "b", "c" }
    local upload = client:start("UPLOAD", {}, { items = list })
    list[2], list[3] = nil, nil
    say(tell(upload:wait()))`,
  );
  assertEquals(said, ["3"]);
  assertEquals(server.uploads, [{ items: ["a", "b", "c"], end: "whole" }]);
});

testInLua("an early reply stops the stream, and the connection is used again", async (world) => {
  await using server = await serveStreams();
  const said = await saidBy(
    world,
    server.port,
    `
    local taken = 0
    say(tell(client:call("FIRST", {}, { items = function()
      taken = taken + 1
      return "item " .. taken
    end })))
    say(taken <= 1000 and "stopped" or taken)

    local upload
    upload = client:start("UPLOAD", {}, { items = function()
      taken = taken + 1
      if taken == 2000 then upload:close() end
      return taken
    end })
    taken = 0
    say(tell(upload:wait()))
    say(taken)
    say(connections())`,
  );
  assertEquals(said, ["item 1", "stopped", "CANCELLED: it was closed here", "2000", "1"]);
  assertEquals(server.uploads[0].end, "CANCELLED");
});

testWith(NGINX_PACKAGES, "in nginx, a source may wait: for an answer, or longer than the call lasts", async () => {
  await using server = await serveStreams();
  const said = await saidBy(
    NGINX,
    server.port,
    `
    local semaphore = require("ngx.semaphore").new()
    local lines = { "hello" }
    semaphore:post()
    local chat = client:stream("ECHO", {}, { items = function()
      semaphore:wait(10)
      return table.remove(lines, 1)
    end })
    for line in chat do
      say(line)
      if #line < 10 then table.insert(lines, line .. "!") end
      semaphore:post()
    end
    say(tostring(chat.failure))

    local first = true
    say(tell(client:call("FIRST", {}, { items = function()
      if not first then ngx.sleep(3600) end
      first = false
      return "at once"
    end })))
    say(connections())`,
  );
  assertEquals(said, ["hello", "hello!", "hello!!", "hello!!!", "hello!!!!", "hello!!!!!", "nil", "at once", "1"]);
});

testWith(NGINX_PACKAGES, "in nginx, another light thread cancels a call or a stream", async () => {
  await using server = await serveStreams();
  const said = await saidBy(
    NGINX,
    server.port,
    `
    local delay = client:start("DELAY", { sleep = 3600 })
    local waiting = ngx.thread.spawn(function() return delay:wait() end)
    delay:close()
    local _, reply, failure = ngx.thread.wait(waiting)
    say(tell(reply, failure))

    delay = client:start("DELAY", { sleep = 3600 })
    waiting = ngx.thread.spawn(function() return delay:wait() end)
    ngx.sleep(0.05) -- the connection is open
    delay:close()
    _, reply, failure = ngx.thread.wait(waiting)
    say(tell(reply, failure))

    local ticks = client:stream("TICK", { interval = 3600 })
    ngx.thread.spawn(function() ngx.sleep(0.05) ticks:close() end)
    for tick in ticks do say(tick) end
    say(ticks.failure.code)
    say(client:call("STATS").res.inFlight)
    say(connections())`,
  );
  const closed = "CANCELLED: it was closed here";
  assertEquals(said.slice(0, 5), [closed, closed, "1", "CANCELLED", "0"]);
  assertEquals(said[5], "1");
});

testInLua("the samples of examples/openresty/README.md print what they say", async (world) => {
  await using server = await serveStreams();
  await using folder = await Folder.make();
  await folder.write("picture.png", "\xff".repeat(100_000));
  const readme = await example("openresty/README.md");
  const samples = [...readme.matchAll(/^```lua\n([^]*?)^```$/gm)].slice(1).map(([, code]) => code);
  assert(samples.length >= 3);
  for (const sample of samples) {
    const code = sample.replace("picture.png", `${folder.path}/picture.png`).replaceAll(":1235", `:${server.port}`);
    // Each sample is a chunk of its own, as it would be in a program.
    const said = await saidBy(world, server.port, `local print, ngx = say, nil do ${code} end`);
    const expected = [...sample.matchAll(/--> (.*)$/gm)].flatMap(([, text]) => text.split(", "));
    assertEquals(said, expected, sample);
  }
});
