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
import { Backoff } from "./retries.ts";

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
