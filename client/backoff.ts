/**
 * Decides how long a client waits before it dials again.
 *
 * In: each dial that failed, and each connection that was lost. Out: the wait before the next dial. Refused: nothing.
 */

/** The longest wait after the first failed dial; it doubles with each further failure, up to the maximum. */
const FIRST_BACKOFF_MS = 50;
const LONGEST_BACKOFF_MS = 5_000;

/** A lost connection may be replaced without a wait once in this time. */
const FORGIVEN_AFTER_MS = 10_000;

/**
 * Exponential backoff with a maximum and full jitter, so that the clients of a failed server do not all return at once.
 */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;
  #notBeforeMs = -Infinity;
  /** When a connection was last replaced without a wait. */
  #lostMs = -Infinity;

  /** @param random Returns a random number from 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** A dial failed, or its connection never worked. */
  failed(nowMs: number): void {
    const longestMs = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.#failures++);
    this.#notBeforeMs = nowMs + this.#random() * longestMs;
  }

  /**
   * A working connection is lost. The next dial is immediate, but only once in {@linkcode FORGIVEN_AFTER_MS}: a server
   * that repeatedly answers once and then closes is treated as unreachable.
   */
  lost(nowMs: number): void {
    if (nowMs - this.#lostMs < FORGIVEN_AFTER_MS) return this.failed(nowMs);
    this.#lostMs = nowMs;
    this.reset();
  }

  /** Lets the next dial start immediately. */
  reset(): void {
    this.#failures = 0;
    this.#notBeforeMs = -Infinity;
  }

  /** The wait from now, in milliseconds. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#notBeforeMs - nowMs);
  }
}
