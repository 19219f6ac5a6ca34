/**
 * Looks at connections now and then, as long as there are some: one timer for all.
 *
 * In: connections, as they come and go. Out: `sweep()` of each, twice a second.
 */

import type { Clock, Timer } from "../transport/clock.ts";

/** How often connections are looked at. */
const SWEEP_MS = 500;

/** What is looked at. */
export interface Swept {
  /**
   * Looks at the connection.
   *
   * @param isBehind The last look was longer ago than usual.
   * @returns Whether it must be looked at again: while nothing is open at a client, no timer need run.
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
   * @param clock Whose time.
   * @param connections The connections, which may change.
   */
  constructor(clock: Clock, connections: ReadonlySet<Swept>) {
    this.#clock = clock;
    this.#connections = connections;
  }

  /** There is a connection. */
  start(): void {
    if (this.#timer !== undefined) return;
    this.#lookedMs = this.#clock.now();
    this.#schedule();
  }

  /** There is none any more. */
  stop(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }

  #schedule(): void {
    this.#timer = this.#clock.setTimer(
      () => {
        const nowMs = this.#clock.now();
        // After a computation or a stop of the process, what has come meanwhile has not been read yet.
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
