/** A fake clock that a test advances. */

import { setImmediate } from "node:timers";
import type { Clock, Timer } from "../../transport/clock.ts";

interface FakeTimer {
  readonly dueMs: number;
  readonly callback: () => void;
  readonly keepAlive: boolean;
}

/** In: milliseconds to go ahead. Out: every timer that is due on the way, in its order. */
export class FakeClock implements Clock {
  #nowMs = 1_000;
  readonly #timers = new Set<FakeTimer>();

  /** How many timers wait. */
  get timers(): number {
    return this.#timers.size;
  }

  /** How many of them keep the program alive. */
  get keeping(): number {
    return [...this.#timers].filter(({ keepAlive }) => keepAlive).length;
  }

  now(): number {
    return this.#nowMs;
  }

  setTimer(callback: () => void, delayMs: number, keepAlive: boolean): Timer {
    const timer = { dueMs: this.#nowMs + Math.max(delayMs, 0), callback, keepAlive };
    this.#timers.add(timer);
    return timer;
  }

  clearTimer(timer: Timer): void {
    this.#timers.delete(timer as FakeTimer);
  }

  /** Goes ahead; between two timers, what waits for the first to have run gets its turn. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.#nowMs + byMs;
    await turn();
    for (let next = this.#nextBy(endMs); next !== undefined; next = this.#nextBy(endMs)) {
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.callback();
      await turn();
    }
    this.#nowMs = Math.max(this.#nowMs, endMs); // what ran may have computed beyond
  }

  /** Goes ahead as during a computation: timers that are due fire with the next `advance()`. */
  compute(forMs: number): void {
    this.#nowMs += forMs;
  }

  /** Goes ahead as after a stop of the process: all timers that are due run at once, before anything else. */
  leap(byMs: number): void {
    this.#nowMs += byMs;
    for (const timer of [...this.#timers].filter(({ dueMs }) => dueMs <= this.#nowMs)) {
      this.#timers.delete(timer);
      timer.callback();
    }
  }

  #nextBy(endMs: number): FakeTimer | undefined {
    let first: FakeTimer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs <= endMs && (first === undefined || timer.dueMs < first.dueMs)) first = timer;
    }
    return first;
  }
}

/** Lets everything run that is ready: a turn of the event loop comes behind all promises that can be settled. */
export function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
