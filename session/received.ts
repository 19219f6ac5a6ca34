/**
 * Which errors were received in a reply. A handler that calls another server may let them pass; an `OVERLOADED` from there
 * says nothing about the request that the handler serves.
 *
 * In: an error made from a reply. Out: whether an error was. The mark holds across copies of the library, as the class does.
 */

import type { RpcError } from "../errors.ts";

const RECEIVED = Symbol.for("packline.received");

/** Marks an error as received in a reply. */
export function markReceived(error: RpcError): RpcError {
  return Object.defineProperty(error, RECEIVED, { value: true });
}

/** Whether an error was received in a reply. */
export function isReceived(error: RpcError): boolean {
  return RECEIVED in error;
}
