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

/** The time that the budget looks back, in slices of a second. */
const SLICE_MS = 1_000;
const SLICES = 10;

/** What was sent in a part of the time. */
interface Slice {
  readonly endMs: number;
  calls: number;
  retries: number;
}

/** The budget of one client. All calls of a turn cost a comparison and an addition. */
export class RetryBudget {
  readonly #perCall: number;
  readonly #reserve: number;
  /** The calls and retries of the last {@linkcode SLICES} slices; the last of them is now. */
  #slices: Slice[] = [];

  /** @param options The figures that differ from the defaults. */
  constructor({ perCall = 0.2, perSecond = 10 }: RetryBudgetOptions = {}) {
    this.#perCall = perCall;
    this.#reserve = perSecond * SLICES;
  }

  /** Calls are sent, each for the first time. */
  called(nowMs: number, calls: number): void {
    this.#sliceOf(nowMs).calls += calls;
  }

  /** Takes one retry out of the budget, if there is one. */
  take(nowMs: number): boolean {
    const slice = this.#sliceOf(nowMs);
    const left = this.#slices.reduce(
      (left, { calls, retries }) => left + this.#perCall * calls - retries,
      this.#reserve,
    );
    if (left < 1) return false;
    slice.retries++;
    return true;
  }

  /** The slice of now; a new one takes the place of those that have left the window. */
  #sliceOf(nowMs: number): Slice {
    const last = this.#slices.at(-1);
    if (last !== undefined && nowMs < last.endMs) return last;
    const slice = { endMs: nowMs + SLICE_MS, calls: 0, retries: 0 };
    this.#slices = [...this.#slices.filter(({ endMs }) => slice.endMs - endMs < SLICES * SLICE_MS), slice];
    return slice;
  }
}

function isFigure(value: unknown): boolean {
  return value === undefined || typeof value === "number" && value >= 0;
}
