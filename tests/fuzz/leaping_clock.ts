/**
 * A clock without waiting: time stands still while anything can run, and then leaps to the next timer. Ten days of a
 * DELAY pass at once, and what happens depends on nothing but the input.
 *
 * In: `leap()`, whenever nothing moves any more. Out: the timers that are due by then, in their order.
 */

import type { Clock, Timer } from "../../transport/clock.ts";

interface WaitingTimer {
  readonly dueMs: number;
  readonly callback: () => void;
  /** Whether somebody waits for it; the others are only looked at in passing. */
  readonly keepAlive: boolean;
}

/** A clock for one conversation. */
export class LeapingClock implements Clock {
  #nowMs = 1_000;
  readonly #timers = new Set<WaitingTimer>();

  now(): number {
    return this.#nowMs;
  }

  setTimer(callback: () => void, delayMs: number, keepAlive: boolean): Timer {
    const timer = { dueMs: this.#nowMs + Math.max(delayMs, 0), callback, keepAlive };
    this.#timers.add(timer);
    return timer;
  }

  clearTimer(timer: Timer): void {
    this.#timers.delete(timer as WaitingTimer);
  }

  /** Leaps to the next timer that somebody waits for; if nobody does, to the next of the others. */
  leap(): void {
    const waiting = [...this.#timers].sort((one, other) => one.dueMs - other.dueMs);
    const next = waiting.find(({ keepAlive }) => keepAlive) ?? waiting[0];
    if (next === undefined) return;
    // Not those that are set meanwhile: a sweep every half second would make ten days long.
    for (const timer of waiting) {
      if (timer.dueMs > next.dueMs || !this.#timers.delete(timer)) continue;
      this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
      timer.callback();
    }
  }
}
