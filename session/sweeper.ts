/**
 * Checks all connections at intervals, with one timer for all.
 *
 * In: a set of connections. Out: a call of `sweep()` on each, twice a second. Refused: nothing.
 */

import type { Clock, Timer } from "../transport/clock.ts";

/** The interval between checks. */
const SWEEP_MS = 500;

/** Something to check. */
export interface Swept {
  /**
   * Checks the connection.
   *
   * @param isBehind The last check was longer ago than usual.
   * @returns Whether to check again. A client without open calls needs no timer.
   */
  sweep(nowMs: number, isBehind: boolean): boolean;
}

/** Sweeps a set of connections. */
export class Sweeper {
  readonly #clock: Clock;
  readonly #connections: ReadonlySet<Swept>;
  #timer: Timer | undefined;
  #lookedMs = 0;

  /**
   * @param clock The clock for the interval.
   * @param connections The connections; the set may change.
   */
  constructor(clock: Clock, connections: ReadonlySet<Swept>) {
    this.#clock = clock;
    this.#connections = connections;
  }

  /** Starts the checks, unless they are running. */
  start(): void {
    if (this.#timer !== undefined) return;
    this.#lookedMs = this.#clock.now();
    this.#schedule();
  }

  stop(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }

  #schedule(): void {
    this.#timer = this.#clock.setTimer(
      () => {
        const nowMs = this.#clock.now();
        // After a long computation or a suspended process, input may be waiting unread.
        const isBehind = nowMs - this.#lookedMs > 2 * SWEEP_MS;
        this.#lookedMs = nowMs;
        this.#timer = undefined;
        let again = false;
        for (const connection of this.#connections) again = connection.sweep(nowMs, isBehind) || again;
        if (again) this.#schedule();
      },
      SWEEP_MS,
      false,
    );
  }
}
