/**
 * Requests that wait, and begin in a pause of their connection: because a handler of another connection has begun last,
 * or because the output is full. Their end is noticed as any other: there is room again, the connection is idle.
 */

import { assertEquals } from "@std/assert";
import { command } from "../../handlers/command.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { type Peer, settle, settleShutdown } from "../support/peers.ts";
import { Held, type TestServer, withServer } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

const PONG = { res: "PONG" };

const WORK = command(({ id }: { id: number }) => ({ id }));

/** A connection whose first request lasts, and another one whose handler began later: the server's next start waits. */
async function twoPeers(server: TestServer, held: Held, ...behind: Message[]): Promise<Peer> {
  const [peer, other] = await Promise.all([server.connect(), server.connect()]);
  await peer.send({ cmd: "HOLD", id: 0 });
  await until(() => held.calls.length === 1);
  if (behind.length > 0) await peer.send(...behind);
  await other.send({ cmd: "HOLD", seq: 1 });
  await until(() => held.calls.length === 2);
  await settle();
  return peer;
}

async function until(isSo: () => boolean): Promise<void> {
  for (let turns = 0; !isSo() && turns < 1_000; turns++) await settle(1);
}

Deno.test("requests behind a full queue are read as those before them are answered in a pause", async () => {
  const held = new Held();
  await using server = await withServer({ commands: { HOLD: held.command, WORK }, maxInFlight: 4 });
  const ids = Array.from({ length: 40 }, (_, index) => index + 1);
  const peer = await twoPeers(server, held, ...ids.map((id) => ({ cmd: "WORK", id })));
  held.calls[0].finish();
  assertEquals(await peer.readReplies(41), [{ res: 0 }, ...ids.map((id) => ({ res: { id } }))]);
  held.finishAll();
});

Deno.test("a connection whose last requests are answered in a pause ends after its peer's FIN", async () => {
  const held = new Held();
  await using server = await withServer({ commands: { HOLD: held.command } });
  const peer = await twoPeers(server, held, { cmd: 1 });
  await peer.halfClose();
  await settle();
  held.calls[0].finish();
  assertEquals(await peer.readToEnd(), [{ res: 0 }, PONG]);
  held.finishAll();
});

Deno.test("a connection whose last request waited for a full output ends after its peer's FIN", async () => {
  const held = new Held();
  await using server = await withServer({ commands: { HOLD: held.command }, maxQueuedBytes: 40_000 });
  const peer = await server.connect();
  await peer.send({ cmd: "HOLD" }, { cmd: 1 }, { cmd: 1 });
  await until(() => held.calls.length === 1);
  await peer.halfClose();
  await settle();
  const bytes = new Uint8Array(50_000);
  held.calls[0].finish(bytes);
  assertEquals(await peer.readToEnd(), [{ res: bytes }, PONG, PONG]);
});

Deno.test("a broken frame behind requests that are answered in a pause ends the connection at once", async () => {
  const held = new Held();
  const clock = new FakeClock();
  await using server = await withServer({ commands: { HOLD: held.command }, clock });
  const peer = await twoPeers(server, held, { cmd: 1 });
  await peer.sendBytes(Uint8Array.of(32, 33, 0x90, 0x0d));
  await settle();
  held.calls[0].finish();
  const [first, second, { err }] = await peer.readReplies(3);
  assertEquals([first, second, err], [{ res: 0 }, PONG, "BAD_FRAME"]);
  held.finishAll();
});

Deno.test("at a shutdown, a connection whose last requests are answered in a pause ends after a second of silence", async () => {
  const held = new Held();
  const clock = new FakeClock();
  await using server = await withServer({ commands: { HOLD: held.command }, clock });
  const peer = await twoPeers(server, held, { cmd: 1 });
  const ended = server.server.shutdown({ graceMs: 10_000 });
  await settleShutdown();
  held.finishAll();
  assertEquals(await peer.readReplies(2), [{ res: 0 }, PONG]);
  await settle();
  await clock.advance(1_000);
  assertEquals(await peer.readToEnd(), []);
  await clock.advance(2_000); // the other peer does not close
  assertEquals(await ended, { finished: 3, cut: 0 });
});

Deno.test("at a shutdown, a place that a late handler kept is missed for no longer than it lasts", async () => {
  const held = new Held();
  const clock = new FakeClock();
  const commands = { HOLD: held.command };
  await using server = await withServer({ commands, maxInFlight: 1, handlerTimeoutMs: 50, clock });
  const peer = await server.connect();
  await peer.send({ cmd: 0, alive: 3_600_000 }, { cmd: "HOLD" }, { cmd: 1 });
  await until(() => held.calls.length === 1);
  await clock.advance(100);
  assertEquals((await peer.readReply()).err, "DEADLINE_EXCEEDED");
  const ended = server.server.shutdown({ graceMs: 10_000 });
  await settleShutdown();
  held.finishAll();
  assertEquals(await peer.readReply(), PONG);
  await settle();
  await clock.advance(1_000);
  assertEquals(await peer.readToEnd(), []);
  peer.close();
  assertEquals((await ended).cut, 0);
});

Deno.test("requests without seq that wait count as in flight, and as cancelled if a shutdown ends them", async () => {
  const held = new Held();
  const clock = new FakeClock();
  await using server = await withServer({ commands: { HOLD: held.command }, clock });
  const peer = await server.connect();
  await peer.send({ cmd: "HOLD" }, { cmd: "HOLD" }, { cmd: "HOLD" });
  await until(() => held.calls.length === 1);
  await settle();
  const { HOLD } = server.server.statistics().commands;
  assertEquals([HOLD.inFlight, HOLD.calls], [3, 0]);
  const ended = server.server.shutdown({ graceMs: 0 });
  await settleShutdown();
  await clock.advance(0);
  assertEquals((await peer.readReplies(3)).map(({ err }) => err), ["CANCELLED", "CANCELLED", "CANCELLED"]);
  assertEquals(await peer.readToEnd(), []);
  peer.close();
  await clock.advance(1_000);
  await ended;
  const { inFlight, calls, errors } = server.server.statistics().commands.HOLD;
  assertEquals([inFlight, calls, errors], [0, 3, { CANCELLED: 3 }]);
  held.finishAll();
});
