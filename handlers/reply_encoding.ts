/**
 * Decides how large the replies of one connection may be, and what replaces a reply that cannot be encoded.
 *
 * In: replies; the payload limit of the peer. Out: limits and replacements, for the encode stage. Refused: nothing.
 */

import type { Encoding } from "../codec/encode.ts";
import { PayloadTooLargeError } from "../codec/errors.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { type Notice, Reply } from "../codec/message.ts";
import { writeServerMessage } from "../codec/write_message.ts";
import type { RpcError } from "../errors.ts";
import type { Call } from "./call.ts";
import { isCodeAlone, reduced, unwritable } from "./failures.ts";

/** What a server sends: replies to calls, and notices. */
export type ServerOutput = Reply<Call> | Notice;

/** Writes the replies of one connection. */
export class ReplyEncoding implements Encoding<ServerOutput> {
  readonly writeMessage = writeServerMessage;
  readonly #ownMaxBytes: number;
  /** The peer's payload limit: the limit of a short frame, until the peer sends another. */
  #peerMaxBytes = MAX_SHORT_PAYLOAD_BYTES;
  /** The lower of the peer's and the server's limit. */
  #maxReplyBytes: number;

  /** @param ownMaxBytes The largest payload that the server sends. */
  constructor(ownMaxBytes: number) {
    this.#ownMaxBytes = ownMaxBytes;
    this.#maxReplyBytes = Math.min(this.#peerMaxBytes, ownMaxBytes);
  }

  /** Sets the peer's payload limit. */
  setPeerMax(bytes: number): void {
    this.#peerMaxBytes = bytes;
    this.#maxReplyBytes = Math.min(bytes, this.#ownMaxBytes);
  }

  maxPayloadBytes(message: ServerOutput): number {
    if (!(message instanceof Reply)) return Infinity; // notices are always short
    const { outcome, call } = message;
    if (call !== undefined && call.code === undefined) return this.#maxReplyBytes; // no failure: the usual case
    if (isCodeAlone(outcome as RpcError)) return Infinity;
    // A refusal may exceed the server's own limit, but not the peer's.
    return call === undefined ? this.#peerMaxBytes : this.#maxReplyBytes;
  }

  /** Returns the replacement for a reply that could not be encoded. */
  onUnwritable(reply: ServerOutput, error: unknown): Reply<Call> | undefined {
    if (!(reply instanceof Reply)) throw error;
    const { call, outcome, seq, more } = reply;
    if (call === undefined) return new Reply(seq, reduced(outcome as RpcError), false);
    if (more && call.isSettled) return undefined; // its final reply is already sent
    // If the caller's own limit is the reason, only the caller gets the error.
    const isPeersLimit = error instanceof PayloadTooLargeError && error.limitBytes < this.#ownMaxBytes;
    if (!isPeersLimit) call.report(error);
    const failure = outcome instanceof Error ? reduced(outcome) : unwritable(error);
    if (more) return void call.fail(failure); // writes it now: the next call may begin as soon as this one is settled
    call.code = failure.code;
    return new Reply(seq, failure, false, call);
  }
}
