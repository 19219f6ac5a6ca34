/** Streams from the caller (PROTOCOL.md, "Streams from the caller"): items as they are granted, and one end that nobody mistakes. */

import { assertEquals } from "@std/assert";
import { type Message, withMemory } from "../support/wire.ts";

const PONG = { res: "PONG" };

/** An item of the stream of call 1. */
function item(value: unknown, seq = 1): Message {
  return { cmd: 0, seq, item: value };
}

/** The end of the stream of call 1. */
function end(seq = 1): Message {
  return { cmd: 0, seq, end: true };
}

Deno.test("items - TALLY counts the items of a stream that come as they are granted", async () => {
  await using served = withMemory();
  const { peer } = served;
  await peer.send({ cmd: "TALLY", seq: 1, $items: true }, item("é"));
  // Of the largest items that are allowed, four fit; of small ones, 256.
  assertEquals(await peer.readReady(), [{ seq: 1, credit: 3 }, { seq: 1, credit: 253 }]);
  await peer.send(item(new Uint8Array(5)), item(7), item(null), end());
  assertEquals(await peer.readReply(), { seq: 1, res: { items: 4, bytes: 7 } });
});

Deno.test("items - ECHO sends each item back, and nil at the end", async () => {
  await using served = withMemory();
  const { peer } = served;
  await peer.send({ cmd: "ECHO", seq: 1, $items: true }, item("a"));
  assertEquals(await peer.readReady(), [{ seq: 1, credit: 256 }, { seq: 1, res: "a", more: true }]);
  await peer.send(item({ b: 1 }), end());
  assertEquals(await peer.readReady(), [{ seq: 1, res: { b: 1 }, more: true }, { seq: 1, res: null }]);
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
});
