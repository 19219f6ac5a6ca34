/**
 * Calls that end before their handlers do (PROTOCOL.md, "Deadlines", "Cancel"): deadlines, cancels, lost connections. On a clock
 * that stands still.
 */

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import type { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import { sleep } from "../../transport/clock.ts";
import { SLOT_MS } from "../../session/deadlines.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { Held, withMemory, withServer } from "../support/test_server.ts";
import { type Message, unhex } from "../support/wire.ts";
import { overEach } from "../support/transports.ts";

const PONG = { res: "PONG" };
const LATE = { err: "DEADLINE_EXCEEDED" };

/** What STATS tells, asked on the same connection. */
// deno-lint-ignore no-explicit-any -- a test knows what is in there
async function stats({ peer }: { peer: { ask(fields: Message): Promise<Message> } }): Promise<any> {
  return (await peer.ask({ cmd: "STATS", seq: 2 ** 40 })).res;
}

// Deadlines ----------------------------------------------------------------------------------------------------------

Deno.test("dispatch answers DEADLINE_EXCEEDED when the ttl runs out, aborts the handler, and drops what it returns", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1, ttl: 1_000 });
  await clock.advance(999);
  assertEquals(await served.peer.readReady(), []);
  const [call] = held.calls;
  assertEquals(call.context.signal.aborted, false);
  await clock.advance(SLOT_MS + 1);
  assertEquals(await served.peer.readReady(), [{ seq: 1, ...LATE }]);
  assert(call.context.signal.aborted);
  assertEquals((call.context.signal.reason as RpcError).code, "DEADLINE_EXCEEDED");
  assertEquals((await stats(served)).inFlight, 1, "its place is free when the handler ends");
  call.finish();
  assertEquals(await served.peer.readReady(), []);
  const { inFlight, lateReplies, commands } = await stats(served);
  assertEquals([inFlight, lateReplies], [0, 1]);
  assertEquals([commands.HOLD.calls, commands.HOLD.errors], [1, { DEADLINE_EXCEEDED: 1 }]);
});

Deno.test("dispatch answers in time where the handler is, and the ttl never comes", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1, ttl: 1_000 });
  await clock.advance(990);
  held.calls[0].finish();
  assertEquals(await served.peer.readReady(), [{ seq: 1, res: null }]);
  await clock.advance(5_000);
  assertEquals(await served.peer.readReady(), []);
  assertEquals(held.calls[0].context.signal.aborted, false);
});

Deno.test("dispatch does not wait for a handler that goes on behind its deadline, not even to close", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1, ttl: 100 });
  await served.peer.halfClose();
  await clock.advance(200);
  assertEquals(await served.peer.readToEnd(), [{ seq: 1, ...LATE }]);
  await served.served;
  held.finishAll();
});

Deno.test("dispatch lets the lane go on where a request without seq has run out of time", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", ttl: 100 }, { cmd: 1 });
  await clock.advance(200);
  assertEquals(await served.peer.readReady(), [LATE, PONG]);
  held.finishAll();
  assertEquals(await served.peer.readReady(), []);
});

Deno.test("dispatch does not start a request that has waited in the lane for longer than its ttl", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command } });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", id: "slow" }, { cmd: "HOLD", id: "late", ttl: 500 }, {
    cmd: "HOLD",
    id: "in time",
    ttl: 5_000,
  });
  await clock.advance(400);
  // What comes meanwhile does not make those that wait any younger.
  assertEquals(await peer.ask({ cmd: 1, seq: 1 }), { seq: 1, ...PONG });
  await clock.advance(200);
  held.calls[0].finish();
  assertEquals(await peer.readReady(), [{ res: "slow" }, LATE]);
  assertEquals(held.calls.map(({ params }) => params.id), ["slow", "in time"]);
  assertEquals(held.calls[1].context.remaining(), 4_400);
  const { commands } = await stats(served);
  assertEquals(commands.HOLD.maxMs, 600, "the time in the lane counts");
  held.finishAll();
  assertEquals(await peer.readReady(), [{ res: "in time" }]);
});

