/** A service's own word on whether it is ready, by PING; built-in commands replaced or left out, over a connection. */

import { assertEquals, assertRejects } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import { createServer } from "../../server.ts";
import { memoryPair } from "../../transport/memory.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { Held, withMemory } from "../support/test_server.ts";

/** Runs a test with a client of a server. */
async function withClient(options: ServerOptions, run: (client: Client) => Promise<void>): Promise<void> {
  await using server = createServer(options);
  const [here, there] = memoryPair();
  void server.accept(there);
  await using client = await connect({ dial: () => Promise.resolve(here) });
  await run(client);
}

for (
  const [how, inForm] of [["at once", (is: boolean) => is], ["later", (is: boolean) => Promise.resolve(is)]] as const
) {
  Deno.test(`PING fails with NOT_READY while ready() says false, ${how}; other commands are served`, async () => {
    let isReady = false;
    await withClient({ ready: () => inForm(isReady) }, async (client) => {
      const error = await assertRejects(() => client.reply("PING"), RpcError);
      assertEquals([error.code, error.retryable], ["NOT_READY", true]);
      assertEquals((await client.reply("INFO")).res.name, "packline");
      isReady = true;
      assertEquals(await client.reply("PING"), { res: "PONG" });
      isReady = false;
      assertEquals((await assertRejects(() => client.reply("PING"), RpcError)).code, "NOT_READY");
    });
  });
}

Deno.test("a ready() that throws is reported to the server, and PING fails", async () => {
  for (
    const ready of [() => Promise.reject(new Error("no database")), () => {
      throw new Error("no database");
    }]
  ) {
    const errors: unknown[] = [];
    await withClient({ ready, onError: (error) => void errors.push(error) }, async (client) => {
      assertEquals((await assertRejects(() => client.reply("PING"), RpcError)).code, "INTERNAL");
      assertEquals(errors.map((error) => (error as Error).message), ["no database"]);
    });
  }
});

Deno.test("PING fails with NOT_READY while ready() does not return; a call that takes long is not lost by that", async () => {
  const clock = new FakeClock();
  const held = new Held();
  let isAway = false;
  await using served = withMemory({
    commands: { HOLD: held.command },
    ready: () => isAway ? new Promise(() => {}) : Promise.resolve(true),
    clock,
  });
  const { peer } = served;
  const timers = clock.timers;
  assertEquals(await peer.ask({ cmd: 1 }), { res: "PONG" });
  assertEquals(clock.timers, timers);
  isAway = true;
  await peer.send({ cmd: "HOLD", seq: 1, id: "long" }, { cmd: 1, seq: 2 });
  await settle();
  await clock.advance(1_000);
  const { err, seq } = await peer.readReply();
  assertEquals([err, seq], ["NOT_READY", 2]);
  assertEquals(((await peer.ask({ cmd: 4 })).res as ServerStatistics).inFlight, 1);
  held.finishAll();
  assertEquals(await peer.readReply(), { seq: 1, res: "long" });
});

Deno.test("PINGs that come while ready() has not returned wait for the same answer", async () => {
  let asked = 0;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  await using served = withMemory({ ready: () => (asked++, promise), clock: new FakeClock() });
  const { peer } = served;
  await peer.send(...Array.from({ length: 1_000 }, (_, seq) => ({ cmd: 1, seq })));
  await settle();
  assertEquals(asked, 1);
  resolve(true);
  assertEquals((await peer.readReplies(1_000)).every(({ res }) => res === "PONG"), true);
  assertEquals(await peer.ask({ cmd: 1 }), { res: "PONG" });
  assertEquals(asked, 2);
});

Deno.test("PING ends after 1.5 s while a middleware holds it, or when its caller has no more time; INFO still waits", async () => {
  const clock = new FakeClock();
  for (const ready of [undefined, () => true]) {
    const held = Promise.withResolvers<void>();
    await using served = withMemory({ middleware: [(_call, next) => held.promise.then(() => next())], ready, clock });
    const { peer } = served;
    await peer.send({ cmd: 1, seq: 1 }, { cmd: 1, seq: 2, ttl: 900 }, { cmd: 3, seq: 3 });
    await settle();
    await clock.advance(905);
    assertEquals(await peer.readReady(), [{ seq: 2, err: "DEADLINE_EXCEEDED" }]);
    await clock.advance(600);
    assertEquals(await peer.readReady(), [{ seq: 1, err: "DEADLINE_EXCEEDED" }]);
    held.resolve();
    assertEquals((await peer.readReply()).seq, 3);
    assertEquals(await peer.ask({ cmd: 1, seq: 4 }), { seq: 4, res: "PONG" });
  }
});

Deno.test("behind a middleware too, a ready() that does not return makes PING fail with NOT_READY", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ middleware: [(_call, next) => next()], ready: () => new Promise(() => {}), clock });
  const { peer } = served;
  await peer.send({ cmd: 1, seq: 1 });
  await settle();
  await clock.advance(1_000);
  assertEquals((await peer.readReply()).err, "NOT_READY");
});

Deno.test("a built-in command that is left out is not found, and one that is replaced is the service's own", async () => {
  const STATS = command({ handler: () => "nothing to tell" });
  await withClient({ builtIns: ["INFO", "STATS"], commands: { STATS } }, async (client) => {
    assertEquals((await assertRejects(() => client.reply("PING"), RpcError)).code, "CMD_NOT_FOUND");
    assertEquals<unknown>(await client.reply("STATS"), { res: "nothing to tell" });
    const { res } = await client.reply("INFO");
    assertEquals(res.commands.map(({ name, number }) => [name, number]), [["INFO", 3], ["STATS", 4]]);
  });
});
