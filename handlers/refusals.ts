/**
 * Makes the errors for requests that an overloaded server does not start. Creating an error takes 2 µs, and one read can
 * contain 16,000 requests to refuse, so they share errors.
 *
 * In: the reason. Out: `OVERLOADED`. Refused: nothing.
 */

import { RpcError } from "../errors.ts";

/** For a request beyond a limit of the server. */
export const AT_LIMIT = new RpcError("OVERLOADED");

let tooLate = AT_LIMIT;

/**
 * For a request that could not be answered in time.
 *
 * @param waited How long it may have waited, in ms. As `$after`, because a request that comes at once would wait as long.
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
