/**
 * Runs many deadlines on one timer. Setting and clearing a timer of the runtime costs 2 µs, and most calls end long
 * before their deadline; here both cost two map operations.
 *
 * In: objects with a deadline. Out: a call of `expire()`, at most {@linkcode SLOT_MS} late. Refused: nothing.
 */

import type { Clock, Timer } from "../transport/clock.ts";

/** Deadlines are rounded up to slots of this many milliseconds. */
export const SLOT_MS = 5;

/** Something with a deadline. */
export interface Expiring {
  /** In the clock's time; must not change while it is watched. */
  readonly deadlineMs: number;
  /** Called once, unless deleted before. */
  expire(): void;
}

/** A set of deadlines. */
export class TimerWheel {
  readonly #clock: Clock;
  readonly #slots = new Map<number, Set<Expiring>>();
  #timer: Timer | undefined;
  #timerSlot = Infinity;

  /** @param clock The clock of the deadlines. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Adds a deadline; an infinite one is ignored. */
  add(expiring: Expiring): void {
    if (expiring.deadlineMs === Infinity) return;
    const slot = slotOf(expiring);
    const others = this.#slots.get(slot);
    if (others) {
      others.add(expiring);
    } else {
      this.#slots.set(slot, new Set([expiring]));
      if (slot < this.#timerSlot) this.#arm(slot);
    }
  }

  /** Removes a deadline; an unknown one is ignored. */
  delete(expiring: Expiring): void {
    if (expiring.deadlineMs === Infinity) return;
    const slot = slotOf(expiring);
    const others = this.#slots.get(slot);
    if (!others?.delete(expiring)) return;
    if (others.size === 0) this.#slots.delete(slot);
    // Keep the timer: one needless wake-up is cheaper than a new timer for each call.
  }

  /** Removes all deadlines and stops the timer. */
  clear(): void {
    this.#slots.clear();
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#timerSlot = Infinity;
  }

  #arm(slot: number): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timerSlot = slot;
    // Not keepAlive: a call with a deadline also waits for a socket, which keeps the process alive.
    this.#timer = this.#clock.setTimer(() => this.#sweep(), slot * SLOT_MS - this.#clock.now(), false);
  }

  #sweep(): void {
    this.#timer = undefined;
    this.#timerSlot = Infinity;
    const nowMs = this.#clock.now();
    let next = Infinity;
    for (const [slot, expiring] of [...this.#slots]) {
      if (slot * SLOT_MS > nowMs) {
        next = Math.min(next, slot);
        continue;
      }
      // Delete the slot last: an expired call may delete another of the same slot.
      for (const each of expiring) each.expire();
      this.#slots.delete(slot);
    }
    if (next < this.#timerSlot) this.#arm(next);
  }
}

function slotOf(expiring: Expiring): number {
  return Math.ceil(expiring.deadlineMs / SLOT_MS);
}
