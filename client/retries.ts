/**
 * When a client tries again: the wait before a dial, the wait of a call that a server refused without starting it, and
 * the number of retries that all calls together may use.
 *
 * In: failed dials, lost connections, refusals; calls, and requests for a retry. Out: waits; whether a retry may be
 * sent. Refused: negative figures. Whether a call may be sent again at all is decided elsewhere.
 */

import type { RpcError } from "../errors.ts";
import type { OptionKind } from "../limits.ts";

/**
 * The longest wait after the first failed dial, or the first `OVERLOADED`. It doubles with each further one, up to the
 * maximum, so that a call of 30 s finds a server that is up for a quarter of the time.
 */
const FIRST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 2_000;

/**
 * The longest wait after the loss of a working connection. The clients of a restarted server return spread over this
 * time.
 */
const AFTER_LOSS_MS = 500;

/** A second loss within this time counts as a failed dial. */
const FORGIVEN_AFTER_MS = 10_000;

/**
 * A server may give many callers the same `retryAfterMs`. Each waits longer by a random part of it, up to this one, so
 * that they do not return together.
 */
const SPREAD = 0.2;

/** How often an idempotent call may be lost, so that a call that crashes servers does not crash all of them. */
export const MAX_LOSSES = 3;

/** The time that the budget looks back, in slices of a second. */
const SLICE_MS = 1_000;
const SLICES = 10;

/**
 * The longest wait before the next attempt, in milliseconds.
 *
 * @param failures How many failures came before the last one.
 */
function longestWaitMs(failures: number): number {
  return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
}

/**
 * Exponential backoff with a maximum and full jitter, so that the clients of a failed server do not all return at once.
 */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;
  #notBeforeMs = -Infinity;
  /** When a working connection was last lost. */
  #lostMs = -Infinity;

  /** @param random Returns a random number from 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** A dial failed, or its connection never worked. */
  failed(nowMs: number): void {
    this.delay(nowMs, longestWaitMs(this.#failures++));
  }

  /**
   * A working connection is lost. The wait is short, but only once in {@linkcode FORGIVEN_AFTER_MS}: a server that
   * repeatedly answers once and then closes is treated as unreachable.
   */
  lost(nowMs: number): void {
    if (nowMs - this.#lostMs < FORGIVEN_AFTER_MS) return this.failed(nowMs);
    this.#lostMs = nowMs;
    this.reset();
    this.delay(nowMs, AFTER_LOSS_MS);
  }

  /** Forgets failures: the next dial starts immediately. */
  reset(): void {
    this.#failures = 0;
    this.#notBeforeMs = -Infinity;
  }

  /** The next dial starts at a random time from now to `longestMs` from now. */
  delay(nowMs: number, longestMs: number): void {
    this.#notBeforeMs = nowMs + this.#random() * longestMs;
  }

  /** The wait from now, in milliseconds. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#notBeforeMs - nowMs);
  }
}

/**
 * The wait before the next attempt, in milliseconds.
 *
 * @param refusal The server's error.
 * @param refusals How many refusals of this call came before it.
 * @param random A random number from 0 to 1.
 */
export function retryWaitMs({ code, retryAfterMs }: RpcError, refusals: number, random: number): number {
  if (retryAfterMs && retryAfterMs > 0) return retryAfterMs * (1 + SPREAD * random);
  if (code !== "OVERLOADED") return 0; // this server is about to end, others are not
  return random * longestWaitMs(refusals);
}

/** How many retries a client may send. With both at 0, it sends none. */
export interface RetryBudgetOptions {
  /**
   * Retries for each call: 0.2 allows one retry for five calls.
   *
   * @default {0.2}
   */
  perCall?: number;
  /**
   * Additional retries per second.
   *
   * @default {10}
   */
  perSecond?: number;
}

const FIGURE: OptionKind = { is: (value) => typeof value === "number" && value >= 0, must: "be a number from 0 up" };

/** The check of the option. */
export const RETRY_BUDGET: OptionKind = {
  is: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  must: "be an object whose perCall and perSecond are numbers from 0 up",
  within: { perCall: FIGURE, perSecond: FIGURE },
};

/** The calls and retries that were sent in one slice of time. */
interface Slice {
  readonly endMs: number;
  calls: number;
  retries: number;
}

/**
 * The budget for all retries of one client together, so that retries do not make an outage worse: a part of its calls,
 * and a few per second for a client that seldom calls. Finagle has the same rule. All calls of a turn together cost a
 * comparison and an addition.
 */
export class RetryBudget {
  readonly #perCall: number;
  readonly #reserve: number;
  /** The calls and retries of the last {@linkcode SLICES} slices. The last slice is the current one. */
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

  /** The current slice. A new slice replaces those that have left the window. */
  #sliceOf(nowMs: number): Slice {
    const last = this.#slices.at(-1);
    if (last !== undefined && nowMs < last.endMs) return last;
    const slice = { endMs: nowMs + SLICE_MS, calls: 0, retries: 0 };
    this.#slices = [...this.#slices.filter(({ endMs }) => slice.endMs - endMs < SLICES * SLICE_MS), slice];
    return slice;
  }
}
