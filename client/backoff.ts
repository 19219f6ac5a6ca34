/**
 * How long a client waits before it dials again.
 *
 * In: word of each dial that failed, and of each connection that was lost. Out: the wait before the next. Refused: nothing.
 */

/** The wait after the first failed dial is at most this; it doubles with each that follows, up to the longest. */
const FIRST_BACKOFF_MS = 50;
const LONGEST_BACKOFF_MS = 5_000;

/** How often a connection that was lost may be replaced without a wait. */
const FORGIVEN_AFTER_MS = 10_000;

/**
 * How long to wait before the next dial: exponential, capped, with full jitter, so that the clients of a server that
 * went away do not all come back at the same moment.
 */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;
  #notBeforeMs = -Infinity;
  /** When a connection was last replaced without a wait. */
  #lostMs = -Infinity;

  /** @param random A number from 0 to 1, each time another. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** A dial failed, or what it brought was of no use. */
  failed(nowMs: number): void {
    const longestMs = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.#failures++);
    this.#notBeforeMs = nowMs + this.#random() * longestMs;
  }

  /**
   * A connection that was of use is lost: the next dial need not wait. But a server that answers once and goes, time and
   * again, is no better than one that is not there: without a wait, such a connection is replaced only now and then.
   */
  lost(nowMs: number): void {
    if (nowMs - this.#lostMs < FORGIVEN_AFTER_MS) return this.failed(nowMs);
    this.#lostMs = nowMs;
    this.reset();
  }

  /** All is well again: the next dial, if there has to be one, need not wait. */
  reset(): void {
    this.#failures = 0;
    this.#notBeforeMs = -Infinity;
  }

  /** How long from now, in milliseconds. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#notBeforeMs - nowMs);
  }
}
