/**
 * Streams of the OpenResty client, `examples/openresty/lib/resty/packline.lua`, both ways, in nginx and under plain LuaJIT: against
 * real servers, and against one that does as the test says.
 */

import { assert, assertEquals } from "@std/assert";
import { command, type ListeningServer, RpcError, tracked, unchecked } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";
import { next, NGINX, NGINX_PACKAGES, saidBy, startExample, testInLua, withScript } from "./lua.ts";
import { example, Folder, testWith } from "./programs.ts";

/** What became of an upload. */
interface Upload {
  items: unknown[];
  /** The code with which the stream broke off, or that it is whole. */
  end: string;
}

/** A server with commands that take and give streams, and what became of uploads. */
async function serveStreams(): Promise<ListeningServer & { uploads: Upload[] }> {
  const uploads: Upload[] = [];
  const commands = {
    UPLOAD: command({
      items: unchecked<unknown>(),
      async handler(_: object, { items, signal }) {
        const upload: Upload = { items: [], end: "open" };
        uploads.push(upload);
        signal.addEventListener("abort", () => upload.end = (signal.reason as RpcError).code);
        for await (const item of items) upload.items.push(item);
        upload.end = "whole";
        return upload.items.length;
      },
    }),
    FIRST: command({
      items: unchecked<unknown>(),
      async handler(_: object, { items }) {
        for await (const item of items) return item as string;
        return null;
      },
    }),
    PAGES: command(async function* ({ after = 0 }: { after?: number }) {
      for (const [index, page] of ["one", "two", "three"].entries()) {
        if (index >= after) yield tracked(index + 1, page);
        if (index === 1 && after === 0) await Promise.reject(new Error("it broke"));
      }
    }),
    BREAKS: command(async function* () {
      yield "a";
      await Promise.resolve();
      throw new RpcError("OUT_OF_PAPER", "the tray is empty");
    }),
  };
  return Object.assign(await serve({ port: 0, commands, onError: () => {} }), { uploads });
}

// Real servers -------------------------------------------------------------------------------------------------------

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
  await using server = await serveStreams();
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

// The example beside it ------------------------------------------------------------------------------------------------

