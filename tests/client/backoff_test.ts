import { assert, assertEquals } from "@std/assert";
import { Backoff } from "../../client/retries.ts";
import { newSeed, Random } from "../support/random.ts";

Deno.test("Backoff - no wait before anything has failed, nor after an answer", () => {
  const backoff = new Backoff(() => 1);
  assertEquals(backoff.waitMs(0), 0);
  backoff.failed(0);
  backoff.failed(0);
  assertEquals(backoff.waitMs(0), 100);
  backoff.reset();
  assertEquals(backoff.waitMs(0), 0);
  backoff.failed(0);
  assertEquals(backoff.waitMs(0), 50);
});

Deno.test("Backoff - the wait counts from the failure, and ends", () => {
  const backoff = new Backoff(() => 1);
  backoff.failed(1_000);
  assertEquals([backoff.waitMs(1_010), backoff.waitMs(1_050), backoff.waitMs(9_999)], [40, 0, 0]);
});

Deno.test("Backoff - it is capped, however often it fails", () => {
  const backoff = new Backoff(() => 1);
  for (let failures = 0; failures < 5_000; failures++) backoff.failed(0);
  assertEquals(backoff.waitMs(0), 2_000);
});

Deno.test("Backoff - the jitter goes from nothing to the longest wait", () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const waits = Array.from({ length: 1_000 }, () => {
    const backoff = new Backoff(() => random.next());
    for (let failures = 0; failures < 4; failures++) backoff.failed(0);
    return backoff.waitMs(0);
  });
  assert(Math.min(...waits) < 20 && Math.max(...waits) > 380 && Math.max(...waits) <= 400);
});
