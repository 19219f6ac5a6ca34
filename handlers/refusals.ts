/**
 * Makes the errors for requests that are not started, because the server is overloaded or because a stream is missing.
 * Creating an error takes 2 µs, and one read can contain 16,000 requests to refuse, so `OVERLOADED` errors are shared.
 *
 * In: the reason. Out: `OVERLOADED`, `INVALID_PARAMS`. Refused: nothing.
 */

import { RpcError } from "../errors.ts";

/** For a request beyond a limit of the server. */
export const AT_LIMIT = new RpcError("OVERLOADED");

let tooLate = AT_LIMIT;

/**
 * For a request that could not be answered in time.
 *
 * @param waited How long it may have waited, in ms. Also sent as `$after`: a request sent at once would wait as long.
 */
export function tooLateAfter(waited: number): RpcError {
  const waitedMs = Math.ceil(waited);
  if (tooLate.retryAfterMs !== waitedMs) {
    const text =
      `the server is busy: the request may have waited for ${waitedMs} ms of other work, too long for its ttl`;
    tooLate = new RpcError("OVERLOADED", text, { retryAfterMs: waitedMs });
  }
  return tooLate;
}

/** The issue at the path `items`, for a call without the stream that its command takes. */
export const NEEDS_ITEMS = "must be a stream of items";

/** For a call without the stream that its command takes. The option is called `items` in every client library. */
export function withoutItems(command: string): RpcError {
  const text = `${command} takes a stream of items, and the call has none: give one as the option items`;
  return new RpcError("INVALID_PARAMS", text, { data: [{ path: ["items"], message: NEEDS_ITEMS }] });
}
