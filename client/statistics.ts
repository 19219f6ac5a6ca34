/**
 * Counts what becomes of a client's calls.
 *
 * In: calls that begin, are sent again, and end. Out: numbers. A call costs three additions, and nothing is allocated; one
 * that fails costs a look in a map. Refused: nothing.
 */

import { RpcError } from "../errors.ts";

/** What a client counts, from its start. Streams count as calls. */
export interface ClientStatistics {
  /** Calls that have begun: `answered`, `failed`, `inFlight` or `waiting`. */
  begun: number;
  /** Calls that got a result; streams that ended, or that their readers left. */
  answered: number;
  /**
   * Calls that failed, by code: the server's codes, and the client's own, such as `TIMEOUT`. Of more than 64 codes, the
   * rest count as `OTHER`; so do errors without a code.
   */
  failed: Record<string, number>;
  /** Calls that were sent and are not answered yet. */
  inFlight: number;
  /** Calls that wait: for a connection, for a place among the calls in flight, or before they are sent again. */
  waiting: number;
  /** How often a call was sent again. */
  retried: number;
  /** How often a second copy of a call was sent, see `hedgeAfterMs`. */
  hedged: number;
  /** Replies and items that came after their call had ended. */
  lateReplies: number;
}

/** What became of the calls that were sent to one server. */
export interface SentCalls {
  /** Calls and streams that were sent to it, each time that they were. */
  sent: number;
  /** Those that it refused unstarted: `OVERLOADED`, `SHUTTING_DOWN`. */
  refused: number;
  /** Those that were lost with a connection. */
  lost: number;
}

/** More codes than these are not counted separately: a handler may use its callers' text as a code. */
const MAX_CODES = 64;

const OTHER = "OTHER";

/** The counts of one client. */
export class CallCounts {
  begun = 0;
  retried = 0;
  hedged = 0;
  lateReplies = 0;
  answered = 0;
  readonly #failed = new Map<string, number>();

  /** A call has failed. */
  failed(error: Error): void {
    let code: string = error instanceof RpcError ? error.code : OTHER;
    if (this.#failed.size >= MAX_CODES && !this.#failed.has(code)) code = OTHER;
    this.#failed.set(code, (this.#failed.get(code) ?? 0) + 1);
  }

  /**
   * All counts.
   *
   * @param waiting How many calls wait to be sent.
   */
  snapshot(waiting: number): ClientStatistics {
    const { begun, answered, retried, hedged, lateReplies } = this;
    const failed = [...this.#failed.values()].reduce((sum, calls) => sum + calls, 0);
    return {
      begun,
      answered,
      failed: Object.fromEntries(this.#failed),
      inFlight: begun - answered - failed - waiting,
      waiting,
      retried,
      hedged,
      lateReplies,
    };
  }
}
