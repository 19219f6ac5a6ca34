/**
 * One request and all replies to it, on a connection of their own, as the article's client does it: without `seq`, and
 * with nothing else before or behind it on the wire.
 *
 * The library's client matches replies to calls and hands on what callers want of them. Here someone wants to see what
 * the server says, whole and as it comes: every field, every item of a stream.
 *
 * In: a connection, a request as a frame. Out: its replies; only the last is without `more`. Refused, by an `RpcError`:
 * an end before the last reply (`CONNECTION_LOST`), and what is no reply (`BAD_REPLY`).
 */

import { DecodeStage } from "../codec/decode.ts";
import { readReply, ReceivedReply, Truncated } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import type { Duplex } from "../transport/duplex.ts";
import { reasonOf } from "../transport/tls.ts";

/** Sends the request, and reads until the last reply. */
export async function* converse(duplex: Duplex, request: Uint8Array): AsyncGenerator<ReceivedReply, void> {
  const writing = duplex.writable.getWriter().write(request);
  // A server that refuses the connection may answer and close before it has read: the replies tell.
  writing.catch(() => {});
  const decode = new TransformStream(new DecodeStage(readReply, DEFAULT_LIMITS));
  try {
    for await (const batch of duplex.readable.pipeThrough(decode)) {
      for (const message of batch) {
        if (message instanceof Truncated) break;
        if (!(message instanceof ReceivedReply)) throw noReply("reason" in message ? message.reason : message.damage);
        if (!("res" in message.fields || "err" in message.fields)) throw noReply("it has neither res nor err");
        yield message;
        if (!message.more) return;
      }
    }
  } catch (error) {
    throw error instanceof RpcError ? error : lost(reasonOf(error), error);
  }
  throw lost("the server closed it before it had answered");

  function noReply(reason: string): RpcError {
    return new RpcError("BAD_REPLY", `what ${duplex.peer} sent is no reply: ${reason}`);
  }

  function lost(reason: string, cause?: unknown): RpcError {
    return new RpcError("CONNECTION_LOST", `the connection to ${duplex.peer} is lost: ${reason}`, { cause });
  }
}
