/**
 * A connection whose handlers are at `maxInFlight` is read: what they wait for may be behind requests that wait. What
 * waits is limited by memory, and a wait that no client can end is limited by time.
 */

import { assertEquals, assertMatch } from "@std/assert";
import type { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { end, item, upload } from "../support/items.ts";
import { settle } from "../support/peers.ts";
import { Held, withMemory, withServer } from "../support/test_server.ts";
import { overEach } from "../support/transports.ts";
import type { Message } from "../support/wire.ts";

/** Adds the items of its caller. */
const SUM = command(async (_params: object, { items }) => {
  let sum = 0;
  for await (const number of items!) sum += number as number;
  return sum;
});

/** A connection in memory, on a clock that stands still. */
function served(options: ServerOptions) {
  const clock = new FakeClock();
  const held = new Held();
  const inMemory = withMemory({ clock, commands: { HOLD: held.command, SUM }, ...options });
  return { clock, held, inMemory, peer: inMemory.peer };
}

function reasonOf({ calls: [{ context: { signal } }] }: Held): unknown {
  return signal.aborted ? (signal.reason as RpcError).code : undefined;
}

// What is behind a request that waits --------------------------------------------------------------------------------

for (const seq of [9, undefined]) {
  const kind = seq === undefined ? "without seq" : "with seq";

  Deno.test(`uploads that take all places get their items and ends behind a request ${kind}`, async () => {
    const { inMemory, peer } = served({ maxInFlight: 2 });
    await using _ = inMemory;
    await peer.send(upload("SUM", 1), upload("SUM", 2), { cmd: "HOLD", seq }, item(3, 1), item(4, 2), end(1), end(2));
    const replies = (await peer.readReady()).filter((message) => !("credit" in message));
    assertEquals(replies, [{ seq: 1, res: 3 }, { seq: 2, res: 4 }]);
    peer.close();
  });

  Deno.test(`a cancel of a call that takes a place is read behind a request ${kind}`, async () => {
    const { held, inMemory, peer } = served({ maxInFlight: 1 });
    await using _ = inMemory;
    await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD", seq }, { cmd: 0, seq: 1, cancel: true });
    assertEquals(await peer.readReady(), [{ seq: 1, err: "CANCELLED" }]);
    assertEquals(reasonOf(held), "CANCELLED");
    held.finishAll();
    await settle();
    held.finishAll();
    assertEquals((await peer.readReply()).res, null);
  });

  Deno.test(`the time of a half-open connection begins behind a request ${kind} that waits`, async () => {
    const { clock, held, inMemory, peer } = served({ maxInFlight: 1, halfOpenTimeoutMs: 60_000 });
    await using _ = inMemory;
    await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD", seq });
    await peer.halfClose();
    await clock.advance(59_000);
    assertEquals([held.running, reasonOf(held)], [1, undefined]);
    await clock.advance(1_000);
    assertEquals([held.calls.length, reasonOf(held)], [1, "CONNECTION_LOST"]);
    held.finishAll();
    assertEquals([await peer.hasEnded(), await peer.readReady()], [true, []]);
  });
}

overEach("a client that is gone is noticed behind requests that wait, and all it holds is free", async (transport) => {
  const clock = new FakeClock();
  const held = new Held();
  const options = { clock, commands: { HOLD: held.command }, maxInFlight: 2, halfOpenTimeoutMs: 5_000 };
  await using server = await withServer(options, transport);
  const peer = await server.connect();
  await peer.send(...Array.from({ length: 50 }, (_, seq) => ({ cmd: "HOLD", seq })), { cmd: "HOLD" }, { cmd: "HOLD" });
  while (held.calls.length < 2) await settle(1);
  await settle();
  peer.close();
  for (let tries = 0; reasonOf(held) === undefined && tries < 100; tries++) {
    await settle(1);
    await clock.advance(500);
  }
  assertEquals(held.calls.map(({ context: { signal } }) => (signal.reason as RpcError)?.code), [
    "CONNECTION_LOST",
    "CONNECTION_LOST",
  ]);
  held.finishAll();
  await settle();
  const { commands, connections } = server.server.statistics();
  assertEquals([connections.open, commands.HOLD.inFlight, held.calls.length], [0, 0, 2]);
});

// The memory of what waits -------------------------------------------------------------------------------------------

/** A running request without seq, and a full memory behind it. */
async function full(options: ServerOptions = {}) {
  const all = served({ maxInFlight: 2, maxHeldBytes: 10_000, ...options });
  await all.peer.send({ cmd: "HOLD" }, { cmd: "HOLD", seq: 1 });
  return all;
}

/** Sends requests, each in a write of its own; tells how many were taken. */
async function taken(peer: { send(...fields: Message[]): Promise<void> }, count: number, of: Message): Promise<number> {
  let sent = 0;
  for (let each = 0; each < count; each++) void peer.send(of).then(() => sent++, () => {});
  await settle();
  return sent;
}

for (
  const [kind, request, answer] of [
    ["requests", { cmd: "HOLD" }, null],
    ["requests of PING", { cmd: 1 }, "PONG"],
    ["unknown commands", { cmd: "NO" }, "CMD_NOT_FOUND"],
  ] as const
) {
  Deno.test(`${kind} without seq wait for their turn up to the limit of memory, then the server does not read`, async () => {
    const { clock, held, inMemory, peer } = await full({ halfOpenTimeoutMs: Infinity });
    await using _ = inMemory;
    await taken(peer, 200, request);
    await clock.advance(3_000);
    assertEquals(await taken(peer, 1, request), 0, "nothing more is read");
    let answers: Message[] = [];
    for (let round = 0; answers.length < 203 && round < 300; round++) {
      held.finishAll();
      await clock.advance(1_000);
      answers = answers.concat(await peer.readReady());
    }
    assertEquals(answers.filter(({ seq }) => seq === undefined).length, 202, "each is answered");
    const counts = Map.groupBy(answers, ({ res, err }) => err ?? res);
    assertEquals(counts.get(answer)!.length, answer === null ? 203 : 201);
  });
}

Deno.test("requests without seq that nobody answers hold a connection unread for no longer than its half-open limit", async () => {
  const { clock, held, inMemory, peer } = await full({ halfOpenTimeoutMs: 60_000 });
  await using _ = inMemory;
  await taken(peer, 200, { cmd: "HOLD" });
  await clock.advance(60_500);
  assertEquals(reasonOf(held), undefined, "the memory has its second first");
  await clock.advance(1_000);
  assertEquals(reasonOf(held), "CANCELLED");
  held.finishAll();
  const replies = await peer.readToEnd();
  const why = /^for 60000 ms, too many requests without seq waited for one: the server could not read on$/;
  assertEquals(replies[0].seq, 1);
  for (const { err, msg } of replies) {
    assertEquals(err, "CANCELLED");
    assertMatch(msg as string, why);
  }
  await clock.advance(2_000);
  await inMemory.served;
  assertEquals(clock.timers, 0);
});

Deno.test("requests without seq that waited for the memory of other connections are read when it is free", async () => {
  const clock = new FakeClock();
  const held = new Held();
  const limits = { maxInFlight: 2, maxTotalHeldBytes: 10_000, halfOpenTimeoutMs: 60_000 };
  await using server = await withServer({ clock, commands: { HOLD: held.command }, ...limits });
  const [inLine, other] = [await server.connect(), await server.connect()];
  await inLine.send(...Array.from({ length: 3 }, () => ({ cmd: "HOLD" })));
  while (held.calls.length < 1) await settle(1);
  await other.send({ cmd: "HOLD", seq: 1, text: "x".repeat(10_000) });
  while (held.calls.length < 2) await settle(1);
  await inLine.send({ cmd: "HOLD" }, { cmd: 1, seq: 2 });
  assertEquals(await inLine.readReady(), [], "nothing more is read");
  held.calls[1].finish();
  await other.readReply();
  await clock.advance(60_000);
  assertEquals(await inLine.readReply(), { seq: 2, res: "PONG" });
});

Deno.test("a request with seq is refused at the limit of memory, also behind requests without", async () => {
  const { clock, inMemory, peer } = await full({ maxInFlight: 100 });
  await using _ = inMemory;
  await taken(peer, 60, { cmd: "HOLD" });
  const sent = peer.send({ cmd: "HOLD", seq: 2 }, { cmd: 0, seq: 1, cancel: true });
  await clock.advance(1_000);
  const replies = await peer.readReady();
  assertEquals(replies, [{ seq: 2, err: "OVERLOADED" }, { seq: 1, err: "CANCELLED" }]);
  await sent;
  peer.close();
});
