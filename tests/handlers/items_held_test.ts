/** The memory of items that no handler has taken: what the caller may send, and what waits. */

import { assert, assertEquals, assertMatch, assertObjectMatch } from "@std/assert";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { item, readGrants, ServedCalls, upload } from "../support/items.ts";

const MIB = 1024 * 1024;

Deno.test("items - for a handler that stops taking, what the caller may send stays within maxQueuedBytes", async () => {
  await using served = new ServedCalls({ maxPayloadBytes: 2 * MIB });
  const { peer, reading } = served;
  await peer.send(upload("READ"), item(new Uint8Array(MIB)));
  await reading.take();
  let { credit } = await readGrants(peer);
  for (let sent = 0; sent < 20; sent++) {
    for (; credit > 0; credit--) await peer.send(item(new Uint8Array(MIB)));
    await reading.take();
    ({ credit } = await readGrants(peer));
  }
  for (; credit > 0; credit--) await peer.send(item(new Uint8Array(MIB)));
  assertEquals(await peer.readReady(), []);
  const { heldBytes } = served;
  assert(heldBytes >= MIB && heldBytes <= 4 * MIB, `${heldBytes} B are held`);
});

Deno.test("items - as many as are granted before the first one shows their size have room, also if they are heavy", async () => {
  const clock = new FakeClock();
  await using served = new ServedCalls({ clock });
  const { peer, reading } = served;
  const numbers = item(new Array(100_000).fill(7)); // 100 KB, which count as 3 MB of memory
  await peer.send(upload("READ"));
  const first = reading.take();
  const { credit } = await readGrants(peer);
  const sent = peer.send(...new Array(1 + credit).fill(numbers));
  assertEquals((await first).done, false);
  for (let second = 0; second < 3; second++) await clock.advance(1_000);
  await sent;
  assertEquals(await peer.readReady(), [], "none is refused");
});

Deno.test("items - sizes that jump from 10 B to 1 MiB stop the intake for a second, and then their call", async () => {
  const clock = new FakeClock();
  await using served = new ServedCalls({ clock, maxPayloadBytes: 2 * MIB });
  const { peer, reading } = served;
  await peer.send(upload("READ"), item("x".repeat(10)));
  await reading.take();
  assertEquals((await readGrants(peer)).credit, 256);
  const large = item(new Uint8Array(MIB));
  let peakBytes = 0;
  const sent = (async () => {
    for (let n = 0; n < 10; n++) await peer.send(large);
    await peer.send({ cmd: 1, seq: 9 });
  })();
  for (let turn = 0; turn < 50; turn++) {
    await settle(10);
    peakBytes = Math.max(peakBytes, served.heldBytes);
  }
  assertEquals(await peer.readReady(), [], "nothing is refused, and nothing behind it is read");
  assert(peakBytes > 2 * MIB && peakBytes <= 5.1 * MIB, `${peakBytes} B are held, and one item waits to be`);
  // A handler that takes one has another second.
  await clock.advance(900);
  await reading.take();
  await settle();
  await clock.advance(900);
  assertEquals(await peer.readReady(), []);
  await clock.advance(200);
  await sent;
  const [failed, pong] = await peer.readReplies(2);
  assertObjectMatch(failed, { seq: 1, err: "INVALID_MESSAGE" });
  assertMatch(failed.msg as string, /^the items that wait for their handlers take too much memory/);
  assertEquals(pong, { seq: 9, res: "PONG" });
  served.assertNothingHeld();
});

Deno.test("items - the first that waits of each call is taken, however full the memory is", async () => {
  const clock = new FakeClock();
  await using served = new ServedCalls({ clock, maxQueuedBytes: 10_000 });
  const { peer } = served;
  const upTo = 20;
  for (let seq = 1; seq <= upTo; seq++) await peer.send(upload("READ", seq), item("x".repeat(5_000), seq));
  assertEquals(await peer.readReady(), []);
  assert(served.heldBytes > upTo * 10_000);
  await peer.send(item("y", 1), { cmd: 1, seq: 99 }); // not granted: it waits as one that has no room, and fails then
  assertEquals(await peer.readReady(), []);
  await clock.advance(1_010);
  assertEquals((await peer.readReplies(2)).map(({ seq, err }) => [seq, err]), [[1, "INVALID_MESSAGE"], [
    99,
    undefined,
  ]]);
  for (let seq = 2; seq <= upTo; seq++) await peer.send({ cmd: 0, seq, cancel: true });
  await peer.readReplies(upTo - 1);
  served.assertNothingHeld();
});

Deno.test("items - at the server's limit each stream gets one item at a time", async () => {
  await using served = new ServedCalls({ maxTotalHeldBytes: 20_000 });
  const { peer, reading, state } = served;
  await peer.send(upload("READ"), item("a"));
  state.load.bytes += 20_000;
  await reading.take();
  assertEquals((await readGrants(peer)).credit, 1);
  state.load.bytes -= 20_000;
  await peer.send(item("b"));
  await reading.take();
  assertEquals((await readGrants(peer)).credit, 256);
});

Deno.test("items - many streams of one connection share its memory", async () => {
  await using served = new ServedCalls({ maxPayloadBytes: MIB });
  const { peer, readings } = served;
  const chunk = new Uint8Array(64 * 1024);
  const credits = new Map<number, number>();
  const streams = 16;
  for (let seq = 0; seq < streams; seq++) await peer.send(upload("READ", seq), item(chunk, seq));
  await settle();
  for (const each of readings) await each.take();
  for (const { seq, credit } of await peer.readReady()) {
    credits.set(seq as number, (credits.get(seq as number) ?? 0) + (credit as number));
  }
  assertEquals(credits.size, streams);
  for (const [seq, credit] of credits) for (let n = 0; n < credit; n++) await peer.send(item(chunk, seq));
  await settle();
  assert(served.heldBytes <= 4.1 * MIB, `${served.heldBytes} B are held`);
  assertEquals(await peer.readReady(), []);
});

Deno.test("items - at the server's limit, an item that no handler asks for waits for a second, and fails its call", async () => {
  const clock = new FakeClock();
  await using served = new ServedCalls({ clock, maxTotalHeldBytes: 20_000 });
  const { peer, readings, state } = served;
  await peer.send(upload("READ", 1), upload("READ", 2), upload("READ", 3));
  await settle();
  const asking = readings[1].take();
  await settle();
  state.load.bytes += 20_000;
  await peer.send(item("asked for", 2));
  assertEquals((await asking).value, "asked for");
  await readGrants(peer);
  const sent = peer.send(item("x".repeat(5_000), 1), { cmd: 1, seq: 9 }, item("y", 3));
  assertEquals(await peer.readReady(), [], "nothing is refused, and nothing behind it is read");
  await clock.advance(1_010);
  await sent;
  const replies = await peer.readReplies(3);
  assertEquals(replies.map(({ seq, err }) => [seq, err]), [[1, "INVALID_MESSAGE"], [9, undefined], [
    3,
    "INVALID_MESSAGE",
  ]]);
  assertMatch(
    replies[0].msg as string,
    /too much memory: they have grown since they were granted, or the server has no/,
  );
  state.load.bytes -= 20_000;
  await peer.send({ cmd: 0, seq: 2, cancel: true });
  await peer.readReply();
  served.assertNothingHeld();
});
