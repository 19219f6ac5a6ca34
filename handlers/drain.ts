/**
 * Tracks the graceful shutdown of a server: running calls are answered, new connections refused. What it means for one
 * connection is in `connection_drain.ts`.
 *
 * In: the steps of a shutdown, and the calls that it waits for. Out: their numbers. Refused: nothing.
 */

/** The state of a shutdown. */
export class Drain {
  /** Whether the shutdown waits for calls: from its start to the end of its grace period. */
  isWaiting = false;
  /** Whether new connections are refused: true after the port is closed. */
  isRefusing = false;
  /** Calls that finished while the shutdown waited. */
  finishedCalls = 0;
  /** Calls that were cut at the end of the grace period. */
  cutCalls = 0;
}
