/**
 * Drains one connection. A client that wants notices gets one, and is served until it leaves. For any other client, new
 * calls are refused, and the connection ends after a silence.
 *
 * In: the begin of the drain, the client's settings, its traffic. Out: a notice; the signal `draining` of each handler;
 * whether new calls are refused; the end of the connection. Refused: nothing.
 */

import { Going } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import type { ConnectionView } from "../session/connection.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import type { Calls } from "./calls.ts";

/**
 * A draining connection is closed after this silence. A caller that sends a request within this time gets a refusal and
 * can call another server. A request that is sent just as the connection closes is lost; the longer the silence before,
 * the less likely that is.
 */
const QUIET_MS = 1_000;

/** The last part of it is a timer of its own: the runtime polls its sockets in it, also after a long computation. */
const LOOK_MS = 1;

/** The drain of one connection. */
export class ConnectionDrain {
  /** Whether new calls are refused. */
  isRefusing = false;
  readonly #clock: Clock;
  readonly #connection: ConnectionView;
  readonly #calls: Calls;
  readonly #onQuiet: () => void;
  #wantsNotices = false;
  /** When the grace period ends; `undefined` before the drain begins. */
  #endsMs: number | undefined;
  #quietTimer: Timer | undefined;

  /** @param onQuiet Called after a silence, if all calls are answered. */
  constructor(clock: Clock, connection: ConnectionView, calls: Calls, onQuiet: () => void) {
    this.#clock = clock;
    this.#connection = connection;
    this.#calls = calls;
    this.#onQuiet = onQuiet;
  }

  /** Begins the drain, once. */
  begin(graceMs: number): void {
    if (this.#endsMs !== undefined || !this.#connection.isOpen) return;
    this.#endsMs = this.#clock.now() + graceMs;
    this.#announce(graceMs);
    this.#calls.drain(new RpcError("GOING_AWAY", "the server ends this connection: read on over another"));
  }

  /** The client wants notices or not. Its settings may come after the drain has begun. */
  setNotices(wanted: boolean): void {
    this.#wantsNotices = wanted;
    if (wanted && this.isRefusing) this.#announce(Math.max(0, this.#endsMs as number - this.#clock.now()));
  }

  #announce(leftMs: number): void {
    this.isRefusing = !this.#wantsNotices;
    if (this.#wantsNotices) {
      this.stop();
      this.#calls.output?.enqueue(new Going(Math.round(leftMs)));
    } else if (this.#calls.idle) {
      this.restartSilence();
    }
  }

  /** Calls have been answered. */
  onProgress(): void {
    if (this.isRefusing && this.#connection.isOpen && this.#calls.idle) this.restartSilence();
  }

  /** Waits for a silence, anew after traffic. */
  restartSilence(): void {
    this.#wait(QUIET_MS - LOOK_MS, () => this.#wait(LOOK_MS, () => this.#endSilence()));
  }

  #wait(ms: number, then: () => void): void {
    this.stop();
    this.#quietTimer = this.#clock.setTimer(then, ms, false);
  }

  /** The client was silent, unless it was not read. */
  #endSilence(): void {
    if (!this.#calls.idle) this.stop(); // until the next progress
    else if (this.#connection.isReading) this.#onQuiet();
    else this.restartSilence();
  }

  /** No longer waits for a silence. */
  stop(): void {
    if (this.#quietTimer !== undefined) this.#clock.clearTimer(this.#quietTimer);
    this.#quietTimer = undefined;
  }
}
