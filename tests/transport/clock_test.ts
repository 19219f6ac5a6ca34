/** The machine's clock as far as it can be tested without waiting, and `sleep` on a clock that stands still. */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { MAX_TIMER_MS } from "../../limits.ts";
import { type Clock, sleep, systemClock, type Timer } from "../../transport/clock.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";

const NEVER = new AbortController().signal;

/** What has become of a promise by now. */
async function stateOf(promise: Promise<unknown>): Promise<"waits" | "done" | "failed"> {
  let state: "waits" | "done" | "failed" = "waits";
  promise.then(() => state = "done", () => state = "failed");
  await settle(1);
  return state;
}

Deno.test("systemClock never goes back", () => {
  let before = systemClock.now();
  for (let count = 0; count < 10_000; count++) {
    const now = systemClock.now();
    assert(now >= before);
    before = now;
  }
});

Deno.test("systemClock calls back once, also where the delay is none or in the past", async () => {
  for (const delayMs of [0, -1, -Infinity, 0.5]) {
    let calls = 0;
    await new Promise<void>((resolve) =>
      systemClock.setTimer(
        () => {
          calls++;
          resolve();
        },
        delayMs,
        true,
      )
    );
    assertEquals(calls, 1);
  }
});

Deno.test("systemClock does not fire at once for a delay that no timer can hold", async () => {
  const fired: number[] = [];
  const delays = [MAX_TIMER_MS, MAX_TIMER_MS + 1, 2 ** 32, 2 ** 53, Infinity];
  const timers = delays.map((delayMs) => systemClock.setTimer(() => fired.push(delayMs), delayMs, true));
  await new Promise<void>((resolve) => systemClock.setTimer(resolve, 20, true));
  for (const timer of timers) systemClock.clearTimer(timer);
  assertEquals(fired, []);
});

Deno.test("systemClock ignores a timer that has fired, and takes back one that has not", async () => {
  let fired = false;
  const early = systemClock.setTimer(() => fired = true, 1, true);
  systemClock.clearTimer(early);
  const late = await new Promise<Timer>((resolve) => {
    const timer: Timer = systemClock.setTimer(() => resolve(timer), 2, true);
  });
  systemClock.clearTimer(late);
  assertEquals(fired, false);
});

Deno.test("systemClock lets the process end before a timer only where that was said", async () => {
  const clock = new URL("../../transport/clock.ts", import.meta.url);
  const program = (keepAlive: boolean) =>
    `import { systemClock } from "${clock}"; systemClock.setTimer(() => console.log("fired"), 50, ${keepAlive});`;
  const run = async (keepAlive: boolean) => {
    const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["eval", program(keepAlive)] }).output();
    return new TextDecoder().decode(stdout).trim();
  };
  assertEquals(await Promise.all([run(true), run(false)]), ["fired", ""]);
});

Deno.test("sleep() ends when its time has come, and not before", async () => {
  const clock = new FakeClock();
  const slept = sleep(clock, 100, NEVER);
  await clock.advance(99);
  assertEquals(await stateOf(slept), "waits");
  await clock.advance(1);
  assertEquals(await stateOf(slept), "done");
  assertEquals(clock.timers, 0);
});

Deno.test("sleep() takes no heed of a timer that fires early", async () => {
  // The runtime's timers are whole milliseconds, its clock is not.
  const clock = new FakeClock();
  const hasty: Clock = {
    now: () => clock.now(),
    setTimer: (callback, delayMs, keepAlive) => clock.setTimer(callback, delayMs * 0.9, keepAlive),
    clearTimer: (timer) => clock.clearTimer(timer),
  };
  const startMs = clock.now();
  const slept = sleep(hasty, 100, NEVER).then(() => clock.now());
  await clock.advance(99);
  assertEquals(await stateOf(slept), "waits");
  await clock.advance(10);
  assert(await slept - startMs >= 100);
});

Deno.test("sleep() ends at once with the signal's reason, and leaves no timer", async () => {
  const clock = new FakeClock();
  const controller = new AbortController();
  const slept = sleep(clock, 1_000, controller.signal);
  assertEquals(await stateOf(slept), "waits");
  const reason = new Error("enough");
  controller.abort(reason);
  assertStrictEquals(await assertRejects(() => slept, Error), reason);
  assertEquals(clock.timers, 0);
});

Deno.test("sleep() does not begin where the signal is aborted already", async () => {
  const clock = new FakeClock();
  const reason = new Error("enough");
  assertStrictEquals(await assertRejects(() => sleep(clock, 0, AbortSignal.abort(reason)), Error), reason);
  assertEquals(clock.timers, 0);
});

Deno.test("sleep() leaves no listener behind on a signal that lives on", async () => {
  const clock = new FakeClock();
  const signal = new AbortController().signal;
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args: unknown[]) => {
    listeners++;
    return Reflect.apply(addEventListener, signal, args);
  };
  signal.removeEventListener = (...args: unknown[]) => {
    listeners--;
    return Reflect.apply(removeEventListener, signal, args);
  };
  const slept = sleep(clock, 10, signal);
  assertEquals(listeners, 1);
  await clock.advance(10);
  await slept;
  assertEquals(listeners, 0);
});
