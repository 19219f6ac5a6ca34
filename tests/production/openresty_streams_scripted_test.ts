/** Streams of the OpenResty client against a server that does as the test says, in nginx and under plain LuaJIT. */

import { assert, assertEquals } from "@std/assert";
import { next, testInLua, withScript } from "./lua.ts";

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

testInLua("only a number above 0 grants items, or tells how long to wait", async (world) => {
  const odd = ["5", true, null, [1], 0, -3, 0.5, Infinity, -Infinity, NaN];
  const said = await withScript(
    world,
    `
    say(tell(client:call("TAKE", {}, { items = { 1, 2, 3, 4, 5 } })))
    for _ = 1, ${odd.length} do say(tostring(select(2, client:call("WAIT")).after)) end`,
    async (accept) => {
      const server = await accept();
      const { seq } = await next(server);
      for (const item of [1, 2]) {
        assertEquals(await next(server), { cmd: 0, seq, item });
        await server.reply(...odd.map((credit) => ({ seq, credit })), { seq, credit: 1 });
      }
      assertEquals(await next(server), { cmd: 0, seq, item: 3 });
      await server.reply({ seq, res: "taken" });
      for (const $after of odd) {
        const { cmd, seq } = await next(server);
        assertEquals(cmd, "WAIT");
        await server.reply({ seq, err: "BUSY", $after });
      }
    },
  );
  assertEquals(said, ["taken", ...odd.map(($after) => $after === 0.5 ? "0.5" : "nil")]);
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
