/**
 * Makes the connections of a client: one dial at a time, with waits between those that fail.
 *
 * In: a way to dial. Out: transports; the error of the last dial, or of the connection that was lost last.
 */

import { RpcError } from "../errors.ts";
import { type Clock, sleep } from "../transport/clock.ts";
import { type Dial, dialInTime, unreachable } from "../transport/dial.ts";
import { isDenied } from "../transport/runtime.ts";
import type { Transport } from "../transport/transport.ts";
import { Backoff } from "./backoff.ts";

/** Dials for one client. */
export class Dialer {
  /** Why there is no connection. */
  lastError: RpcError | undefined;
  readonly #dial: Dial;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  /** Ends a dial, and the wait before it. */
  #attempt = new AbortController();

  /**
   * @param dial Makes a connection.
   * @param clock Whose time.
   * @param random Numbers from 0 to 1, for the jitter between dials.
   */
  constructor(dial: Dial, clock: Clock, random: () => number) {
    this.#dial = dial;
    this.#clock = clock;
    this.#backoff = new Backoff(random);
  }

  /** Dials once. What it throws, but for a missing permission, is also the last error. */
  async dial(): Promise<Transport> {
    this.#attempt = new AbortController();
    try {
      const transport = await dialInTime(this.#dial, this.#clock, this.#attempt);
      this.lastError = undefined;
      return transport;
    } catch (error) {
      this.lastError = error instanceof RpcError ? error : unreachable("the server", error);
      this.#backoff.failed(this.#clock.now());
      throw isDenied(error) ? error : this.lastError;
    }
  }

  /** A connection is lost. One that never answered is no better than one that could not be made. */
  lost(error: RpcError | undefined, hadAnswered: boolean): void {
    this.lastError = error;
    if (error === undefined) return;
    if (hadAnswered) this.#backoff.lost(this.#clock.now());
    else this.#backoff.failed(this.#clock.now());
  }

  /** How long to wait before the next dial, in milliseconds. */
  get waitMs(): number {
    return this.#backoff.waitMs(this.#clock.now());
  }

  /** Waits before the next dial. Rejects when the dialer is aborted. */
  wait(): Promise<void> {
    this.#attempt = new AbortController();
    return sleep(this.#clock, this.waitMs, this.#attempt.signal);
  }

  /** Ends the dial or the wait that is under way. */
  abort(reason: RpcError): void {
    this.#attempt.abort(reason);
  }
}