testWith(NGINX_PACKAGES, "examples/openresty/nginx.conf streams both ways, and passes on who leaves", async () => {
  await using server = await serveStreams();
  await using owned = new AsyncDisposableStack();
  const address = await startExample(owned, server.port);
  const get = async (path: string, init?: RequestInit) => {
    const response = await fetch(`http://${address}/${path}`, init);
    return [response.status, await response.text()];
  };
  const idle = async () => {
    for (let tries = 0; server.statistics().inFlight > 0; tries++) {
      assert(tries < 1000, "a handler still runs");
      await get("call/PING");
    }
  };

  const readme = await example("openresty/README.md");
  const [, ticks, lines] = readme.match(/^\$ curl "http:\/\/127.0.0.1:8080\/(stream\/.*)"\n((?:\d\n)+)/m) ?? [];
  assertEquals(await get(ticks), [200, lines]);
  assertEquals((await get("stream/TICK?count=x"))[0], 400);
  const [item, failure] = String((await get("stream/BREAKS"))[1]).trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals([item, failure], ["a", { err: "OUT_OF_PAPER", msg: "the tray is empty" }]);
  const reader = (await fetch(`http://${address}/stream/TICK?interval=3600`)).body!.getReader();
  assertEquals(new TextDecoder().decode((await reader.read()).value), "1\n");
  await reader.cancel();
  await idle();

  const [, path, tally] = readme.match(/^\$ curl -X POST -T .*8080\/(upload\/.*)"\n(.*)$/m) ?? [];
  const [status, text] = await get(path, { method: "POST", body: new Uint8Array(50_000_000).fill(255) });
  assertEquals([status, JSON.parse(text as string)], [200, JSON.parse(tally)]);
  assertEquals((await get("upload/FOO", { method: "POST", body: "x" }))[0], 404);
  assertEquals(await get("upload/UPLOAD", { method: "POST" }), [200, '{"res":0}\n']);
  const [hostname, port] = address.split(":");
  const half = await Deno.connect({ hostname, port: Number(port) });
  await half.write(
    new TextEncoder().encode("POST /upload/UPLOAD HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"),
  );
  while (server.uploads.length < 2) await get("call/PING");
  half.close();
  await idle();
  assertEquals(server.uploads[1].end, "CANCELLED");

  const [chunked, refusal] = await get("upload/UPLOAD", {
    method: "POST",
    body: ReadableStream.from([Uint8Array.of(1)]),
  });
  assertEquals([chunked, JSON.parse(refusal as string).err], [411, "LENGTH_REQUIRED"]);
  assertEquals(server.uploads.length, 2);
});

testWith(NGINX_PACKAGES, "examples/openresty/nginx.conf cancels the call of an HTTP client that leaves", async () => {
  const ends: string[] = [];
  const started: (() => void)[] = [];
  const hold = (signal: AbortSignal) =>
    new Promise<never>((_resolve, reject) => {
      started.shift()?.();
      signal.addEventListener("abort", () => {
        ends.push(signal.reason.code);
        reject(signal.reason);
      });
    });
  const commands = {
    HOLD: command((_: object, { signal }) => hold(signal)),
    TAKE: command({
      items: unchecked<unknown>(),
      async handler(_: object, { items, signal }): Promise<void> {
        for await (const _item of items);
        await hold(signal);
      },
    }),
  };
  await using server = await serve({ port: 0, commands, onError: () => {} });
  await using owned = new AsyncDisposableStack();
  const address = await startExample(owned, server.port, { timeoutMs: 60_000 });
  for (const path of ["call/HOLD", "upload/TAKE"]) {
    const { promise, resolve } = Promise.withResolvers<void>();
    started.push(resolve);
    const leaving = new AbortController();
    const response = fetch(`http://${address}/${path}`, { method: "POST", body: "{}", signal: leaving.signal });
    await promise;
    leaving.abort();
    await response.catch(() => {});
    for (let tries = 0; server.statistics().inFlight > 0; tries++) {
      assert(tries < 1000, `the handler of ${path} still runs`);
      await (await fetch(`http://${address}/call/PING`)).text();
    }
  }
  assertEquals(ends, ["CANCELLED", "CANCELLED"]);
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

// A server that does as the test says ---------------------------------------------------------------------------------

testInLua("credit is granted as items are taken, and a nil result is not a notice", async (world) => {
  const said = await withScript(
    world,
    `
    local stream = client:stream("WORDS", {}, { credit = 4 })
    for word in stream do say(word) end
    say(tostring(stream.reply.res) .. " " .. stream.reply.credit)`,
    async (accept) => {
      const server = await accept();
      const { seq, ...request } = await next(server);
      assertEquals(request, { cmd: "WORDS", credit: 4 });
      await server.reply({ seq, res: "a", more: true });
      await server.reply({ seq, res: "b", more: true }, { seq, news: 1 }, { news: 2 });
      assertEquals(await next(server), { cmd: 0, seq, credit: 2 });
      await server.reply({ seq, res: "c", more: true }, { seq, res: null, credit: 7 });
    },
  );
  assertEquals(said, ["a", "b", "c", "nil 7"]);
});

testInLua("one item is sent before any credit, then as many as are granted, then the end", async (world) => {
  const said = await withScript(
    world,
    `say(tell(client:call("TAKE", { name = "x" }, { items = { 1, 2, 3, 4, 5 } })))`,
    async (accept) => {
      const server = await accept();
      const { seq, ...request } = await next(server);
      assertEquals(request, { cmd: "TAKE", name: "x", $items: true });
      assertEquals(await next(server), { cmd: 0, seq, item: 1 });
      await server.reply({ seq, credit: 2 });
      assertEquals([await next(server), await next(server)], [2, 3].map((item) => ({ cmd: 0, seq, item })));
      assertEquals(server.waiting, 0);
      await server.reply({ seq, credit: 100 });
      assertEquals([await next(server), await next(server)], [4, 5].map((item) => ({ cmd: 0, seq, item })));
      assertEquals(await next(server), { cmd: 0, seq, end: true });
      await server.reply({ seq, res: "taken" });
    },
  );
  assertEquals(said, ["taken"]);
});

testInLua(
  "a call that was refused unstarted is sent again with its only item, but not after a grant",
  async (world) => {
    const code = `say(tell(client:call("TAKE", {}, { items = ("a b"):gmatch "%a" })))`;
    const refused = await withScript(world, code, async (accept) => {
      const first = await accept();
      const { seq } = await next(first);
      assertEquals(await next(first), { cmd: 0, seq, item: "a" });
      await first.reply({ seq, err: "SHUTTING_DOWN" });
      const second = await accept();
      const { seq: again } = await next(second);
      assertEquals(await next(second), { cmd: 0, seq: again, item: "a" });
      await second.reply({ seq: again, credit: 2 });
      assertEquals([(await next(second)).item, (await next(second)).end], ["b", true]);
      await second.reply({ seq: again, res: "taken" });
    });
    assertEquals(refused, ["taken"]);
    const granted = await withScript(world, code, async (accept) => {
      const server = await accept();
      const { seq } = await next(server);
      await server.reply({ seq, credit: 1 });
      assertEquals([(await next(server)).item, (await next(server)).item], ["a", "b"]);
      await server.reply({ seq, err: "SHUTTING_DOWN", msg: "too late" });
      assertEquals(await server.message(), undefined);
    });
    assertEquals(granted, ["SHUTTING_DOWN: too late"]);
  },
);

testInLua("a connection with something outstanding is closed, not kept", async (world) => {
  const said = await withScript(
    world,
    `
    local stream = client:stream("WORDS")
    for _ in stream do stream:close() end
    say(tell(client:call("PING")))`,
    async (accept) => {
      const first = await accept();
      const { seq } = await next(first);
      await first.reply({ seq, res: "a", more: true });
      assertEquals(await next(first), { cmd: 0, seq, cancel: true }); // no answer
      assertEquals(await first.message(), undefined);
      const second = await accept();
      await second.reply({ seq: (await next(second)).seq, res: "PONG" });
    },
  );
  assertEquals(said, ["PONG"]);
});

testInLua(
  "a stream has no time-out of its own: a silent server is asked by PING, and lost if that is silent",
  async (world) => {
    const said = await withScript(
      world,
      `
    local stream = client:stream("WORDS")
    for word in stream do say(word) end
    say(tell(stream.reply, stream.failure))
    say(tell(client:call("TAKE", {}, { items = {}, timeout = 300 })))`,
      async (accept) => {
        const first = await accept();
        const { seq } = await next(first);
        const ping = await next(first);
        assertEquals(ping.cmd, 1);
        await first.reply({ seq: ping.seq, res: "PONG" }, { seq, res: "late", more: true });
        assertEquals((await next(first)).cmd, 1);
        assertEquals(await first.message(), undefined);
        const second = await accept();
        const request = await next(second);
        assert(Number(request.ttl) <= 300);
        assertEquals(await next(second), { cmd: 0, seq: request.seq, end: true });
      },
      "timeout = 200",
    );
    assertEquals(said, [
      "late",
      "CONNECTION_LOST: the server has not answered a PING for 200 ms",
      "TIMEOUT: cannot receive the reply: timeout",
    ]);
  },
);

testInLua("bytes that never complete a reply are no sign of life", async (world) => {
  const said = await withScript(
    world,
    `
    local stream = client:stream("WORDS")
    for word in stream do say(word) end
    say(tell(stream.reply, stream.failure))`,
    async (accept) => {
      const server = await accept();
      await next(server);
      await server.send(Uint8Array.of(31, 31, 0, 16, 0, 0)); // a payload of 1 MiB
      const drip = setInterval(() => void server.send(Uint8Array.of(0xc0)).catch(() => {}), 20);
      while (await server.message() !== undefined);
      clearInterval(drip);
    },
    "timeout = 200",
  );
  assertEquals(said, ["CONNECTION_LOST: the server has not answered a PING for 200 ms"]);
});
