/**
 * How long a call waits before it is sent again, if a server refused it unstarted.
 *
 * In: the refusal. Out: a wait. Refused: nothing; whether the call may be sent again is decided elsewhere.
 */

import type { RpcError } from "../errors.ts";
import { longestWaitMs } from "./backoff.ts";

/** A server tells many callers the same time; they come back spread over this part of it. */
const SPREAD = 0.2;

/**
 * The wait before the next attempt, in milliseconds.
 *
 * @param refusal The server's error.
 * @param refusals How many came before it for this call.
 * @param random A random number from 0 to 1.
 */
export function retryWaitMs({ code, retryAfterMs }: RpcError, refusals: number, random: number): number {
  if (retryAfterMs !== undefined && retryAfterMs > 0) return retryAfterMs * (1 + SPREAD * random);
  if (code !== "OVERLOADED") return 0; // this server is about to end, others are not
  return random * longestWaitMs(refusals);
}
