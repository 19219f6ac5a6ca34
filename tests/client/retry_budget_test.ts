import { assertEquals, assertThrows } from "@std/assert";
import { RETRY_BUDGET, RetryBudget } from "../../client/retries.ts";
import { checkOptions } from "../../limits.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";

/** How many retries are allowed now, all of them taken. */
function takeAll(budget: RetryBudget, nowMs: number): number {
  let taken = 0;
  while (taken < 100_000 && budget.take(nowMs)) taken++;
  return taken;
}

Deno.test("RetryBudget - a client that has just begun has ten retries a second of the window", () => {
  assertEquals(takeAll(new RetryBudget(), 0), 100);
});

Deno.test("RetryBudget - five calls allow a retry more", () => {
  const budget = new RetryBudget({ perSecond: 0 });
  budget.called(0, 4);
  assertEquals(takeAll(budget, 0), 0);
  budget.called(0, 1);
  assertEquals(takeAll(budget, 0), 1);
  budget.called(0, 1_000);
  assertEquals(takeAll(budget, 0), 200);
});

Deno.test("RetryBudget - calls and retries are forgotten after ten seconds, and not before", async () => {
  const clock = new FakeClock();
  const budget = new RetryBudget({ perSecond: 1 });
  budget.called(clock.now(), 500);
  assertEquals(takeAll(budget, clock.now()), 110);
  await clock.advance(9_000);
  assertEquals(takeAll(budget, clock.now()), 0);
  await clock.advance(1_000);
  assertEquals(takeAll(budget, clock.now()), 10, "the calls are forgotten, the retries too");
});

Deno.test("RetryBudget - neither a long rest nor a clock that begins late gives more", () => {
  for (const startMs of [0, 12_345.678, 1e12]) {
    const budget = new RetryBudget();
    budget.called(startMs, 1_000_000);
    assertEquals(takeAll(budget, startMs + 3_600_000), 100);
    assertEquals(takeAll(budget, startMs + 3_600_000), 0);
  }
});

Deno.test("RetryBudget - with both figures 0, nothing is ever sent again", () => {
  const budget = new RetryBudget({ perCall: 0, perSecond: 0 });
  budget.called(0, 1_000_000);
  assertEquals(takeAll(budget, 0), 0);
});

Deno.test("RetryBudget - in an outage of a minute, retries stay at a fifth of the calls and ten a second", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const clock = new FakeClock();
  const budget = new RetryBudget();
  let [calls, retries] = [0, 0];
  const startMs = clock.now();
  while (clock.now() - startMs < 60_000) {
    budget.called(clock.now(), 10);
    calls += 10;
    retries += takeAll(budget, clock.now());
    await clock.advance(20 * random.next());
  }
  // What the window allowed at its start comes on top, once.
  const most = 0.2 * calls + 10 * 60 + 100;
  assertEquals(retries <= most && retries > 0.9 * most, true, `${retries} of ${most}`);
});

Deno.test("RetryBudget - the option is an object of two figures", () => {
  const good = [{}, { perCall: 0 }, { perSecond: 0.5 }, { perCall: Infinity, perSecond: undefined }];
  const bad = [null, 1, [1], { perCall: -1 }, { perSecond: NaN }, { percall: 1 }, { perCall: "1" }];
  const check = (retryBudget: unknown) => checkOptions({ retryBudget }, { retryBudget: RETRY_BUDGET });
  for (const budget of good) check(budget);
  for (const budget of bad) assertThrows(() => check(budget), Error, "Cannot use ");
});
