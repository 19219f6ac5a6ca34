/**
 * Turns of the event loop: how long a few busy connections may keep it to themselves before all others are served.
 *
 * To await what is there already gives nobody else a turn. Where a peer sends and reads as fast as it is served, a chain
 * of reads and writes goes on for some megabytes without a look at any other socket; and the runtime does not look
 * at them behind each `setImmediate` either. It does before a timer fires, so that is what ends a turn. A timer that is
 * set at the end would come two milliseconds later; one that was set at the beginning is due by then.
 *
 * In: work that may be long, and asks now and then whether its turn is over. Out: a promise of the next one. Whoever
 * does a little at a time need not ask, and pays nothing. Where the clock stands still, a turn has no end.
 */

import type { Clock, Timer } from "./clock.ts";

/** How long a turn is: what a timer of the runtime takes that is set for no time at all, and some more. */
export const TURN_MS = 3;

/** The turns of one server. */
export class Turn {
  readonly #clock: Clock;
  #startedMs = 0;
  #timer: Timer | undefined;
  #next = Promise.withResolvers<void>();
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether others must be served before the work goes on. The first to ask begins a turn. */
  get isOver(): boolean {
    if (this.#timer !== undefined) return this.#clock.now() - this.#startedMs >= TURN_MS;
    if (!this.#closed) this.#begin();
    return false;
  }

  /** Resolves when all that was ready has been served. */
  next(): Promise<void> {
    return this.#next.promise;
  }

  /** Nobody waits any longer. */
  close(): void {
    this.#closed = true;
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#end();
  }

  #begin(): void {
    this.#startedMs = this.#clock.now();
    this.#next = Promise.withResolvers();
    this.#timer = this.#clock.setTimer(() => this.#end(), 0, true);
  }

  #end(): void {
    this.#timer = undefined;
    this.#next.resolve();
  }
}
