/**
 * What went wrong, as the caller is told, and what of it is an error of the server.
 *
 * In: whatever a handler has thrown, or the reason for which a reply could not be written. Out: the failure for the
 * caller. What the caller is told, or would have been told, is no error of the server's.
 */

import { EncodeError, PayloadTooLargeError } from "../codec/errors.ts";
import { meaningOf, RpcError } from "../errors.ts";
import { isReceived } from "../session/received.ts";

/**
 * Whether a caller may be told an error as it is. How a call of the handler's own has ended says nothing about this server, nor
 * does it that another server has not started a request.
 */
export function isForCaller(error: unknown): error is RpcError {
  return holds(() =>
    error instanceof RpcError && meaningOf(error.code)?.saidBy !== "caller" && !(error.retryable && isReceived(error))
  );
}

/** Whether an error says that an abort ended something; where that was a call of another server, the reason is its cause. */
export function isAbort(error: unknown, reason: RpcError | undefined): boolean {
  return reason !== undefined && holds(() => {
    const { name, cause } = error as Error;
    return error === reason || name === "AbortError" || cause === reason;
  });
}

/** The failure in place of a result that could not be written. */
export function unwritable(error: unknown): RpcError {
  if (error instanceof PayloadTooLargeError) return new RpcError("REPLY_TOO_LARGE", error.message);
  return new RpcError("REPLY_NOT_ENCODABLE", error instanceof EncodeError ? error.message : undefined);
}

/** Whether a failure is its code alone: that goes out in any case, however little the caller takes. */
export function isCodeAlone(failure: RpcError): boolean {
  return holds(() => {
    const { msg, data } = failure.toJSON();
    return msg === undefined && data === undefined;
  });
}

/** A failure that could not be written, with less: without its data, then without its text. */
export function reduced(failure: RpcError): RpcError {
  try {
    const { err, msg, data } = failure.toJSON();
    if (data !== undefined) return new RpcError(err, msg);
    if (msg !== undefined) return new RpcError(err);
  } catch {
    // A look at it throws.
  }
  return new RpcError("INTERNAL");
}

/** What is said of something that anybody may have thrown: a getter or a proxy can make a mere look at it throw. */
function holds(said: () => boolean): boolean {
  try {
    return said();
  } catch {
    return false;
  }
}
