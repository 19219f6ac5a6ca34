/**
 * Handles the replies on one connection: finds the call of each reply, by `seq` or by the order of requests, and
 * delivers the reply to it.
 *
 * In: calls that were sent, and replies. Out: items and outcomes of calls; calls that may be sent again, to the client;
 * how many calls may be unanswered. Refused, by an `RpcError` that ends the connection: a reply that matches no
 * request. A late reply to an ended call is accepted.
 */

import { BadFrame, type Fields, InvalidMessage, type ReceivedReply, type Truncated } from "../codec/message.ts";
import { meaningOf, RpcError } from "../errors.ts";
import type { CallTable } from "../session/collections.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import { badReply, type ClientCall, type ClientCallOwner, PING_SEQ, receivedError } from "./client_call.ts";
import type { KeepAlive } from "./keep_alive.ts";

/** The part of the client that the handling of replies uses. */
export interface AnswersOwner extends ClientCallOwner {
  /** A call was certainly not started, unless an earlier attempt was lost, and may be sent again. */
  onRefused(call: ClientCall, error: RpcError): void;
  /** A call has failed and may have been started. It is settled, unless it may be resent anyway. */
  onFailed(call: ClientCall, error: RpcError): void;
}

/** The part of a server that the handling of replies uses. */
export interface AnswersPlace {
  readonly calls: { sent: number; refused: number; lost: number };
}

/** The part of a connection that the handling of replies uses. */
interface AnsweredConnection {
  readonly peer: string;
  readonly place: AnswersPlace;
  /** Whether it takes calls, and the server does not want to end it. */
  readonly isOpen: boolean;
  /** Whether the server wants no more calls here. */
  readonly isGoing: boolean;
  /** Takes no more calls. */
  retire(reason: RpcError): void;
  /** Ends the connection. */
  lose(error: RpcError): void;
}

/**
 * The maximum number of messages between two sweeps that are for no open call. Without a limit, a server that never stops
 * sending would keep the program busy, and alive.
 */
const MAX_STRAYS = 100_000;

/** The replies of one connection. */
export class Answers {
  /** Whether the server has answered a call on this connection. */
  answered = false;
  /** Messages since the last sweep that were for no open call. */
  strays = 0;
  readonly #owner: AnswersOwner;
  readonly #connection: AnsweredConnection;
  readonly #calls: UnansweredCalls;
  readonly #matching: Matching;
  readonly #alive: KeepAlive;

  constructor(
    owner: AnswersOwner,
    connection: AnsweredConnection,
    calls: UnansweredCalls,
    matching: Matching,
    alive: KeepAlive,
  ) {
    this.#owner = owner;
    this.#connection = connection;
    this.#calls = calls;
    this.#matching = matching;
    this.#alive = alive;
  }

  /** Takes a reply. */
  take(reply: ReceivedReply): void {
    let call: ClientCall | undefined;
    try {
      call = this.#matching.find(reply);
    } catch (error) {
      return this.#connection.lose(error as RpcError);
    }
    if (call === undefined) {
      if (reply.seq === PING_SEQ) this.#alive.answer(reply.fields);
      else this.#owner.counts.lateReplies++;
      return this.addStray();
    }
    if (!reply.more) this.#calls.delete(call.id);
    if (call.isSettled) {
      this.#owner.counts.lateReplies++;
      this.addStray();
      if (!reply.more) this.#alive.release(call);
    } else if (reply.more) {
      call.state = "streaming";
      call.takeItem(reply.fields, reply.weightBytes);
    } else {
      this.#settle(call, reply.fields);
    }
    if (this.answered) return;
    this.answered = true;
    if (this.#connection.isOpen) this.#matching.onAnswered();
  }

  /** Counts a message that was for no open call, such as a reply to an old cancel, or a notice of a later version. */
  addStray(): void {
    if (++this.strays <= MAX_STRAYS) return;
    this.#connection.lose(
      badReply(`${this.#connection.peer} has sent ${MAX_STRAYS} messages that are for no open call`),
    );
  }

  #settle(call: ClientCall, fields: Fields): void {
    const { err } = fields;
    const hasItems = call.state === "streaming";
    if (err === undefined) return call.settle("res" in fields ? fields : badReply("the reply has neither res nor err"));
    const error = receivedError(fields, call.isStreaming);
    if ((err === "SHUTTING_DOWN" || err === "OVERLOADED") && !hasItems) {
      this.#connection.place.calls.refused++;
      this.#owner.onRefused(call, error);
      if (err === "SHUTTING_DOWN") this.#connection.retire(error);
    } else if (err === "DEADLINE_EXCEEDED" && call.isLate) {
      // The server's timeout was faster than the client's: report one event with one code.
      call.expire();
    } else {
      // The next stream, or the same one again, would be ended at once too.
      const isOver = this.#connection.isGoing && (err === "GOING_AWAY" || call.outlives(error));
      this.#owner.onFailed(call, error);
      if (isOver) this.#connection.retire(error);
    }
  }
}

/** If a server closes after one reply, as the article's server does, it does so within this time. */
const CLOSES_WITHIN_MS = 20;

