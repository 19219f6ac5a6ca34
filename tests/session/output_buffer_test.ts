/** The count of output that waits: full exactly at the limit, and who waits is woken. */

import { assertEquals } from "@std/assert";
import { OutputBuffer } from "../../session/connection.ts";
import { settle } from "../support/peers.ts";

/** A promise, and whether it has been fulfilled by now. */
function watch(promise: Promise<void>): () => Promise<boolean> {
  let done = false;
  promise.then(() => done = true);
  return async () => {
    await settle(1);
    return done;
  };
}

Deno.test("OutputBuffer is full from its limit on, and not one byte before", () => {
  const outflow = new OutputBuffer(100);
  assertEquals(outflow.full, false);
  outflow.add(99);
  assertEquals(outflow.full, false);
  outflow.add(1);
  assertEquals(outflow.full, true);
  outflow.add(50);
  outflow.sent(50);
  assertEquals([outflow.full, outflow.queuedBytes, outflow.sentBytes], [true, 100, 50]);
  outflow.sent(1);
  assertEquals([outflow.full, outflow.queuedBytes, outflow.sentBytes], [false, 99, 51]);
});

Deno.test("drained() resolves at once where it is not full", async () => {
  assertEquals(await watch(new OutputBuffer(1).drained())(), true);
});

Deno.test("drained() wakes all who wait, once it is no longer full", async () => {
  const outflow = new OutputBuffer(100);
  outflow.add(150);
  const first = watch(outflow.drained());
  const second = watch(outflow.drained());
  outflow.sent(50);
  assertEquals([await first(), await second()], [false, false]);
  outflow.sent(1);
  assertEquals([await first(), await second()], [true, true]);
  outflow.add(1);
  assertEquals(await watch(outflow.drained())(), false);
});

Deno.test("drained() wakes each at its own mark", async () => {
  const outflow = new OutputBuffer(100);
  outflow.add(150);
  const low = watch(outflow.drained(50));
  const limit = watch(outflow.drained());
  outflow.sent(60);
  assertEquals([await low(), await limit()], [false, true]);
  outflow.sent(40);
  assertEquals(await low(), false);
  outflow.sent(1);
  assertEquals(await low(), true);
  assertEquals(await watch(outflow.drained(50))(), true);
});

Deno.test("close() wakes all who wait, and it is never full again", async () => {
  const outflow = new OutputBuffer(100);
  outflow.add(100);
  const waiting = watch(outflow.drained());
  outflow.close();
  assertEquals(await waiting(), true);
  outflow.add(1_000);
  assertEquals(outflow.full, false);
  assertEquals(await watch(outflow.drained())(), true);
});
