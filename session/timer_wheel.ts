/**
 * Many deadlines on one timer. A timer of the runtime costs 2 µs to set and clear, and nearly every call ends long
 * before its deadline; here both cost two operations on a map.
 *
 * In: things that expire, each with its time. Out: `expire()` called, up to {@linkcode SLOT_MS} late, never early.
 */

import type { Clock, Timer } from "../transport/clock.ts";

/** Deadlines are rounded up to slots of this many milliseconds. */
export const SLOT_MS = 5;

/** Something with a deadline. */
export interface Expiring {
  /** When, on the clock; must not change while it is watched. */
  readonly deadlineMs: number;
  /** Called once, unless it was deleted before. */
  expire(): void;
}

/** A set of things that expire. */
export class TimerWheel {
  readonly #clock: Clock;
  readonly #slots = new Map<number, Set<Expiring>>();
  #timer: Timer | undefined;
  #timerSlot = Infinity;

  /** @param clock Whose time. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Starts to watch; an infinite deadline is never reached. */
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

  /** Ends the watch; what is not watched is ignored. */
  delete(expiring: Expiring): void {
    if (expiring.deadlineMs === Infinity) return;
    const slot = slotOf(expiring);
    const others = this.#slots.get(slot);
    if (!others?.delete(expiring)) return;
    if (others.size === 0) this.#slots.delete(slot);
    // The timer stays: the next deadline will want one, and one call back in vain is cheaper than a new timer a call.
  }

  /** Forgets all deadlines, and leaves no timer behind. */
  clear(): void {
    this.#slots.clear();
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#timerSlot = Infinity;
  }

  #arm(slot: number): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timerSlot = slot;
    // Not keepAlive: what waits for a deadline also waits for a socket, which keeps the process.
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
      // In its place until all have expired: one of them may delete another.
      for (const each of expiring) each.expire();
      this.#slots.delete(slot);
    }
    if (next < this.#timerSlot) this.#arm(next);
  }
}

function slotOf(expiring: Expiring): number {
  return Math.ceil(expiring.deadlineMs / SLOT_MS);
}
