/**
 * Watches a connection while a call is open: keeps the client's promise (`alive`, PROTOCOL.md, "Signs of life"), and
 * detects a dead server. It sends a PING if either side has been silent, and before a new connection gets calls. The
 * server must also answer a cancel.
 *
 * In: how much was received and sent, at intervals. Out: PINGs; the error that ends the connection. Refused: nothing.
 */

import type { Fields } from "../codec/message.ts";
import { meaningOf, RpcError } from "../errors.ts";
import { type ClientCall, type ClientCallOwner, receivedError } from "./client_call.ts";
import type { Sender } from "./sender.ts";

/**
 * The share of `aliveMs` after which a silent connection gets a PING, and the share that the answer may take. Together
 * they are less than the default timeout of a call, so that an idempotent call still has time for another server.
 */
const QUIET_SHARE = 0.25;
const ANSWER_SHARE = 0.5;

/** A server has at least this long for its answer, because it may not read a connection over a limit for a second. */
const LEAST_ANSWER_MS = 2_000;

/** The part of a connection that is looked at. */
export interface WatchedConnection {
  readonly peer: string;
  readonly receivedBytes: number;
  readonly output: { readonly sentBytes: number };
}

/** The reactions to silence. */
interface SilenceEvents {
  /** The client must send something. If it waits for no answer yet, it sends a PING. */
  say(): void;
  /** The server counts as dead. */
  lose(error: RpcError): void;
}

/** Looks for silence on one connection, in both directions. The script has it too (`cli/liveness.ts`). */
export class Silence {
  readonly #connection: WatchedConnection;
  readonly #aliveMs: number;
  readonly #events: SilenceEvents;
  /** The last change in each direction. */
  #sent = { bytes: 0, ms: -Infinity };
  #received = { bytes: 0, ms: -Infinity };
  /** When an answer was requested, if nothing was received since. */
  #askedMs: number | undefined;

  /** @param aliveMs The time for signs of life; `Infinity` for no watch. */
  constructor(connection: WatchedConnection, aliveMs: number, events: SilenceEvents) {
    this.#connection = connection;
    this.#aliveMs = aliveMs;
    this.#events = events;
  }

  /** The first call is open. Silence counts from now. */
  begin(nowMs: number): void {
    this.#sent.ms = nowMs;
    this.excuse(nowMs);
  }

  /** The server's silence counts from now. */
  excuse(nowMs: number): void {
    this.#received.ms = nowMs;
    this.#askedMs = undefined;
  }

  /**
   * Looks at the traffic while a call is open.
   *
   * @param isBehind Whether the last look was long ago. Input may then wait unread, so the server does not count as
   * dead.
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
      this.#say(nowMs); // the promise also holds while the answer may take its time
    }
  }

  #say(nowMs: number): void {
    this.#sent.ms = nowMs; // it may wait after other output, so it is not repeated at each look
    this.#events.say();
  }
}

/** How long a server may take to answer a cancel. It must answer at once, whatever its handler does. */
const SILENCE_MS = 10_000;

/** Less than this in {@linkcode SILENCE_MS} counts as silence: a frame that never ends is no sign of life. */
const PROGRESS_BYTES = 1_024;

/** How long a server may take to answer the PING that a new connection must pass. */
const PROOF_MS = 10_000;

/** The same, with the number of complete frames that it has received. */
interface HeardConnection extends WatchedConnection {
  readonly receivedFrames: number;
}

/** The watch of one connection: silence, PINGs, and calls that have ended without their reply. */
export class KeepAlive {
  readonly #owner: ClientCallOwner;
  readonly #connection: HeardConnection;
  readonly #sender: Sender;
  readonly #lose: (error: RpcError) => void;
  readonly #silence: Silence;
  /** The unanswered PING. */
  #ping: PromiseWithResolvers<void> | undefined;
  /** Calls that ended without their reply, with the value of `#heard` at that moment. */
  readonly #abandoned = new Map<ClientCall, number>();

