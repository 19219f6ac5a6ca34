/**
 * What the replies on one connection mean to its calls.
 *
 * In: replies. Out: items and outcomes of calls; calls that may be sent again, to the client. Refused, by closing the
 * connection: replies that match no request.
 */

import type { Fields, ReceivedReply } from "../codec/message.ts";
import type { RpcError } from "../errors.ts";
import { badReply, receivedError } from "../session/received.ts";
import type { ClientCall, ClientCallOwner } from "./client_call.ts";
import type { KeepAlive } from "./keep_alive.ts";
import { type Matching, PING_SEQ, type UnansweredCalls } from "./replies.ts";

/** The client, as the replies see it. */
export interface AnswersOwner extends ClientCallOwner {
  /** A call was certainly not started, unless an earlier attempt was lost, and may be sent again. */
  onRefused(call: ClientCall, error: RpcError): void;
  /** A call has failed and may have been started. It is settled, unless it may be sent again all the same. */
  onFailed(call: ClientCall, error: RpcError): void;
}

/** The server of a connection, as the replies see it. */
export interface AnswersPlace {
  readonly calls: { sent: number; refused: number; lost: number };
}

/** The connection, as the replies see it. */
export interface AnsweredConnection {
  readonly place: AnswersPlace;
  /** Whether it takes calls, and the server wants it to. */
  readonly isOpen: boolean;
  /** Whether the server wants no more calls here. */
  readonly isGoing: boolean;
  /** Takes no more calls. */
  retire(reason: RpcError): void;
  /** Ends the connection. */
  lose(error: RpcError): void;
}

/** The replies of one connection. */
export class Answers {
  /** Whether the server has answered a call on this connection. */
  answered = false;
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
      if (reply.seq === PING_SEQ) return this.#alive.answer(reply.fields);
      return void this.#owner.counts.lateReplies++;
    }
    if (!reply.more) this.#calls.delete(call.id);
    if (call.isSettled) {
      this.#owner.counts.lateReplies++;
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

  #settle(call: ClientCall, fields: Fields): void {
    const { err } = fields;
    const hasItems = call.state === "streaming";
    if (err === undefined) return call.settle("res" in fields ? fields : badReply("the reply has neither res nor err"));
    const error = receivedError(fields, call.attempts.losses > 0 || hasItems || !call.isRepeatable);
    if ((err === "SHUTTING_DOWN" || err === "OVERLOADED") && !hasItems) {
      this.#connection.place.calls.refused++;
      this.#owner.onRefused(call, error);
      if (err === "SHUTTING_DOWN") this.#connection.retire(error);
    } else if (err === "DEADLINE_EXCEEDED" && this.#owner.settings.clock.now() >= call.deadlineMs) {
      // The server's timeout was faster than the client's: report one event with one code.
      call.expire();
    } else {
      // The next stream, or the same one again, would be ended at once as well.
      const isOver = this.#connection.isGoing && (err === "GOING_AWAY" || call.outlives(error));
      this.#owner.onFailed(call, error);
      if (isOver) this.#connection.retire(error);
    }
  }
}
