/**
 * Watches a connection for silence while a call is open: keeps the client's word (`alive`, PROTOCOL.md, "Signs of
 * life"), and finds out whether the server lives.
 *
 * In: how much has come and gone, at intervals. Out: when to say something; the error that ends the connection. Refused:
 * nothing.
 */

import { RpcError } from "../errors.ts";

/**
 * The shares of `aliveMs` after which a silent connection gets a PING, and for which the answer may take. Together less
 * than the default timeout of a call, so that an idempotent one still has time to go elsewhere.
 */
const QUIET_SHARE = 0.25;
const ANSWER_SHARE = 0.5;

/** A server has at least this long for its answer: one that holds as much as it can does not read for a second. */
const LEAST_ANSWER_MS = 2_000;

/** The connection, as its watch sees it. */
export interface WatchedConnection {
  readonly peer: string;
  readonly receivedBytes: number;
  readonly output: { readonly sentBytes: number };
}

/** What follows from silence. */
export interface SilenceEvents {
  /** The server must hear something. If nothing has come for a while either, it is asked to answer. */
  say(): void;
  /** The server counts as dead. */
  lose(error: RpcError): void;
}

/** The watch of one connection. */
export class Silence {
  readonly #connection: WatchedConnection;
  readonly #aliveMs: number;
  readonly #events: SilenceEvents;
  /** The last change of each direction. */
  #sent = { bytes: 0, ms: -Infinity };
  #received = { bytes: 0, ms: -Infinity };
  /** When an answer was asked for, if nothing has come since. */
  #askedMs: number | undefined;

  /** @param aliveMs The time for signs of life; `Infinity` for no watch. */
  constructor(connection: WatchedConnection, aliveMs: number, events: SilenceEvents) {
    this.#connection = connection;
    this.#aliveMs = aliveMs;
    this.#events = events;
  }

  /** The first call is open: silence counts from now. */
  begin(nowMs: number): void {
    this.#sent.ms = nowMs;
    this.excuse(nowMs);
  }

  /** The server's silence counts from now: what it has sent waits unread. */
  excuse(nowMs: number): void {
    this.#received.ms = nowMs;
    this.#askedMs = undefined;
  }

  /**
   * Looks at the traffic while a call is open.
   *
   * @param isBehind The last look was long ago: what has come may wait unread, so the server does not count as gone.
   */
  look(nowMs: number, isBehind: boolean): void {
    const { output: { sentBytes }, receivedBytes, peer } = this.#connection;
    if (sentBytes !== this.#sent.bytes) this.#sent = { bytes: sentBytes, ms: nowMs };
    if (receivedBytes !== this.#received.bytes) {
      this.#received.bytes = receivedBytes;
      this.excuse(nowMs);
    }
    const silentMs = nowMs - this.#received.ms;
    const unsaidMs = nowMs - this.#sent.ms;
    if (this.#askedMs === undefined) {
      if (Math.max(silentMs, unsaidMs) < QUIET_SHARE * this.#aliveMs) return;
      this.#askedMs = nowMs;
      this.#say(nowMs);
    } else if (isBehind) {
      this.#askedMs = nowMs;
    } else if (nowMs - this.#askedMs >= Math.max(ANSWER_SHARE * this.#aliveMs, LEAST_ANSWER_MS)) {
      const text = `${peer} has been silent for ${Math.round(silentMs)} ms, and has not answered a PING`;
      this.#events.lose(new RpcError("CONNECTION_LOST", text));
    } else if (unsaidMs >= ANSWER_SHARE * this.#aliveMs) {
      this.#say(nowMs); // the word must be kept for as long as the answer may take
    }
  }

  #say(nowMs: number): void {
    this.#sent.ms = nowMs; // it may wait behind other output: not again at each look
    this.#events.say();
  }
}
