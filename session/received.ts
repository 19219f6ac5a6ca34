/**
 * Marks errors that were received in a reply. If a handler calls another server and passes on its error, an
 * `OVERLOADED` from there says nothing about the request being handled here.
 *
 * In: the fields of a reply. Out: its error; whether an error was received. The mark works across copies of the
 * library. Refused: an `err` that is not text.
 */

import { AFTER, type Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";

const RECEIVED = Symbol.for("packline.received");

/** Marks an error as received in a reply. */
export function markReceived(error: RpcError): RpcError {
  return Object.defineProperty(error, RECEIVED, { value: true });
}

/** Whether an error was received in a reply. */
export function isReceived(error: RpcError): boolean {
  return RECEIVED in error;
}

/** The error of a reply. `started`: the call may have been started, even if the code says it was not. */
export function receivedError({ err, msg, data, [AFTER]: after }: Fields, started = false): RpcError {
  if (typeof err !== "string") return badReply("err is not text");
  const retryAfterMs = typeof after === "number" && after >= 0 ? after : undefined;
  const options = { data, retryable: started ? false : undefined, retryAfterMs };
  return markReceived(new RpcError(err, typeof msg === "string" ? msg : undefined, options));
}

/** A reply that breaks the protocol. */
export function badReply(text: string): RpcError {
  return new RpcError("BAD_REPLY", text);
}
