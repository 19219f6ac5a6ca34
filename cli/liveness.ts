/**
 * Keeps the connection of the script alive, and finds out whether its server lives, as the library does
 * (`client/keep_alive.ts`): a server that is silent is asked by a PING.
 *
 * In: a connection, from its settings on. Out: frames to send; the end of a connection to a server that does not answer.
 * Refused: nothing.
 */

import { PING_SEQ } from "../client/client_call.ts";
import { Silence, type WatchedConnection } from "../client/keep_alive.ts";
import type { RpcError } from "../errors.ts";
import { DEFAULT_ALIVE_MS } from "../limits.ts";
import { Sweeper, type Swept } from "../session/deadlines.ts";
import type { Clock } from "../transport/clock.ts";
import { outgoing, promiseFrame } from "./call.ts";

/** What it needs of its connection. */
export interface LiveConnection extends WatchedConnection {
  /** Ends the connection. */
  close(error: RpcError): void;
}

/** The watch of one connection. */
export class Liveness implements Swept {
  readonly #clock: Clock;
  readonly #silence: Silence;
  readonly #sweeper: Sweeper;
  readonly #isUnread: () => boolean;
  /** Whether a PING is not answered. */
  #pinged = false;

  /**
   * @param connection The connection.
   * @param clock The clock to go by.
   * @param send Sends a frame.
   * @param isUnread Whether what the server has sent waits for its reader: then the server is not the silent one.
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

  /** A call is open. */
  start(): void {
    this.#silence.begin(this.#clock.now());
    this.#sweeper.start();
  }

  /** No call is open. */
  stop(): void {
    this.#sweeper.stop();
  }

  /** A PING was answered. */
  answered(): void {
    this.#pinged = false;
  }

  sweep(nowMs: number, isBehind: boolean): boolean {
    if (this.#isUnread()) this.#silence.excuse(nowMs);
    this.#silence.look(nowMs, isBehind);
    return true;
  }

  /** A PING, or while one is not answered the promise again, which needs no answer. */
  #say(send: (frame: Uint8Array) => void): void {
    send(this.#pinged ? promiseFrame() : outgoing({ name: "PING", params: {} }, { seq: PING_SEQ }).request);
    this.#pinged = true;
  }
}
