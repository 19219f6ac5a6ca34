/**
 * Bad messages of one connection: in any window no more than so many are forgiven.
 *
 * In: each, as it comes. Out: whether it is one too many.
 */

import type { Limits } from "../limits.ts";

/** The strikes of one connection. */
export class Strikes {
  readonly #limits: Limits;
  /** When the last ones were: as many as are allowed in one window. */
  readonly #atMs: number[] = [];

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** One more. */
  isOneTooMany(nowMs: number): boolean {
    const { maxStrikes, strikeWindowMs } = this.#limits;
    if (this.#atMs.push(nowMs) <= maxStrikes) return false;
    return nowMs - (this.#atMs.shift() as number) <= strikeWindowMs;
  }
}
