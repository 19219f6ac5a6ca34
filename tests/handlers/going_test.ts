/**
 * Connections that should end, at a shutdown or because of their age: what a client is told that asked to be, and one that
 * did not, and how handlers hear of it (PROTOCOL.md, "Connections that know").
 */

import { EventEmitter, on, once } from "node:events";
import { setTimeout } from "node:timers/promises";
import { assertEquals } from "@std/assert";
import { connect } from "../../client.ts";
import { command } from "../../handlers/command.ts";
import type { ServeOptions } from "../../server.ts";
import { createServer } from "../support/demo_server.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { overEach, TCP, type Transport } from "../support/transports.ts";
import { memoryPeer, settle, settleShutdown } from "../support/peers.ts";
import { Held, type TestServer, withServer } from "../support/test_server.ts";

const NOTICE = { cmd: 0, notice: true };
const PONG = { res: "PONG" };

/** The server looks twice a second. */
const LATE_MS = 1_000;

interface Served extends AsyncDisposable {
  readonly clock: FakeClock;
  readonly held: Held;
  readonly server: TestServer;
}

async function served(options: ServeOptions = {}, transport: Transport = TCP): Promise<Served> {
  const clock = new FakeClock();
  const held = new Held();
  const server = await withServer(
    { clock, ...options, commands: { HOLD: held.command, ...options.commands } },
    transport,
  );
  return { clock, held, server, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

// A shutdown ---------------------------------------------------------------------------------------------------------

overEach(
  "going - a client that asked for it is told once, and served until it has gone; the shutdown waits for that alone",
  async (transport) => {
    await using all = await served({}, transport);
    const { clock, held, server } = all;
    const peer = await server.connect();
    await peer.send(NOTICE, { cmd: "HOLD", seq: 1 });
    while (held.running < 1) await settle();
    const shutdown = server.server.shutdown({ graceMs: 10_000 });
    await settleShutdown();
    assertEquals(await peer.readReply(), { going: 10_000 });
    await clock.advance(9_000);
    assertEquals(await peer.ask({ cmd: 1 }), PONG);
    await peer.send({ cmd: "HOLD", seq: 2, id: 2 });
    while (held.running < 2) await settle();
    held.finishAll();
    assertEquals((await peer.readReplies(2)).map(({ seq }) => seq), [1, 2]);
    await peer.halfClose();
    assertEquals(await peer.readToEnd(), []);
    assertEquals(await shutdown, { finished: 3, cut: 0 });
  },
);

overEach("going - at the end of the grace, a client that has not gone is cut, and told", async (transport) => {
  await using all = await served({}, transport);
  const { clock, held, server } = all;
  const peer = await server.connect();
  await peer.send(NOTICE, { cmd: "HOLD", seq: 1 });
  while (held.running < 1) await settle();
  const shutdown = server.server.shutdown({ graceMs: 5_000 });
  await settleShutdown();
  assertEquals(await peer.readReply(), { going: 5_000 });
  await clock.advance(5_000);
  assertEquals(await peer.readToEnd(), [{ seq: 1, err: "CANCELLED", msg: "the server has shut down" }]);
  held.finishAll();
  peer.close();
  assertEquals(await shutdown, { finished: 0, cut: 1 });
});

Deno.test("going - a client that did not ask, or does not ask any more, is refused new calls, and is told nothing", async () => {
  for (const settings of [{ cmd: 0, max: 60_000 }, { cmd: 0, notice: false }]) {
    await using all = await served();
    const { clock, held, server } = all;
    const peer = await server.connect();
    await peer.send(NOTICE, settings.notice === undefined ? { cmd: 0, notice: false } : settings, {
      cmd: "HOLD",
      seq: 1,
    });
    while (held.running < 1) await settle();
    const shutdown = server.server.shutdown({ graceMs: 60_000 });
    await settleShutdown();
    await settleShutdown();
    assertEquals(await peer.ask({ cmd: 1, seq: 2 }), { seq: 2, err: "SHUTTING_DOWN" });
    held.finishAll();
    assertEquals(await peer.readReply(), { seq: 1, res: null });
    await clock.advance(1_000);
    assertEquals(await peer.readToEnd(), []);
    peer.close();
    assertEquals(await shutdown, { finished: 1, cut: 0 });
  }
});

Deno.test("going - a client whose settings come after the begin of a shutdown is told then, and served from there on", async () => {
  await using all = await served();
  const { clock, server } = all;
  const peer = await server.connect();
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  const shutdown = server.server.shutdown({ graceMs: 10_000 });
  await settleShutdown();
  assertEquals(await peer.ask({ cmd: 1 }), { err: "SHUTTING_DOWN" });
  await clock.advance(500);
  await peer.send(NOTICE, NOTICE, { cmd: 1 });
  assertEquals(await peer.readReplies(2), [{ going: 9_500 }, PONG]);
  await clock.advance(5_000);
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  await peer.halfClose();
  assertEquals(await peer.readToEnd(), []);
  await shutdown;
});

for (const reads of [true, false]) {
  const what = reads ? "takes its replies late gets them all" : "never takes its replies does not stop a shutdown";
  Deno.test(`going - a client that has asked for it, has ended its half and ${what}`, async () => {
    const clock = new FakeClock();
    const server = createServer({ clock });
    const [peer, there] = memoryPeer();
    void server.accept(there);
    for (const fields of [NOTICE, { cmd: 1 }, { cmd: 1 }]) {
      await peer.send(fields);
      await settle(); // so that each reply is a chunk of its own
    }
    await peer.halfClose();
    await settle();
    const shutdown = server.shutdown({ graceMs: 1_000 });
    await settleShutdown();
    if (reads) assertEquals(await peer.readToEnd(), [PONG, PONG]);
    else await clock.advance(1_500);
    assertEquals(await shutdown, { finished: 0, cut: 0 });
    peer.close();
  });
}

// The silence before the end -----------------------------------------------------------------------------------------

Deno.test("going - a client whose requests the server does not read, because it has not taken replies, is not silent", async () => {
  const clock = new FakeClock();
  const server = createServer({ clock, maxQueuedBytes: 2_000, commands: { BULK: command(() => "x".repeat(1_000)) } });
  const [peer, there] = memoryPeer();
  void server.accept(there);
  await peer.send(...[1, 2, 3, 4].map((seq) => ({ cmd: "BULK", seq })));
  await settle();
  const shutdown = server.shutdown({ graceMs: 60_000 });
  await settleShutdown();
  await clock.advance(5_000);
  const replies = await peer.readReady();
  assertEquals(replies.map(({ seq, err }) => [seq, err]), [
    [1, undefined],
    [2, undefined],
    [3, "SHUTTING_DOWN"],
    [4, "SHUTTING_DOWN"],
  ]);
  await clock.advance(1_000);
  assertEquals(await peer.readToEnd(), []);
  peer.close();
  await shutdown;
});

overEach(
  "going - a request that came while the server computed for longer than the silence is refused",
  async (transport) => {
    await using all = await served({}, transport);
    const { clock, server } = all;
    const peer = await server.connect();
    assertEquals(await peer.ask({ cmd: 1 }), PONG);
    const shutdown = server.server.shutdown({ graceMs: 60_000 });
    await settleShutdown();
    await peer.send({ cmd: 1, seq: 1 });
    clock.leap(1_500);
    assertEquals(await peer.readReply(), { seq: 1, err: "SHUTTING_DOWN" });
    await clock.advance(1_000);
    assertEquals(await peer.readToEnd(), []);
    peer.close();
    await shutdown;
  },
);

// What handlers hear -------------------------------------------------------------------------------------------------

Deno.test("draining - a stream that waits for it ends by GOING_AWAY, as finished; one that does not is served to the end", async () => {
  const LISTENS = command({
    async *handler({ by }: { by: string }, { draining }): AsyncGenerator<number, void, void> {
      yield 1;
      if (by === "timer") await setTimeout(2 ** 30, undefined, { signal: draining });
      await new Promise<void>((resolve) => draining.addEventListener("abort", () => resolve(), { once: true }));
      draining.throwIfAborted();
    },
  });
  const DEAF = command({
    async *handler(_: object, { signal }): AsyncGenerator<number, void, void> {
      yield 1;
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
  });
  await using all = await served({ commands: { LISTENS, DEAF } });
  const { clock, server } = all;
  const peer = await server.connect();
  await peer.send(NOTICE);
  await peer.ask({ cmd: "LISTENS", by: "listener", seq: 1 });
  await peer.ask({ cmd: "LISTENS", by: "timer", seq: 2 });
  await peer.ask({ cmd: "DEAF", seq: 3 });
  const shutdown = server.server.shutdown({ graceMs: 5_000 });
  await settleShutdown();
  const [going, ...ended] = await peer.readReplies(3);
  assertEquals(going, { going: 5_000 });
  const msg = "the server ends this connection: read on over another";
  assertEquals(ended.toSorted((a, b) => Number(a.seq) - Number(b.seq)), [
    { seq: 1, err: "GOING_AWAY", msg },
    { seq: 2, err: "GOING_AWAY", msg },
  ]);
  await peer.ask({ cmd: "LISTENS", by: "timer", seq: 4 });
  assertEquals(await peer.readReply(), { seq: 4, err: "GOING_AWAY", msg });
  await clock.advance(5_000);
  assertEquals((await peer.readToEnd()).map(({ seq, err }) => [seq, err]), [[3, "CANCELLED"]]);
  peer.close();
  assertEquals(await shutdown, { finished: 3, cut: 1 });
});

Deno.test("draining - events of Node end a stream by GOING_AWAY; an abort for another reason is an error", async () => {
  const emitter = new EventEmitter();
  const fails = Promise.withResolvers<never>();
  const LISTENS = command({
    async *handler({ by }: { by: string }, context): AsyncGenerator<number, void, void> {
      yield 1;
      if (by === "once") await once(emitter, "change", { signal: context.draining });
      else if (by === "on") { for await (const _ of on(emitter, "change", { signal: context.draining })); }
      else if (by === "own") await setTimeout(2 ** 30, undefined, { signal: abortedBy(context.draining, "a reason") });
      else await fails.promise;
    },
  });
  await using all = await served({ commands: { LISTENS } });
  const { clock, server } = all;
  const peer = await server.connect();
  await peer.send(NOTICE);
  for (const [place, by] of ["once", "on", "own", "deaf"].entries()) await peer.ask({ cmd: "LISTENS", by, seq: place });
  const shutdown = server.server.shutdown({ graceMs: 5_000 });
  await settleShutdown();
  const [, ...ended] = await peer.readReplies(4);
  fails.reject(new DOMException("it was aborted elsewhere", "AbortError"));
  const codes = [...ended, await peer.readReply()].map(({ seq, err }) => [seq, err]);
  assertEquals(codes.toSorted(), [[0, "GOING_AWAY"], [1, "GOING_AWAY"], [2, "INTERNAL"], [3, "INTERNAL"]]);
  assertEquals(server.errors.take().length, 2);
  peer.close();
  await clock.advance(5_000);
  await shutdown;
});

/** A signal that aborts with another one, for a reason of its own. */
function abortedBy(signal: AbortSignal, reason: string): AbortSignal {
  const controller = new AbortController();
  signal.addEventListener("abort", () => controller.abort(reason), { once: true });
  return controller.signal;
}

Deno.test("draining - a handler whose own server goes away does not say so of its own", async () => {
  await using other = await served();
  const far = await other.server.connect();
  await far.ask({ cmd: "TICK", interval: 3_600, seq: 1 });
  await using client = await connect(other.server.address);
  const RELAY = command({
    async *handler(_: object): AsyncGenerator<number, unknown, void> {
      return yield* client.stream("TICK", { interval: 3_600 }) as AsyncGenerator<number>;
    },
  });
  await using all = await served({ commands: { RELAY } });
  const peer = await all.server.connect();
  await peer.ask({ cmd: "RELAY", seq: 1 });
  const shutdown = other.server.server.shutdown({ graceMs: 0 });
  await settleShutdown();
  assertEquals(await peer.readReply(), { seq: 1, err: "INTERNAL" });
  assertEquals(all.server.errors.take().length, 1);
  await client.close();
  far.close();
  await other.clock.advance(5_000);
  await shutdown;
});

// The largest age ----------------------------------------------------------------------------------------------------

Deno.test("age - a connection that is too old is told, served for ten seconds, and cut; a younger one is not touched", async () => {
  await using all = await served({ maxConnectionAgeMs: 100_000, random: () => 0.5 });
  const { clock, held, server } = all;
  const [old, refused] = [await server.connect(), await server.connect()];
  await old.send(NOTICE, { cmd: "HOLD", seq: 1 }, { cmd: "TICK", interval: 3_600, seq: 2 });
  assertEquals(await old.readReply(), { seq: 2, res: 1, more: true });
  assertEquals(await refused.ask({ cmd: 1 }), PONG);
  await clock.advance(50_000);
  const young = await server.connect();
  await young.send(NOTICE);
  assertEquals(await young.ask({ cmd: 1 }), PONG);
  await clock.advance(49_000);
  assertEquals([await old.readReady(), await refused.hasEnded()], [[], false]);
  await clock.advance(LATE_MS + 500);
  assertEquals((await old.readReplies(2)).map(({ going, err }) => going ?? err), [10_000, "GOING_AWAY"]);
  assertEquals(await refused.ask({ cmd: 1 }), { err: "SHUTTING_DOWN" });
  await clock.advance(1_500);
  assertEquals(await refused.readToEnd(), []);
  assertEquals(await old.ask({ cmd: 1 }), PONG);
  await clock.advance(10_000);
  const [cut] = await old.readToEnd();
  assertEquals([cut.seq, cut.err], [1, "CANCELLED"]);
  assertEquals(await young.ask({ cmd: 1 }), PONG);
  held.finishAll();
});

Deno.test("age - it differs by up to 10 % by chance", async () => {
  for (const [chance, atMs] of [[0, 90_000], [0.25, 95_000], [1, 110_000]]) {
    await using all = await served({ maxConnectionAgeMs: 100_000, random: () => chance });
    const { clock, server } = all;
    const peer = await server.connect();
    await peer.send(NOTICE);
    await peer.ask({ cmd: 1 });
    await clock.advance(atMs - LATE_MS);
    assertEquals(await peer.readReady(), [], `${chance}`);
    await clock.advance(LATE_MS + 500);
    assertEquals(await peer.readReply(), { going: 10_000 });
  }
});

Deno.test("age - a shutdown tells no client twice", async () => {
  await using all = await served({ maxConnectionAgeMs: 1_000, random: () => 0.5 });
  const { clock, server } = all;
  const peer = await server.connect();
  await peer.send(NOTICE);
  await peer.ask({ cmd: 1 });
  await clock.advance(1_500);
  assertEquals(await peer.readReply(), { going: 10_000 });
  const shutdown = server.server.shutdown({ graceMs: 60_000 });
  await settleShutdown();
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  await peer.halfClose();
  assertEquals(await peer.readToEnd(), []);
  assertEquals((await shutdown).cut, 0);
});

Deno.test("age - a connection that reaches it during a shutdown keeps the grace that its client was told", async () => {
  await using all = await served({ maxConnectionAgeMs: 5_000, random: () => 0.5 });
  const { clock, held, server } = all;
  const peer = await server.connect();
  await peer.send(NOTICE, { cmd: "HOLD", seq: 1 });
  while (held.running < 1) await settle();
  const shutdown = server.server.shutdown({ graceMs: 60_000 });
  await settleShutdown();
  assertEquals(await peer.readReply(), { going: 60_000 });
  await clock.advance(59_000);
  held.finishAll();
  assertEquals(await peer.readReply(), { seq: 1, res: null });
  peer.close();
  assertEquals(await shutdown, { finished: 1, cut: 0 });
});
