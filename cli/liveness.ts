/**
 * Keeps the connection of the script alive, and finds out whether its server is alive, as the library does
 * (`client/keep_alive.ts`): a silent server gets a PING.
 *
 * In: a connection whose settings were sent. Out: frames to send; the end of a connection to a server that does not
 * answer. Refused: nothing.
 */

import { PING_SEQ } from "../client/client_call.ts";
import { Silence, type WatchedConnection } from "../client/keep_alive.ts";
import type { RpcError } from "../errors.ts";
import { DEFAULT_ALIVE_MS } from "../limits.ts";
import { Sweeper, type Swept } from "../session/deadlines.ts";
import type { Clock } from "../transport/clock.ts";
import { outgoing, promiseFrame } from "./call.ts";

/** What a watch needs from its connection. */
interface LiveConnection extends WatchedConnection {
  /** Ends the connection. */
  close(error: RpcError): void;
}

/** The watch of one connection. */
export class Liveness implements Swept {
  readonly #clock: Clock;
  readonly #silence: Silence;
  readonly #sweeper: Sweeper;
  readonly #isUnread: () => boolean;
  /** Whether a PING is unanswered. */
  #pinged = false;

  /**
   * @param connection The connection.
   * @param clock The clock.
   * @param send Sends a frame.
   * @param isUnread Whether received data waits for its reader; then the server is not silent.
   */
  constructor(
    connection: LiveConnection,
    clock: Clock,
    send: (frame: Uint8Array) => void,
    isUnread: () => boolean,
  ) {
    this.#clock = clock;
    this.#isUnread = isUnread;
    this.#silence = new Silence(connection, DEFAULT_ALIVE_MS, {
      say: () => this.#say(send),
      lose: (error) => connection.close(error),
    });
    this.#sweeper = new Sweeper(clock, new Set([this]));
  }

  /** Starts the watch: a call is open. */
  start(): void {
    this.#silence.begin(this.#clock.now());
    this.#sweeper.start();
  }

  /** Stops the watch: no call is open. */
  stop(): void {
    this.#sweeper.stop();
  }

  /** Notes that the PING was answered. */
  answered(): void {
    this.#pinged = false;
  }

  sweep(nowMs: number, isBehind: boolean): boolean {
    if (this.#isUnread()) this.#silence.excuse(nowMs);
    this.#silence.look(nowMs, isBehind);
    return true;
  }

  /** Sends a PING or, while one is unanswered, the promise again, which needs no answer. */
  #say(send: (frame: Uint8Array) => void): void {
    send(this.#pinged ? promiseFrame() : outgoing({ name: "PING", params: {} }, { seq: PING_SEQ }).request);
    this.#pinged = true;
  }
}