  /** @param lose Ends the connection. */
  constructor(
    owner: ClientCallOwner,
    connection: HeardConnection,
    sender: Sender,
    lose: (error: RpcError) => void,
  ) {
    this.#owner = owner;
    this.#connection = connection;
    this.#sender = sender;
    this.#lose = lose;
    const { sequenced, aliveMs } = owner.settings;
    this.#silence = new Silence(connection, sequenced && aliveMs > 0 ? aliveMs : Infinity, {
      say: () => this.#say(),
      lose,
    });
  }

  // ---- silence while calls are open

  /** The first call is open. */
  begin(nowMs: number): void {
    this.#silence.begin(nowMs);
  }

  /** See `Silence`. */
  look(nowMs: number, isBehind: boolean): void {
    this.#silence.look(nowMs, isBehind);
  }

  /** Sends a PING or, while a PING is unanswered, the promise again, which needs no answer. */
  #say(): void {
    if (this.#ping !== undefined) this.#sender.promise();
    else void this.#sendPing();
  }

  // ---- PING

  /** Sends a PING and waits for its answer. Ends the connection and rejects if none comes, or the server refuses. */
  async prove(): Promise<void> {
    const { clock } = this.#owner.settings;
    const text = `${this.#connection.peer} has not answered a PING within ${PROOF_MS} ms`;
    const timer = clock.setTimer(() => this.#lose(new RpcError("CONNECTION_LOST", text)), PROOF_MS, false);
    try {
      await this.#sendPing();
    } catch (error) {
      this.#lose(error as RpcError);
      throw error;
    } finally {
      clock.clearTimer(timer);
    }
  }

  #sendPing(): Promise<void> {
    this.#ping = Promise.withResolvers();
    this.#ping.promise.catch(() => {}); // only `prove()` waits for it
    this.#sender.ping();
    return this.#ping.promise;
  }

  /**
   * A PING was answered. An error is an answer too, unless it says that the server takes no calls, or that a middleware
   * has held the PING until its end, as it would hold calls.
   */
  answer(fields: Fields): void {
    const { err } = fields;
    if (err === "DEADLINE_EXCEEDED" || meaningOf(err)?.retryable === true) this.#ping?.reject(receivedError(fields));
    else this.#ping?.resolve();
    this.#ping = undefined;
  }

  /** There will be no answer. */
  end(error: RpcError): void {
    this.#ping?.reject(error);
    this.#ping = undefined;
  }

  // ---- calls that ended without their reply

  /** How many such calls there are. */
  get abandoned(): number {
    return this.#abandoned.size;
  }

  /** Waits for the server to answer a call that has ended, which frees its place. A silent server counts as lost. */
  abandon(call: ClientCall): void {
    const { settings: { clock }, deadlines } = this.#owner;
    this.#abandoned.set(call, this.#heard);
    call.deadlineMs = clock.now() + SILENCE_MS;
    deadlines.add(call);
  }

  /** The server has not answered an ended call in time. Returns whether the call's place is free now. */
  missAnswer(call: ClientCall): boolean {
    if (this.#abandoned.get(call) === this.#heard) {
      const text = `${this.#connection.peer} has been silent for ${SILENCE_MS} ms`;
      this.#lose(new RpcError("CONNECTION_LOST", text));
    } else if (!this.#owner.settings.sequenced) {
      // Replies come in order: the server is busy with this call or an earlier one.
      this.abandon(call);
    } else {
      return this.#abandoned.delete(call);
    }
    return false;
  }

  /** The server has answered an ended call. */
  release(call: ClientCall): void {
    if (this.#abandoned.delete(call)) this.#owner.deadlines.delete(call);
  }

  /** Counts input, to detect silence. */
  get #heard(): number {
    const { receivedFrames, receivedBytes } = this.#connection;
    return receivedFrames + Math.floor(receivedBytes / PROGRESS_BYTES);
  }
}
