/**
 * Which errors another server has sent. A handler that calls one may let them pass; what they say of the request that
 * went there, its own caller must not take for a word about his own.
 *
 * In: an error that was made of a reply. Out: whether an error was.
 */

import type { RpcError } from "../errors.ts";

const received = new WeakSet<RpcError>();

/** Marks an error as one that came in a reply. */
export function markReceived(error: RpcError): RpcError {
  received.add(error);
  return error;
}

/** Whether an error came in a reply. */
export function isReceived(error: RpcError): boolean {
  return received.has(error);
}
