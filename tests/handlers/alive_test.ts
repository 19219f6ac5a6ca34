/**
 * Clients that say when they die (`alive`), those that do not, and what is in flight behind the end of a client's half or
 * behind a broken frame, on a clock that stands still (PROTOCOL.md, "Connections that know").
 */

import { assert, assertEquals } from "@std/assert";
import type { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import { resolveLimits } from "../../limits.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { overEach } from "../support/transports.ts";
import { type Peer, settle } from "../support/peers.ts";
import { Held, withMemory, withServer } from "../support/test_server.ts";
import { concat, type Message, request, unhex } from "../support/wire.ts";

/** The server looks twice a second, so an end may come up to a second late, never early. */
const LATE_MS = 1_000;
const ALIVE = { cmd: 0, alive: 2_000 };
const PING = { cmd: 1, seq: 99_999 };
const PONG = { seq: 99_999, res: "PONG" };

/** Answers with that many bytes. */
const BULK = command({ handler: ({ size }: { size: number }) => "x".repeat(size) });

function served({ commands, ...options }: ServerOptions = {}) {
  const clock = new FakeClock();
  const held = new Held();
  const inMemory = withMemory({ clock, commands: { HOLD: held.command, BULK, ...commands }, ...options });
  return { clock, held, inMemory, peer: inMemory.peer };
}

/** Why a handler was told to stop. */
function reasonsOf({ calls }: Held): unknown[] {
  return calls.map(({ context: { signal } }) => signal.aborted ? (signal.reason as RpcError).code : undefined);
}

/** Some calls of HOLD. */
function holds(...seqs: number[]): Message[] {
  return seqs.map((seq) => ({ cmd: "HOLD", seq, id: seq }));
}

// Silence ------------------------------------------------------------------------------------------------------------

Deno.test("a client that is silent for one and a half of its intervals with a call open is dead: its handlers are told", async () => {
  for (const fields of [{ seq: 1 }, {}]) {
    const { clock, held, inMemory, peer } = served();
    await using _ = inMemory;
    await peer.send(ALIVE, { cmd: "HOLD", ...fields });
    await clock.advance(3_000);
    assertEquals([await peer.hasEnded(), ...reasonsOf(held)], [false, undefined]);
    await clock.advance(LATE_MS);
    assertEquals([await peer.hasEnded(), ...reasonsOf(held)], [true, "CONNECTION_LOST"]);
    const { cause } = held.calls[0].context.signal.reason as RpcError;
    assertEquals(
      (cause as Error).message.replace(/3\.\d s/, "3.5 s"),
      "the peer was silent for 3.5 s with a call open, and has promised a sign of life every 2 s",
    );
    held.finishAll();
    assertEquals(await peer.readReady(), [], "nothing more is written");
    await inMemory.served;
  }
});

Deno.test("a client lives as long as a byte of it comes in time, and owes none while nothing is open", async () => {
  const { clock, held, inMemory, peer } = served();
  await using _ = inMemory;
  await peer.send(ALIVE);
  await clock.advance(100_000);
  await peer.send(...holds(1));
  for (let count = 0; count < 5; count++) {
    await clock.advance(2_500);
    assertEquals(await peer.ask(PING), PONG);
  }
  const slow = request({ cmd: 1, seq: 2 });
  for (const piece of [slow.slice(0, 1), slow.slice(1, 2), slow.slice(2)]) {
    await clock.advance(2_500);
    await peer.sendBytes(piece);
  }
  assertEquals(await peer.readReply(), { seq: 2, res: "PONG" });
  held.finishAll();
  await peer.readReply();
  await clock.advance(100_000);
  assertEquals(await peer.hasEnded(), false);
});

Deno.test("a call is open until its final reply: cancelled, its client owes no sign of life, though the handler goes on", async () => {
  const { clock, held, inMemory, peer } = served();
  await using _ = inMemory;
  await peer.send(ALIVE, ...holds(1), { cmd: 0, seq: 1, cancel: true });
  assertEquals(await peer.readReady(), [{ seq: 1, err: "CANCELLED" }]);
  await clock.advance(100_000);
  assertEquals(await peer.hasEnded(), false);
  held.finishAll();
});

Deno.test("a later word replaces the promise of a client", async () => {
  const { clock, held, inMemory, peer } = served();
  await using _ = inMemory;
  await peer.send(ALIVE, ...holds(1), { cmd: 0, alive: 20_000 }, { cmd: 0, max: 60_000 });
  await clock.advance(30_000);
  assertEquals(await peer.hasEnded(), false);
  await clock.advance(LATE_MS);
  assertEquals([await peer.hasEnded(), ...reasonsOf(held)], [true, "CONNECTION_LOST"]);
  held.finishAll();
});

Deno.test("a client is not dead because the server stood still, or does not read: what came counts", async () => {
  const { clock, held, inMemory, peer } = served({ maxQueuedBytes: 1_000 });
  await using _ = inMemory;
  await peer.send(ALIVE, ...holds(1));
  await clock.advance(2_500);
  const sent = peer.send(PING);
  clock.leap(100_000);
  await sent;
  assertEquals(await peer.readReply(), PONG);
  assertEquals(reasonsOf(held), [undefined]);
  held.finishAll();
});

Deno.test("a client that does not read its replies is not late: that is the matter of writeTimeoutMs", async () => {
  const clock = new FakeClock();
  const held = new Held();
  const commands = { HOLD: held.command, BULK };
  await using inMemory = withMemory({ clock, commands, maxQueuedBytes: 1_000, writeTimeoutMs: 30_000 });
  const { peer } = inMemory;
  const flood = Array.from({ length: 10 }, (_, seq) => ({ cmd: "BULK", size: 50_000, seq: seq + 2 }));
  const sent = peer.send(ALIVE, ...holds(1), ...flood).catch(() => {});
  await clock.advance(30_000);
  assertEquals(reasonsOf(held), [undefined]);
  await clock.advance(LATE_MS);
  assertEquals(reasonsOf(held), ["CONNECTION_LOST"]);
  held.finishAll();
  await sent;
  await inMemory.served;
});

// The end of a half --------------------------------------------------------------------------------------------------

overEach(
  "alive - a FIN ends the calls of a client that has promised to stay: its handlers are told at once, nothing is written",
  async (transport) => {
    const clock = new FakeClock();
    const held = new Held();
    await using server = await withServer({ clock, commands: { HOLD: held.command } }, transport);
    const peer = await server.connect();
    await peer.send(ALIVE, ...holds(1, 2));
    while (held.calls.length < 2) await settle();
    await peer.halfClose();
    while (reasonsOf(held).includes(undefined)) await settle();
    assertEquals(reasonsOf(held), ["CONNECTION_LOST", "CONNECTION_LOST"]);
    held.finishAll();
    assertEquals(await peer.readToBreak(), []);
    const other = await server.connect();
    const { res } = await other.ask({ cmd: "STATS" }) as { res: { inFlight: number; connections: { open: number } } };
    assertEquals([res.inFlight, res.connections.open], [0, 1]);
  },
);

overEach("alive - a FIN with nothing open ends a connection in order", async (transport) => {
  await using server = await withServer({ clock: new FakeClock() }, transport);
  const peer = await server.connect();
  await peer.send(ALIVE);
  assertEquals(await peer.ask(PING), PONG);
  await peer.halfClose();
  assertEquals(await peer.readToEnd(), []);
});

Deno.test("what a client without a promise has in flight behind its FIN lasts as long as the half-open limit, and no longer", async () => {
  for (const limits of [{ halfOpenTimeoutMs: 20_000 }, { idleTimeoutMs: 20_000 }]) {
    const { clock, held, inMemory, peer } = served(limits);
    await using _ = inMemory;
    await peer.send(...holds(1, 2), { cmd: "HOLD" }, { cmd: "HOLD" });
    await peer.halfClose();
    await clock.advance(19_999);
    held.calls[0].finish();
    assertEquals((await peer.readReady()).map(({ seq }) => seq), [1]);
    assertEquals(reasonsOf(held).slice(1), [undefined, undefined]);
    await clock.advance(1);
    assertEquals(reasonsOf(held).slice(1), ["CONNECTION_LOST", "CONNECTION_LOST"]);
    assertEquals(await peer.readReady(), []);
    held.finishAll();
    await inMemory.served;
    assertEquals(held.calls.length, 3, "what waited does not begin");
  }
});

Deno.test("the half-open limit is that of silence, unless it is given; it may be without end", async () => {
  assertEquals(resolveLimits({}).halfOpenTimeoutMs, 300_000);
  assertEquals(resolveLimits({ idleTimeoutMs: 5 }).halfOpenTimeoutMs, 5);
  assertEquals(resolveLimits({ idleTimeoutMs: Infinity }).halfOpenTimeoutMs, Infinity);
  assertEquals(resolveLimits({ idleTimeoutMs: 5, halfOpenTimeoutMs: 7 }).halfOpenTimeoutMs, 7);
  const { clock, held, inMemory, peer } = served({ halfOpenTimeoutMs: Infinity });
  await using _ = inMemory;
  await peer.send(...holds(1));
  await peer.halfClose();
  await clock.advance(10_000_000);
  held.finishAll();
  assertEquals(await peer.readToEnd(), [{ seq: 1, res: 1 }]);
});

// A broken frame -----------------------------------------------------------------------------------------------------

Deno.test("behind a broken frame, what is in flight has ten seconds; then each is told, the frame comes last", async () => {
  const { clock, held, inMemory, peer } = served();
  await using _ = inMemory;
  await peer.sendBytes(
    concat(...[...holds(1, 2), { cmd: "HOLD" }, { cmd: "HOLD" }].map(request), unhex("20 21 90 0d")),
  );
  await clock.advance(9_999);
  held.calls[0].finish();
  assertEquals(await peer.readReady(), [{ seq: 1, res: 1 }]);
  await clock.advance(1);
  const replies = await peer.readToEnd();
  assertEquals(replies.map(({ seq, err }) => [seq, err]), [
    [2, "CANCELLED"],
    [undefined, "CANCELLED"],
    [undefined, "CANCELLED"],
    [undefined, "BAD_FRAME"],
  ]);
  assertEquals(reasonsOf(held), [undefined, "CANCELLED", "CANCELLED"]);
  held.finishAll();
  await clock.advance(2_000);
  await inMemory.served;
});

// At the limit of calls ----------------------------------------------------------------------------------------------

/** A client that has promised signs of life, with two calls that run and take both places, and more that wait. */
async function full(options: ServerOptions, ...waiting: Message[]): Promise<ReturnType<typeof served>> {
  const all = served({ maxInFlight: 2, ...options });
  await all.peer.send(ALIVE, ...holds(1, 2), ...waiting);
  assertEquals(await all.peer.ask(PING), PONG, "it is read at the limit");
  assertEquals(all.held.running, 2);
  return all;
}

/** Lets one handler end. */
async function end(held: Held, index: number, peer: Peer): Promise<Message> {
  held.calls[index].finish();
  return await peer.readReply();
}

Deno.test("alive: at the limit of calls, PING is answered and others wait, with seq and without, in their order", async () => {
  const { held, inMemory, peer } = await full(
    {},
    ...holds(3),
    { cmd: "HOLD", id: "a" },
    { cmd: "HOLD", id: "b" },
    ...holds(4),
  );
  await using _ = inMemory;
  const { res } = await peer.ask({ cmd: "STATS", seq: 5 }) as {
    res: { commands: Record<string, { inFlight: number }> };
  };
  assertEquals(res.commands.HOLD.inFlight, 6, "two run, two with seq and two without wait");
  assertEquals(await end(held, 0, peer), { seq: 1, res: 1 });
  assertEquals([held.running, held.calls[2].params.id], [2, "a"]);
  assertEquals(await end(held, 1, peer), { seq: 2, res: 2 });
  assertEquals([held.running, held.calls[3].params.id], [2, 3]);
  assertEquals(await end(held, 3, peer), { seq: 3, res: 3 });
  assertEquals([held.running, held.calls[4].params.id], [2, 4]);
  assertEquals(await end(held, 2, peer), { res: "a" });
  assertEquals([held.running, held.calls[5].params.id], [2, "b"]);
  held.finishAll();
  assertEquals((await peer.readReplies(2)).map(({ res }) => res).toSorted(), [4, "b"]);
  assertEquals(held.peak, 2);
});

Deno.test("alive: a call that waits for a place is known by its seq: cancel, a second of that seq, its ttl", async () => {
  const { clock, held, inMemory, peer } = await full(
    {},
    ...holds(3),
    { cmd: "HOLD", seq: 4, ttl: 500 },
    ...holds(5),
  );
  await using _ = inMemory;
  assertEquals(await peer.ask({ cmd: 0, seq: 3, cancel: true }), { seq: 3, err: "CANCELLED" });
  assertEquals((await peer.ask(holds(5)[0])).msg, "seq is in flight already");
  await clock.advance(500);
  assertEquals(await peer.readReply(), { seq: 4, err: "DEADLINE_EXCEEDED" });
  assertEquals(await peer.ask({ cmd: 1, seq: 3 }), { seq: 3, res: "PONG" }, "its seq is free");
  await end(held, 0, peer);
  assertEquals(held.calls.map(({ params }) => params.id), [1, 2, 5]);
  held.finishAll();
  await peer.readReplies(2);
  const { res } = await peer.ask({ cmd: "STATS", seq: 6 }) as { res: { commands: Record<string, Message> } };
  assertEquals([res.commands.HOLD.calls, res.commands.HOLD.inFlight], [5, 0]);
});

Deno.test("alive: credit for a stream that waits for a place is not lost", async () => {
  const COUNT = command({
    async *handler(_: object): AsyncGenerator<number, null, void> {
      for (let n = 1; n <= 3; n++) yield n;
      return null;
    },
  });
  const { held, inMemory, peer } = await full({ commands: { COUNT } }, { cmd: "COUNT", seq: 3, credit: 1 });
  await using _ = inMemory;
  await peer.send({ cmd: 0, seq: 3, credit: 4 });
  await end(held, 0, peer);
  assertEquals((await peer.readReplies(4)).map(({ res }) => res), [1, 2, 3, null]);
  held.finishAll();
});

Deno.test("alive: what waits is bounded by the memory of requests; beyond it, a call is refused and PING is not", async () => {
  const big = (seq: number) => ({ cmd: "HOLD", seq, text: "x".repeat(4_000) });
  const waiting = Array.from({ length: 20 }, (_, index) => big(index + 10));
  const { clock, held, inMemory, peer } = served({ maxInFlight: 2, maxHeldBytes: 50_000 });
  await using _ = inMemory;
  const sent = peer.send(ALIVE, ...holds(1, 2), ...waiting, PING);
  await clock.advance(1_000);
  await sent;
  const replies = await peer.readReady();
  assertEquals(replies.at(-1), PONG);
  const refused = replies.slice(0, -1);
  assert(refused.length >= 10 && refused.length < 20, `${refused.length}`);
  assertEquals(refused.every(({ err }) => err === "OVERLOADED"), true);
  for (let done = 0; done < 22 - refused.length; done++) await end(held, done, peer);
  assertEquals(held.peak, 2);
});

Deno.test("alive: what waits is begun in turn with others, and not while the client does not read", async () => {
  let answered = 0;
  const QUICK = command({
    handler: () => {
      answered++;
      return "x".repeat(1_000);
    },
  });
  const many = Array.from({ length: 2_000 }, (_, index) => ({ cmd: "QUICK", seq: index + 10 }));
  const { held, inMemory, peer } = served({ commands: { QUICK }, maxInFlight: 2, maxQueuedBytes: 100_000 });
  await using _ = inMemory;
  await peer.send(ALIVE, ...holds(1, 2), ...many);
  await settle();
  assertEquals([held.running, answered], [2, 0]);
  held.calls[0].finish();
  await settle();
  assert(answered > 50 && answered < 300, `${answered} answers that nobody reads`);
  assertEquals((await peer.readReplies(2_001)).length, 2_001);
  held.finishAll();
});

Deno.test("alive: what waits for a place ends with its connection, and nothing of it is left", async () => {
  const { clock, held, inMemory, peer } = await full({}, ...holds(3), { cmd: "HOLD", id: 4 });
  await using _ = inMemory;
  await clock.advance(3_000 + LATE_MS);
  assertEquals(await peer.hasEnded(), true);
  held.finishAll();
  await inMemory.served;
  await settle();
  assertEquals([held.calls.length, clock.timers], [2, 0]);
});

Deno.test("without a promise too, a connection at its limit of calls is read", async () => {
  const { held, inMemory, peer } = served({ maxInFlight: 2 });
  await using _ = inMemory;
  await peer.send(...holds(1, 2, 3), PING);
  assertEquals(await peer.readReady(), [PONG]);
  assertEquals(await end(held, 0, peer), { seq: 1, res: 1 });
  held.finishAll();
  assertEquals(await peer.readReplies(2), [{ seq: 2, res: 2 }, { seq: 3, res: 3 }]);
});
