/**
 * Which errors were received in a reply. A handler that calls another server may let them pass; an `OVERLOADED` from there
 * says nothing about the request that the handler serves.
 *
 * In: the fields of a reply. Out: its error, and of any error whether it was received. The mark holds across copies of the library, as the class does.
 */

import type { Fields } from "../codec/message.ts";
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

/** What the server says went wrong, and whether the call may have been started, though it says otherwise. */
export function receivedError({ err, msg, data }: Fields, started = false): RpcError {
  if (typeof err !== "string") return badReply("err is not text");
  const options = { data, retryable: started ? false : undefined };
  return markReceived(new RpcError(err, typeof msg === "string" ? msg : undefined, options));
}

/** A reply that breaks the protocol. */
export function badReply(text: string): RpcError {
  return new RpcError("BAD_REPLY", text);
}
