import { assert, assertEquals, assertRejects } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { Backoff, dialAddress, dialInTime, unreachable } from "../../transport/dialer.ts";
import { memoryPair } from "../../transport/duplex.ts";
import { FakeClock, turn } from "../fake_clock.ts";
import { newSeed, Random } from "../random.ts";

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
  assertEquals(backoff.waitMs(0), 5_000);
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

Deno.test("dialInTime() - what is dialed in time comes through, and no timer stays", async () => {
  const clock = new FakeClock();
  const [here] = memoryPair();
  assertEquals(await dialInTime(() => Promise.resolve(here), clock, new AbortController()), here);
  assertEquals(clock.timers, 0);
});

Deno.test("dialInTime() - a dial that throws is one that failed", async () => {
  const clock = new FakeClock();
  const dial = () => {
    throw new Error("at once");
  };
  await assertRejects(() => dialInTime(dial, clock, new AbortController()), Error, "at once");
  assertEquals(clock.timers, 0);
});

Deno.test("dialAddress() - certificates that are none are told before anything is sent", async () => {
  const address = { hostname: "127.0.0.1", port: 1, tls: { cert: "no certificate" } };
  const error = await assertRejects(() => dialAddress(address, new AbortController().signal), RpcError);
  assertEquals([error.code, error.retryable], ["CONNECTION_LOST", true]);
});

Deno.test("unreachable() - it says what to do where that is known", () => {
  const refused = unreachable("here:1", new Deno.errors.ConnectionRefused("os error 111"));
  assertEquals(refused.message, "CONNECTION_LOST: cannot reach here:1: connection refused; is the server running?");
  assertEquals(unreachable("here:1", "thrown").message, "CONNECTION_LOST: cannot reach here:1: thrown");
  assertEquals([refused.retryable, refused.cause instanceof Deno.errors.ConnectionRefused], [true, true]);
});

Deno.test("dialInTime() - what a late dial gives is closed, and is no unhandled rejection if it is no connection", async () => {
  const clock = new FakeClock();
  for (const late of [null, {}, undefined, 7]) {
    const dialed = Promise.withResolvers<never>();
    const unwanted = new AbortController();
    const dialing = assertRejects(() => dialInTime(() => dialed.promise, clock, unwanted), Error, "not wanted");
    unwanted.abort(new Error("not wanted"));
    await dialing;
    dialed.resolve(late as never);
    await turn();
  }
  const given = () => dialInTime(() => Promise.resolve(null as never), clock, new AbortController());
  await assertRejects(given, TypeError, "a pair of streams");
});
