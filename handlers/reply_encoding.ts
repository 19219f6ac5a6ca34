/**
 * How the replies of one connection are written: how large they may be, and what is sent in place of one that cannot be.
 *
 * In: replies, and what the peer says it takes. Out: what the encode stage asks for.
 */

import type { Encoding } from "../codec/encode.ts";
import { PayloadTooLargeError } from "../codec/errors.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { Reply } from "../codec/message.ts";
import { writeReply } from "../codec/write_message.ts";
import type { RpcError } from "../errors.ts";
import type { Call } from "./call.ts";
import { isCodeAlone, reduced, unwritable } from "./failures.ts";

/** Writes the replies of one connection. */
export class ReplyEncoding implements Encoding<Reply<Call>> {
  readonly writeMessage = writeReply;
  readonly #ownMaxBytes: number;
  /** The largest payload that the peer takes: a short frame, until it has said otherwise. */
  #peerMaxBytes = MAX_SHORT_PAYLOAD_BYTES;
  /** The same, or this server's own limit if that is lower. */
  #maxReplyBytes: number;

  /** @param ownMaxBytes The largest payload that the server sends. */
  constructor(ownMaxBytes: number) {
    this.#ownMaxBytes = ownMaxBytes;
    this.#maxReplyBytes = Math.min(this.#peerMaxBytes, ownMaxBytes);
  }

  /** The peer has said how large a payload it takes. */
  setPeerMax(bytes: number): void {
    this.#peerMaxBytes = bytes;
    this.#maxReplyBytes = Math.min(bytes, this.#ownMaxBytes);
  }

  maxPayloadBytes({ outcome, call }: Reply<Call>): number {
    if (call !== undefined && call.code === undefined) return this.#maxReplyBytes; // no failure, as most
    if (isCodeAlone(outcome as RpcError)) return Infinity;
    // What this server says of its own accord may be over its own limit, not over the peer's.
    return call === undefined ? this.#peerMaxBytes : this.#maxReplyBytes;
  }

  /** A reply could not be written: this is what its caller gets in its place. */
  onUnwritable(reply: Reply<Call>, error: unknown): Reply<Call> | undefined {
    const { call, outcome, seq, more } = reply;
    if (call === undefined) return new Reply(seq, reduced(outcome as RpcError), false);
    if (more && call.isSettled) return undefined; // its final reply is on its way already
    // A caller that takes less than the server allows is told, and nobody else: that limit is its own.
    const isPeersLimit = error instanceof PayloadTooLargeError && error.limitBytes < this.#ownMaxBytes;
    if (!isPeersLimit) call.report(error);
    if (outcome instanceof Error) return new Reply(seq, reduced(outcome), false, call);
    const failure = unwritable(error);
    call.onUnwritable(failure, more);
    return new Reply(seq, failure, false, call);
  }
}
