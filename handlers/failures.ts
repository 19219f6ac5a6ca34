/**
 * Decides which errors a caller gets as they are, and which are internal errors of the server.
 *
 * In: anything that a handler threw, or the reason why a reply could not be encoded. Out: the failure for the caller.
 * Refused: nothing.
 */

import { EncodeError, kindOf, PayloadTooLargeError } from "../codec/errors.ts";
import { beginningOf } from "../codec/text.ts";
import { isReceived, meaningOf, RpcError } from "../errors.ts";

/** The longest code in a reply (PROTOCOL.md, "Replies"). */
const MAX_CODE_BYTES = 64;

const encoder = new TextEncoder();

/** Whether a handler's own code may be in a reply. Untyped services may give any value. */
function isCode(code: unknown): code is string {
  return typeof code === "string" && code.length <= MAX_CODE_BYTES && encoder.encode(code).length <= MAX_CODE_BYTES;
}

/**
 * Whether a caller may get an error unchanged. If a handler's own call to another server failed, was not started or cut
 * there, or should continue elsewhere, that says nothing about this server.
 */
export function isForCaller(error: unknown): error is RpcError {
  return holds(() =>
    error instanceof RpcError && isCode(error.code) && meaningOf(error.code)?.saidBy !== "caller" &&
    !isOfAnother(error)
  );
}

/** Whether an error is that of another call, and says nothing about this one. */
function isOfAnother(error: RpcError): boolean {
  const { code } = error;
  return isReceived(error) &&
    (code === "GOING_AWAY" || code === "CANCELLED" || meaningOf(code)?.retryable === true);
}

/** An error as it may look, whatever was thrown. */
type Thrown = Partial<Record<"name" | "code" | "cause", unknown>>;

/**
 * Whether an error results from an abort. If a call to another server was aborted, the error is a `CANCELLED`, and the
 * reason is its cause, unless the handler has used a signal of its own.
 */
export function isAbort(error: unknown, reason: RpcError | undefined): boolean {
  return reason !== undefined && holds(() => {
    const { name, code } = error as Thrown;
    return isDueTo(error, reason) || name === "AbortError" || code === "CANCELLED" ||
      reason.code === "DEADLINE_EXCEEDED" && isTimeout(error);
  });
}

/**
 * Whether an error says that a time is over. A handler passes its deadline on to other calls, and one of them may end
 * first: then the handler's own time is over too.
 */
export function isTimeout(error: unknown): boolean {
  return holds(() => (error as Thrown).code === "TIMEOUT" || (error as Thrown).name === "TimeoutError");
}

/** Whether an error is the reason or has it as its cause, as errors of `setTimeout()` of `node:timers/promises` do. */
function isDueTo(error: unknown, reason: RpcError | undefined): boolean {
  return reason !== undefined && holds(() => error === reason || (error as Thrown).cause === reason);
}

/**
 * Whether a handler has ended by its signal `draining`. In Deno, `once()` and `on()` of `node:events` do not give the
 * reason with their error, and a call to another server may have been aborted by a signal of the handler's own.
 *
 * @param draining The signal's controller, if the handler has asked for the signal.
 */
export function isDrained(error: unknown, reason: RpcError, draining: AbortController | undefined): boolean {
  if (isDueTo(error, reason)) return true;
  return draining !== undefined && holds(() => {
    const { name, code, cause } = error as Thrown;
    return name === "AbortError" && cause === undefined || code === "CANCELLED";
  });
}

/** The failure that replaces a result that could not be encoded. */
export function unwritable(error: unknown): RpcError {
  if (error instanceof PayloadTooLargeError) return new RpcError("REPLY_TOO_LARGE", error.message);
  return new RpcError("REPLY_NOT_ENCODABLE", error instanceof EncodeError ? error.message : undefined);
}

/** What to report of an error that its caller does not get. An error with an impossible code does not say so itself. */
export function reported(error: unknown): unknown {
  if (!holds(() => error instanceof RpcError && !isCode(error.code))) return error;
  const { code } = error as RpcError;
  const shown = typeof code === "string" ? `"${beginningOf(code, MAX_CODE_BYTES)}…"` : kindOf(code);
  const text = `Cannot answer with ${shown} as the code: it must be text of at most ${MAX_CODE_BYTES} bytes`;
  return new TypeError(text, { cause: error });
}

/** Whether a failure has only a code, and maybe a time to wait. It is sent whatever the caller's payload limit is. */
export function isCodeAlone(failure: RpcError): boolean {
  return holds(() => {
    const { err, $after = 0, ...more } = failure.toJSON();
    return isCode(err) && typeof $after === "number" && Object.values(more).every((value) => value === undefined);
  });
}

/** Reduces a failure that could not be encoded: first removes its data, then its text, and at last its code. */
export function reduced(failure: RpcError): RpcError {
  try {
    const { err, msg, data } = failure.toJSON();
    if (data !== undefined && isCode(err)) return new RpcError(err, msg);
    if (!isCodeAlone(failure) && isCode(err)) return new RpcError(err);
  } catch {
    // Reading it throws.
  }
  return new RpcError("INTERNAL");
}

/** Tests an unknown thrown value: a getter or proxy may throw when it is read. */
function holds(said: () => boolean): boolean {
  try {
    return said();
  } catch {
    return false;
  }
}
