/** What the calls on a connection of the OpenResty client do when it ends, or a reply does not come. */

import { assertEquals } from "@std/assert";
import { encode } from "../support/msgpack.ts";
import { frame } from "../support/wire.ts";
import { next, NGINX, NGINX_PACKAGES, saidBy, testInLua, withScript } from "./lua.ts";
import { serveHolds } from "./lua_servers.ts";
import { testWith } from "./programs.ts";

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
