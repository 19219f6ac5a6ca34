/**
 * Which call a reply belongs to: by its `seq`, or in the order of the requests.
 *
 * In: calls, as they are written, and replies. Out: the call of each reply, and how many calls may wait for one.
 * Refused, by an `RpcError` that ends the connection: a reply that nobody can have asked for. A reply to a call that has
 * ended is not one of those.
 */

import type { ReceivedReply } from "../codec/message.ts";
import { meaningOf, type RpcError } from "../errors.ts";
import { badReply, receivedError } from "../session/received.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import type { ClientCall } from "./client_call.ts";

/** Replies to no call that a connection may bring: answers to cancels that came too late to be waited for. */
const MAX_STRAY_REPLIES = 100_000;

/** How long after its first reply a server of the article's kind may take to close. */
const CLOSES_WITHIN_MS = 20;

/** Calls that were written and not answered, oldest first; also those that have ended without their reply. */
export type UnansweredCalls = Map<number, ClientCall>;

/** Finds the calls of replies. */
export interface Matching {
  /** How many calls may be unanswered at once. */
  readonly maxUnanswered: number;
  /** The call that a reply belongs to; `undefined` if it has ended. */
  find(reply: ReceivedReply): ClientCall | undefined;
  /** The first reply has come. */
  onAnswered(): void;
  /** The connection has ended. */
  close(): void;
}

/** By `seq`. */
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
        badReply(`${this.#peer} answers without seq; a server that knows none wants sequenced: false`);
    }
    const call = this.#calls.get(reply.seq);
    if (call === undefined && ++this.#strayReplies > MAX_STRAY_REPLIES) throw unasked(reply, this.#peer);
    return call;
  }

  onAnswered(): void {}
  close(): void {}
}

/** What a client knows of a server without `seq`, over all connections. */
export interface InOrderMemory {
  /** Whether the server closes a connection after one reply, as far as it is known. */
  servesOnce: boolean | undefined;
}

/** What a connection does as it learns how its server serves. */
export interface InOrderListener {
  /** More calls may be written. */
  wake(): void;
  /** The server takes no more calls here. */
  retire(): void;
}

/**
 * In the order of the requests. What follows the first call of a connection is lost if the server closes after its reply:
 * until that is known, one call at a time.
 */
export class MatchingInOrder implements Matching {
  readonly #calls: UnansweredCalls;
  readonly #peer: string;
  readonly #maxInFlight: number;
  readonly #memory: InOrderMemory;
  readonly #listener: InOrderListener;
  readonly #clock: Clock;
  #answered = false;
  /** Runs while it shows whether the server closes after its reply. */
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
    const oldest = this.#calls.values().next().value;
    if (reply.seq !== undefined || oldest === undefined) throw unasked(reply, this.#peer);
    return oldest;
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

/** What a reply means that belongs to no call. */
function unasked(reply: ReceivedReply, peer: string): RpcError {
  return saidUnasked(reply) ?? badReply(`${peer} sent a reply that was not asked for`);
}

/** What a server may say unasked, such as that it has no room. */
function saidUnasked({ fields }: ReceivedReply): RpcError | undefined {
  return meaningOf(fields.err)?.unasked === true ? receivedError(fields) : undefined;
}
