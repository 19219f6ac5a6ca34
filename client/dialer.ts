/**
 * Makes the connections to one server, one dial at a time, with waits after failures and losses.
 *
 * In: a way to dial. Out: transports; the error of the last dial or of the last lost connection. Refused: nothing.
 */

import { RpcError } from "../errors.ts";
import { type Clock, sleep } from "../transport/clock.ts";
import { type Dial, dialInTime, unreachable } from "../transport/dial.ts";
import { isDenied } from "../transport/runtime.ts";
import type { Transport } from "../transport/transport.ts";

/** The longest wait after the first failed dial; it doubles with each further failure, up to the maximum. */
const FIRST_BACKOFF_MS = 50;
const LONGEST_BACKOFF_MS = 5_000;

/** The longest wait after the loss of a working connection: the clients of a restarted server return spread over it. */
const AFTER_LOSS_MS = 500;

/** A second loss within this time counts as a failed dial. */
const FORGIVEN_AFTER_MS = 10_000;

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
    this.delay(nowMs, Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.#failures++));
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

/** Dials one server. */
export class Dialer {
  /** The reason if there is no connection. */
  lastError: RpcError | undefined;
  readonly #dial: Dial;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  /** Aborts the current dial or wait. */
  #attempt = new AbortController();

  /**
   * @param dial Makes a connection.
   * @param clock The clock for the waits.
   * @param random Returns random numbers from 0 to 1, for the jitter.
   */
  constructor(dial: Dial, clock: Clock, random: () => number) {
    this.#dial = dial;
    this.#clock = clock;
    this.#backoff = new Backoff(random);
  }

  /** Dials once. Stores the error that it throws in `lastError`, except for a missing permission. */
  async dial(): Promise<Transport> {
    this.#attempt = new AbortController();
    try {
      return await dialInTime(this.#dial, this.#clock, this.#attempt);
    } catch (error) {
      this.lastError = error instanceof RpcError ? error : unreachable("the server", error);
      this.#backoff.failed(this.#clock.now());
      throw isDenied(error) ? error : this.lastError;
    }
  }

  /** A connection is lost. One that never answered counts as a failed dial. */
  lost(error: RpcError | undefined, hadAnswered: boolean): void {
    this.lastError = error;
    if (error === undefined) return;
    if (hadAnswered) this.#backoff.lost(this.#clock.now());
    else this.#backoff.failed(this.#clock.now());
  }

  /** The next dial starts at a random time in the next `longestMs` milliseconds. */
  delay(longestMs: number): void {
    this.#backoff.delay(this.#clock.now(), longestMs);
  }

  /** The wait before the next dial, in milliseconds. */
  get waitMs(): number {
    return this.#backoff.waitMs(this.#clock.now());
  }

  /** Waits before the next dial. Rejects if aborted. */
  wait(): Promise<void> {
    this.#attempt = new AbortController();
    return sleep(this.#clock, this.waitMs, this.#attempt.signal);
  }

  /** Aborts the current dial or wait. */
  abort(reason: RpcError): void {
    this.#attempt.abort(reason);
  }
}
