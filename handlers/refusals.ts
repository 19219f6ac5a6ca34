/**
 * Makes the errors for requests that an overloaded server does not start, and counts them. Creating an error takes 2 µs, and
 * one read can contain 16,000 requests to refuse, so requests that waited equally long share one.
 *
 * In: how long such a request has waited. Out: `OVERLOADED`, with that time as `$after`: a request that comes at once would
 * wait as long. Refused: nothing.
 */

import { RpcError } from "../errors.ts";
import type { Arrival } from "../session/arrival.ts";

/** The refusals of one server. */
export class Refusals {
  count = 0;
  #atLimit = new RpcError("OVERLOADED");
  #tooLate = this.#atLimit;

  /** For a request beyond a limit of the server. */
  atLimit({ readMs, oldestMs }: Arrival): RpcError {
    this.count++;
    const waitedMs = Math.ceil(readMs - oldestMs) || undefined;
    if (this.#atLimit.retryAfterMs !== waitedMs) {
      this.#atLimit = new RpcError("OVERLOADED", undefined, { retryAfterMs: waitedMs });
    }
    return this.#atLimit;
  }

  /** For a request that cannot be answered in time. */
  tooLate(waited: number): RpcError {
    this.count++;
    const waitedMs = Math.ceil(waited);
    if (this.#tooLate.retryAfterMs !== waitedMs) {
      const text = `the server is busy: the request may have waited for ${waitedMs} ms, which is longer than its ttl`;
      this.#tooLate = new RpcError("OVERLOADED", text, { retryAfterMs: waitedMs });
    }
    return this.#tooLate;
  }
}