Deno.test("dispatch tells the handler how much time is left", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1, ttl: 1_000 }, { cmd: "HOLD", seq: 2 });
  await settle();
  const [limited, free] = held.calls.map(({ context }) => context.remaining);
  assertEquals([limited(), free()], [1_000, Infinity]);
  await clock.advance(300);
  assertEquals([limited(), free()], [700, Infinity]);
  await clock.advance(1_000);
  assertEquals([limited(), free()], [0, Infinity]);
  held.finishAll();
  await settle();
});

Deno.test("dispatch limits a handler's time by the server's limit, the command's own, and the ttl: the least holds", async () => {
  const clock = new FakeClock();
  const [plain, own, free] = [new Held(), new Held(), new Held()];
  const commands = {
    PLAIN: plain.command,
    OWN: { ...own.command, timeoutMs: 3_000 },
    FREE: { ...free.command, timeoutMs: Infinity },
  };
  await using served = withMemory({ clock, commands, handlerTimeoutMs: 1_000 });
  const { peer } = served;
  await peer.send(...["PLAIN", "OWN", "FREE"].map((cmd, seq) => ({ cmd, seq })));
  await peer.send(...["PLAIN", "OWN", "FREE"].map((cmd, seq) => ({ cmd, seq: 10 + seq, ttl: 2_000 })));
  const startMs = clock.now();
  const advanceTo = (ms: number) => clock.advance(startMs + ms - clock.now());
  for (const [dueMs, seqs] of [[1_000, [0, 10]], [2_000, [11, 12]], [3_000, [1]]] as const) {
    await advanceTo(dueMs - 1);
    assertEquals(await peer.readReady(), [], "none is early");
    await advanceTo(dueMs + SLOT_MS);
    assertEquals(await peer.readReady(), seqs.map((seq) => ({ seq, ...LATE })));
  }
  for (const held of [plain, own, free]) held.finishAll();
  assertEquals(await peer.readReady(), [{ seq: 2, res: null }]);
});

Deno.test("dispatch counts the server's own limit from when the handler begins, not from when the request came", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command }, handlerTimeoutMs: 1_000 });
  await served.peer.send({ cmd: "HOLD" }, { cmd: "HOLD", id: 2 });
  await clock.advance(900);
  held.calls[0].finish();
  await clock.advance(900);
  assertEquals(await served.peer.readReady(), [{ res: null }]);
  held.calls[1].finish();
  assertEquals(await served.peer.readReady(), [{ res: 2 }]);
});

Deno.test("dispatch takes a ttl longer than any timer for what it is", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command } });
  for (const [index, ttl] of [2 ** 31, 2 ** 53 - 1, 1e300].entries()) {
    await served.peer.send({ cmd: "HOLD", seq: index, ttl });
  }
  await clock.advance(10_000);
  assertEquals(await served.peer.readReady(), []);
  held.finishAll();
  assertEquals((await served.peer.readReady()).length, 3);
});

// Cancels ------------------------------------------------------------------------------------------------------------

Deno.test("dispatch answers CANCELLED at once, aborts the handler, and keeps its place until it ends", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command } });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD", seq: 2 });
  assertEquals(await peer.ask({ cmd: 0, seq: 1, cancel: true }), { seq: 1, err: "CANCELLED" });
  const [cancelled, other] = held.calls.map(({ context }) => context.signal);
  assertEquals([cancelled.aborted, other.aborted], [true, false]);
  assertEquals((cancelled.reason as RpcError).code, "CANCELLED");
  assertEquals((await stats(served)).inFlight, 2);
  held.calls[0].finish();
  assertEquals(await peer.readReady(), []);
  assertEquals([(await stats(served)).inFlight, (await stats(served)).lateReplies], [1, 1]);
  held.calls[1].finish();
  assertEquals(await peer.readReady(), [{ seq: 2, res: null }]);
});

