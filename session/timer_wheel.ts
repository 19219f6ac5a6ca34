/**
 * Runs many deadlines on one timer. Setting and clearing a timer of the runtime costs 2 µs, and most calls end long
 * before their deadline; here both cost a few operations on an array.
 *
 * In: objects with a deadline. Out: a call of `expire()`, at most {@linkcode SLOT_MS} late. Refused: nothing.
 */

import type { Clock, Timer } from "../transport/clock.ts";

/** Deadlines are rounded up to slots of this many milliseconds. */
export const SLOT_MS = 5;

/** The place of what is not watched. */
export const UNWATCHED = -1;

/** Something with a deadline. */
export interface Expiring {
  /** In the clock's time; must not change while it is watched. */
  readonly deadlineMs: number;
  /** Its place in its slot, {@linkcode UNWATCHED} at first; only the wheel changes it. */
  slotPlace: number;
  /** Called once, unless deleted before. */
  expire(): void;
}

/** The state of something with a deadline. */
export abstract class Deadline implements Expiring {
  deadlineMs = Infinity;
  slotPlace = UNWATCHED;

  abstract expire(): void;
}

/** A set of deadlines. */
export class TimerWheel {
  readonly #clock: Clock;
  // Arrays, because a `Set` that changes with every call is hard on the garbage collector (`call_table.ts`).
  readonly #slots = new Map<number, Expiring[]>();
  #timer: Timer | undefined;
  #timerSlot = Infinity;

  /** @param clock The clock of the deadlines. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Adds a deadline; an infinite one is ignored, and one that is watched already. */
  add(expiring: Expiring): void {
    if (expiring.deadlineMs === Infinity || expiring.slotPlace !== UNWATCHED) return;
    const slot = slotOf(expiring);
    const others = this.#slots.get(slot);
    expiring.slotPlace = others?.length ?? 0;
    if (others) {
      others.push(expiring);
    } else {
      this.#slots.set(slot, [expiring]);
      if (slot < this.#timerSlot) this.#arm(slot);
    }
  }

  /** Removes a deadline; an unknown one is ignored. */
  delete(expiring: Expiring): void {
    const { slotPlace } = expiring;
    if (slotPlace === UNWATCHED) return;
    expiring.slotPlace = UNWATCHED;
    const slot = slotOf(expiring);
    const others = this.#slots.get(slot) as Expiring[];
    const last = others.pop() as Expiring;
    if (last !== expiring) {
      others[slotPlace] = last;
      last.slotPlace = slotPlace;
    } else if (others.length === 0) {
      this.#slots.delete(slot);
    }
    // Keep the timer: one needless wake-up is cheaper than a new timer for each call.
  }

  /** Removes all deadlines and stops the timer. */
  clear(): void {
    for (const watched of this.#slots.values()) for (const each of watched) each.slotPlace = UNWATCHED;
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
    for (const [slot, watched] of [...this.#slots]) {
      if (slot * SLOT_MS > nowMs) {
        next = Math.min(next, slot);
        continue;
      }
      for (const each of [...watched]) {
        // One that expired before may have deleted this one, and added it again.
        if (each.slotPlace === UNWATCHED || slotOf(each) !== slot) continue;
        this.delete(each);
        each.expire();
      }
      if (this.#slots.has(slot)) next = Math.min(next, slot); // one was added
    }
    if (next < this.#timerSlot) this.#arm(next);
  }
}

function slotOf(expiring: Expiring): number {
  return Math.ceil(expiring.deadlineMs / SLOT_MS);
}
