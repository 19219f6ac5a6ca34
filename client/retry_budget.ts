/**
 * The budget of all retries of a client together, so that its retries do not multiply an outage: a part of its calls,
 * and a few a second for a client that seldom calls. The rule is that of Finagle.
 *
 * In: calls; each retry that is wanted. Out: whether the retry may be sent. Refused: negative figures.
 */

import type { OptionKind } from "../limits.ts";

/** How many retries a client may send; both 0 for none. */
export interface RetryBudgetOptions {
  /**
   * Retries for each call: 0.2 allows one retry for five calls.
   *
   * @default {0.2}
   */
  perCall?: number;
  /**
   * Retries a second beside these.
   *
   * @default {10}
   */
  perSecond?: number;
}

/** The check of the option. */
export const RETRY_BUDGET: OptionKind = {
  is: (value) =>
    typeof value === "object" && value !== null &&
    Object.entries(value).every(([name, figure]) => ["perCall", "perSecond"].includes(name) && isFigure(figure)),
  must: "be an object whose perCall and perSecond are numbers from 0 up",
};

/** The time that the budget looks back, in slices. */
const SLICE_MS = 1_000;
const SLICES = 10;

/** The budget of one client. All calls of a turn cost a comparison and an addition. */
export class RetryBudget {
  readonly #perCall: number;
  readonly #reserve: number;
  /** The calls and retries of the last {@linkcode SLICES} slices. */
  readonly #calls: number[] = new Array(SLICES).fill(0);
  readonly #retries: number[] = new Array(SLICES).fill(0);
  #current = 0;
  #sliceEndMs = -Infinity;

  /** @param options The figures that differ from the defaults. */
  constructor({ perCall = 0.2, perSecond = 10 }: RetryBudgetOptions = {}) {
    this.#perCall = perCall;
    this.#reserve = perSecond * SLICES * SLICE_MS / 1_000;
  }

  /** Calls are sent, each for the first time. */
  called(nowMs: number, calls: number): void {
    if (nowMs >= this.#sliceEndMs) this.#advance(nowMs);
    this.#calls[this.#current] += calls;
  }

  /** Takes one retry out of the budget, if there is one. */
  take(nowMs: number): boolean {
    if (nowMs >= this.#sliceEndMs) this.#advance(nowMs);
    if (sum(this.#retries) + 1 > this.#reserve + this.#perCall * sum(this.#calls)) return false;
    this.#retries[this.#current]++;
    return true;
  }

  /** Forgets the slices that have left the window. */
  #advance(nowMs: number): void {
    const passed = Math.min(SLICES, Math.floor((nowMs - this.#sliceEndMs) / SLICE_MS) + 1);
    for (let slice = 0; slice < passed; slice++) {
      this.#current = (this.#current + 1) % SLICES;
      this.#calls[this.#current] = this.#retries[this.#current] = 0;
    }
    // After a long pause the slices begin anew.
    this.#sliceEndMs = passed === SLICES ? nowMs + SLICE_MS : this.#sliceEndMs + passed * SLICE_MS;
  }
}

function isFigure(value: unknown): boolean {
  return value === undefined || typeof value === "number" && value >= 0;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
