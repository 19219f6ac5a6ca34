/**
 * How long a client waits before it dials again.
 *
 * In: failed dials and lost connections. Out: when the next dial may start. Refused: nothing.
 */

/** The longest wait after the first failed dial, or the first `OVERLOADED`; it doubles with each further one, up to the maximum. */
const FIRST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 5_000;

/** The longest wait after the loss of a working connection: the clients of a restarted server return spread over it. */
const AFTER_LOSS_MS = 500;

/** A second loss within this time counts as a failed dial. */
const FORGIVEN_AFTER_MS = 10_000;

/**
 * The longest wait before the next attempt, in milliseconds.
 *
 * @param failures How many came before the last one.
 */
export function longestWaitMs(failures: number): number {
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
