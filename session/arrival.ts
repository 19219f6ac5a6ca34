/**
 * Tells how long what a connection has read may have waited for it. While a server computes, requests wait in the operating
 * system, where it cannot see them; under more load than it can carry, that is most of their time.
 *
 * The runtime looks at all sockets between two pieces of work, and completes the reads that are pending. So what a read brings
 * has waited for no more work than was done since the look before; or, if the connection was not reading then, since its own
 * last read. A server that does not work waits at its sockets, and what wakes it has not waited at all.
 *
 * In: each read, and each piece of work. Out: the earliest and the latest time of arrival. Refused: nothing.
 */

/** When requests that were read together arrived, on the server's clock. */
export interface Arrival {
  /** When they were read. */
  readonly readMs: number;
  /** They did not arrive before. */
  readonly oldestMs: number;
}

/** A server without work for this time waits at its sockets. Between two pieces of work, less is needed for reads and writes. */
const PAUSE_MS = 3;

/** A server without work for this time is at rest: what comes next is not part of the load before. */
const REST_MS = 20;

/** The work of one server, and its looks at its sockets. Each look is known by the work that was done before it. */
export class Arrivals {
  /** The work of the server since its start. */
  workMs = 0;
  /** When it has last worked. */
  workedMs = -Infinity;
  /** When it was last at rest. */
  busySinceMs = -Infinity;
  #look = 0;
  #lookBefore = 0;

  /** A piece of work has ended. */
  worked(fromMs: number, toMs: number): void {
    this.paused(fromMs);
    this.workMs += toMs - fromMs;
    this.workedMs = toMs;
  }

  /** Whatever the server has done up to now, it was not at its sockets only. */
  paused(nowMs: number): void {
    if (nowMs - this.workedMs >= REST_MS) this.busySinceMs = nowMs;
    this.workedMs = nowMs;
  }

  /**
   * How long the bytes of a read that has completed now may have waited for it, in milliseconds.
   *
   * @param nowMs The time.
   * @param begun The work of the server when the read began.
   * @param last The same for the connection's last read, when it completed.
   */
  waitedMs(nowMs: number, begun: number, last: number): number {
    const isPause = nowMs - this.workedMs >= PAUSE_MS;
    const isLook = begun < this.workMs || isPause; // else it may have completed at once
    if (isLook && this.#look < this.workMs) {
      this.#lookBefore = this.#look;
      this.#look = this.workMs;
    }
    return isPause ? 0 : this.workMs - (isLook && begun <= this.#lookBefore ? this.#lookBefore : last);
  }
}