Deno.test("dispatch ignores a cancel of a call it does not know, or has answered; neither is a strike", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command }, maxStrikes: 1 });
  const { peer } = served;
  for (let seq = 0; seq < 50; seq++) {
    await peer.send({ cmd: "HOLD", seq });
    await settle(1);
    held.calls[seq].finish();
    await settle(1); // the reply is on its way
    await peer.send({ cmd: 0, seq, cancel: true }, { cmd: 0, seq: 10_000 + seq, cancel: true });
    assertEquals(await peer.readReply(), { seq, res: null });
  }
  assertEquals(await peer.readReady(), []);
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  assert(held.calls.every(({ context }) => !context.signal.aborted));
});

Deno.test("dispatch lets a seq be used again behind a cancel, while the old handler still runs", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", seq: 1, id: "old" });
  await peer.ask({ cmd: 0, seq: 1, cancel: true });
  await peer.send({ cmd: "HOLD", seq: 1, id: "new" });
  await settle();
  held.calls[0].finish();
  assertEquals(await peer.readReady(), []);
  held.calls[1].finish();
  assertEquals(await peer.readReady(), [{ seq: 1, res: "new" }]);
});

Deno.test("dispatch gives a signal to a handler that asks for it only when it is aborted already", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1 });
  await served.peer.ask({ cmd: 0, seq: 1, cancel: true });
  const { signal } = held.calls[0].context;
  assert(signal.aborted);
  assertEquals((signal.reason as RpcError).code, "CANCELLED");
  assertStrictEquals(held.calls[0].context.signal, signal);
  held.finishAll();
  await settle();
});

Deno.test("dispatch takes a handler that stops as it was told for no error, and one that fails otherwise for one", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  const { peer } = served;
  const ends: [name: string, end: (signal: AbortSignal) => unknown, reported: boolean][] = [
    ["the reason", (signal) => signal.reason, false],
    ["an AbortError", () => new DOMException("stopped", "AbortError"), false],
    ["an error that it caused", (signal) => new Error("a call ended", { cause: signal.reason }), false],
    ["another error", () => new Error("while stopping"), true],
  ];
  for (const [index, [name, end, reported]] of ends.entries()) {
    await peer.send({ cmd: "HOLD", seq: index });
    await peer.ask({ cmd: 0, seq: index, cancel: true });
    const thrown = end(held.calls[index].context.signal);
    held.calls[index].fail(thrown);
    assertEquals(await peer.readReady(), [], name);
    assertEquals(served.errors.take(), reported ? [thrown] : [], name);
  }
});

Deno.test("DELAY ends its sleep when it is cancelled, out of time, or disconnected: nothing runs on", async () => {
  const clock = new FakeClock();
  await using server = await withServer({ clock });
  const peer = await server.connect();
  const watcher = await server.connect();
  const idle = clock.timers;
  await peer.send({ cmd: 2, sleep: 60, seq: 1 }, { cmd: 2, sleep: 60, seq: 2, ttl: 100 }, {
    cmd: 2,
    sleep: 60,
    seq: 3,
  });
  await peer.send({ cmd: 0, seq: 1, cancel: true });
  assertEquals(await peer.readReply(), { seq: 1, err: "CANCELLED" });
  await clock.advance(100 + SLOT_MS);
  assertEquals(await peer.readReply(), { seq: 2, ...LATE });
  assertEquals((await stats({ peer: watcher })).inFlight, 1);
  assertEquals(clock.timers, idle + 1);
  const resettable = await server.connectResettable();
  await resettable.send({ cmd: 2, sleep: 60, seq: 4 });
  await untilInFlight(watcher, 2);
  resettable.reset();
  await untilInFlight(watcher, 1);
  await clock.advance(60_000);
  assertEquals((await peer.readReply()).seq, 3);
});

