/**
 * Finds the call that a reply belongs to: by `seq`, or by the order of requests.
 *
 * In: calls that were sent, and replies. Out: the call of each reply; how many calls may be unanswered. Refused, by an
 * `RpcError` that ends the connection: a reply that matches no request. A late reply to an ended call is accepted.
 */

import { BadFrame, InvalidMessage, type ReceivedReply, type Truncated } from "../codec/message.ts";
import { meaningOf, RpcError } from "../errors.ts";
import type { CallTable } from "../session/call_table.ts";
import { badReply, receivedError } from "../session/received.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import type { ClientCall } from "./client_call.ts";

/** The maximum of replies without a call on one connection, such as answers to old cancels. */
const MAX_STRAY_REPLIES = 100_000;

/** If a server closes after one reply, as the article's server does, it does so within this time. */
const CLOSES_WITHIN_MS = 20;

/** The `seq` of a PING of the client's own. No call reaches it, and there is one such PING at a time. */
export const PING_SEQ = Number.MAX_SAFE_INTEGER;

/** Unanswered calls, numbered in the order of their requests, including those that ended without their reply. */
export type UnansweredCalls = CallTable<ClientCall>;

/** Finds the call of a reply. */
export interface Matching {
  /** The maximum of unanswered calls. */
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
  #strayReplies = 0;

  constructor(calls: UnansweredCalls, peer: string, maxInFlight: number) {
    this.#calls = calls;
    this.#peer = peer;
    this.maxUnanswered = maxInFlight;
  }

  find(reply: ReceivedReply): ClientCall | undefined {
    if (reply.seq === undefined) {
      throw saidUnasked(reply) ??
        badReply(`${this.#peer} answers without seq: use sequenced: false for a server that does not support seq`);
    }
    const call = this.#calls.get(reply.seq);
    if (call === undefined && reply.seq !== PING_SEQ && ++this.#strayReplies > MAX_STRAY_REPLIES) {
      throw unasked(reply, this.#peer);
    }
    return call;
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
export interface InOrderListener {
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

/** An error that a server may send without a request, such as that it is full. */
function saidUnasked({ fields }: ReceivedReply): RpcError | undefined {
  return meaningOf(fields.err)?.unasked === true ? receivedError(fields) : undefined;
}

/** The error for what is not a reply. */
export function unreadable(peer: string, message: InvalidMessage | BadFrame | Truncated): RpcError {
  if (message instanceof InvalidMessage) return badReply(`${peer} sent an invalid reply: ${message.reason}`);
  if (message instanceof BadFrame) return badReply(`${peer} sent an invalid frame: ${message.damage}`);
  return lost(peer, `it ended ${message.receivedBytes} bytes into a frame`);
}

/** The error for a connection that has ended. */
export function lost(peer: string, reason: string, cause?: unknown): RpcError {
  return new RpcError("CONNECTION_LOST", `the connection to ${peer} is lost: ${reason}`, { cause });
}