/** Unanswered calls, numbered in the order of their requests, including calls that ended without their reply. */
export type UnansweredCalls = CallTable<ClientCall>;

/** Finds the call of a reply. */
export interface Matching {
  /** The maximum number of unanswered calls. */
  readonly maxUnanswered: number;
  /** The call of a reply; `undefined` if it has ended. */
  find(reply: ReceivedReply): ClientCall | undefined;
  /** The first reply has arrived. */
  onAnswered(): void;
  /** The connection has ended. */
  close(): void;
}

/** Matches replies by `seq`. */
export class MatchingBySeq implements Matching {
  readonly maxUnanswered: number;
  readonly #calls: UnansweredCalls;
  readonly #peer: string;

  constructor(calls: UnansweredCalls, peer: string, maxInFlight: number) {
    this.#calls = calls;
    this.#peer = peer;
    this.maxUnanswered = maxInFlight;
  }

  find(reply: ReceivedReply): ClientCall | undefined {
    if (reply.seq === undefined) {
      const { err } = reply.fields;
      const what = typeof err === "string" && /^\w{1,64}$/.test(err) ? err : "a reply";
      throw saidUnasked(reply) ?? badReply(
        `${this.#peer} sent ${what} without seq. A reply has the seq of its request, and a message with cmd: 0 gets ` +
          "none. For a server that does not support seq, use sequenced: false",
      );
    }
    return this.#calls.get(reply.seq);
  }

  onAnswered(): void {}
  close(): void {}
}

/** What a client has learned about a server without `seq`, kept across connections. */
export interface InOrderMemory {
  /** Whether the server closes a connection after one reply; `undefined` if not yet known. */
  servesOnce: boolean | undefined;
}

/** The connection's reactions to what it learns. */
interface InOrderListener {
  /** More calls may be sent. */
  wake(): void;
  /** The server accepts no more calls on this connection. */
  retire(): void;
}

/**
 * Matches replies in the order of requests. If the server closes after one reply, later calls are lost, so until this
 * is known only one call is sent at a time.
 */
export class MatchingInOrder implements Matching {
  readonly #calls: UnansweredCalls;
  readonly #peer: string;
  readonly #maxInFlight: number;
  readonly #memory: InOrderMemory;
  readonly #listener: InOrderListener;
  readonly #clock: Clock;
  #answered = false;
  /** No unanswered call has a lower number. */
  #oldestId = 0;
  /** Runs while the client waits to see whether the server closes. */
  #probe: Timer | undefined;

  constructor(
    calls: UnansweredCalls,
    peer: string,
    { maxInFlight, memory, listener, clock }: {
      maxInFlight: number;
      memory: InOrderMemory;
      listener: InOrderListener;
      clock: Clock;
    },
  ) {
    this.#calls = calls;
    this.#peer = peer;
    this.#maxInFlight = maxInFlight;
    this.#memory = memory;
    this.#listener = listener;
    this.#clock = clock;
  }

  get maxUnanswered(): number {
    if (this.#memory.servesOnce === false) return this.#maxInFlight;
    return this.#answered ? 0 : 1;
  }

  find(reply: ReceivedReply): ClientCall | undefined {
    if (reply.seq !== undefined || this.#calls.size === 0) throw unasked(reply, this.#peer);
    while (!this.#calls.has(this.#oldestId)) this.#oldestId++;
    return this.#calls.get(this.#oldestId);
  }

  onAnswered(): void {
    this.#answered = true;
    if (this.#memory.servesOnce === false) return;
    if (this.#memory.servesOnce) return this.#listener.retire();
    this.#probe = this.#clock.setTimer(
      () => {
        this.#probe = undefined;
        this.#memory.servesOnce = false;
        this.#listener.wake();
      },
      CLOSES_WITHIN_MS,
      true,
    );
  }

  close(): void {
    if (this.#probe === undefined) return;
    this.#clock.clearTimer(this.#probe);
    this.#memory.servesOnce = true;
  }
}

/** The error for a reply without a call. */
function unasked(reply: ReceivedReply, peer: string): RpcError {
  return saidUnasked(reply) ?? badReply(`${peer} sent a reply that matches no request`);
}

/** The error that a server may send without a request, for example if it is full. */
function saidUnasked({ fields }: ReceivedReply): RpcError | undefined {
  return meaningOf(fields.err)?.unasked === true ? receivedError(fields) : undefined;
}

/** The error for an invalid reply. */
export function unreadable(peer: string, message: InvalidMessage | BadFrame | Truncated): RpcError {
  if (message instanceof InvalidMessage) return badReply(`${peer} sent an invalid reply: ${message.reason}`);
  if (message instanceof BadFrame) return badReply(`${peer} sent an invalid frame: ${message.damage}`);
  const { receivedBytes, protocol } = message;
  const hint = protocol === undefined ? "" : `; this looks like ${protocol}`;
  return lost(peer, `it ended ${receivedBytes} bytes into a frame${hint}`);
}

/** The error for a connection that has ended. */
export function lost(peer: string, reason: string, cause?: unknown): RpcError {
  return new RpcError("CONNECTION_LOST", `the connection to ${peer} is lost: ${reason}`, { cause });
}
