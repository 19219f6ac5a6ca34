/**
 * Counts the invalid messages of one connection, and allows a limited number in any time window.
 *
 * In: each invalid message. Out: whether it is one too many. Refused: nothing.
 */

import type { Limits } from "../limits.ts";

/** The strikes of one connection. */
export class Strikes {
  readonly #limits: Limits;
  /** The times of the last strikes, as many as one window allows. */
  readonly #atMs: number[] = [];

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** Adds a strike. Returns whether it is one too many. */
  isOneTooMany(nowMs: number): boolean {
    const { maxStrikes, strikeWindowMs } = this.#limits;
    if (this.#atMs.push(nowMs) <= maxStrikes) return false;
    return nowMs - (this.#atMs.shift() as number) <= strikeWindowMs;
  }
}