/** Asks until the server has so many handlers running: a reset takes its way through the kernel. */
async function untilInFlight(peer: { ask(fields: Message): Promise<Message> }, count: number): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if ((await stats({ peer })).inFlight === count) return;
    await settle();
  }
  throw new Error(`there are never ${count} handlers running`);
}

// Lost connections ---------------------------------------------------------------------------------------------------

Deno.test("dispatch aborts all handlers of a connection that breaks, in the lane and beside it", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD" }, { cmd: "HOLD", id: "never begins" });
  await settle();
  served.peer.close();
  await served.served;
  assertEquals(held.calls.length, 2);
  for (const { context } of held.calls) {
    assert(context.signal.aborted);
    assertEquals((context.signal.reason as RpcError).code, "CONNECTION_LOST");
  }
  held.finishAll();
  await settle();
  assertEquals(held.calls.length, 2, "what waited in the lane is not begun any more");
});

overEach("dispatch aborts the handlers of a client that resets, and frees their places", async (transport) => {
  const held = new Held();
  await using server = await withServer({ commands: { HOLD: held.command } }, transport);
  const watcher = await server.connect();
  const peer = await server.connectResettable();
  await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD" });
  await untilInFlight(watcher, 2);
  const aborted = Promise.all(
    held.calls.map(({ context }) => new Promise((resolve) => context.signal.addEventListener("abort", resolve))),
  );
  peer.reset();
  await aborted;
  held.calls[0].fail(held.calls[0].context.signal.reason);
  held.calls[1].finish();
  await untilInFlight(watcher, 0);
  const { connections, commands, lateReplies } = await stats({ peer: watcher });
  assertEquals([connections.open, commands.HOLD.inFlight, commands.HOLD.calls, lateReplies], [1, 0, 0, 1]);
});

Deno.test("dispatch never aborts a handler that has succeeded", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD" });
  await settle();
  const signals = held.calls.map(({ context }) => context.signal);
  held.finishAll();
  await served.peer.readReplies(2);
  served.peer.close();
  await served.served;
  assertEquals(signals.map(({ aborted }) => aborted), [false, false]);
});

overEach("dispatch counts nothing twice where a reply and the end of its connection meet", async (transport) => {
  const held = new Held();
  await using server = await withServer({ commands: { HOLD: held.command } }, transport);
  const watcher = await server.connect();
  for (let round = 0; round < 30; round++) {
    const peer = await server.connectResettable();
    await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD", seq: 2 }, { cmd: "HOLD" });
    await untilInFlight(watcher, 3);
    peer.reset();
    if (round % 2 === 0) await settle(round % 4);
    held.finishAll();
    await untilInFlight(watcher, 0);
  }
  const { commands, connections } = await stats({ peer: watcher });
  assertEquals([commands.HOLD.inFlight, connections.open], [0, 1]);
});

Deno.test("dispatch goes on with a handler while the client has only half-closed", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1 });
  await served.peer.halfClose();
  await settle();
  assertEquals(held.calls[0].context.signal.aborted, false);
  held.finishAll();
  assertEquals(await served.peer.readToEnd(), [{ seq: 1, res: null }]);
});

Deno.test("dispatch keeps the handler's clock: a sleep in a handler is the server's", async () => {
  const clock = new FakeClock();
  const NAP = command({
    handler: async (_params: Message, { clock, signal }) => {
      await sleep(clock, 500, signal);
      return "rested";
    },
  });
  await using served = withMemory({ clock, commands: { NAP } });
  await served.peer.send({ cmd: "NAP" });
  await clock.advance(499);
  assertEquals(await served.peer.readReady(), []);
  await clock.advance(1);
  assertEquals(await served.peer.readReady(), [{ res: "rested" }]);
});

Deno.test("dispatch aborts handlers behind which a broken frame waits, when the connection breaks", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1 });
  await served.peer.sendBytes(unhex("20 21 90 0d"));
  await settle();
  served.peer.close();
  held.finishAll();
  await served.served;
});
