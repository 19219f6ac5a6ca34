/**
 * Tells when what a connection has read may have arrived. While a server computes, requests wait in the operating system,
 * where it cannot see them; under more load than it can carry, that is most of their time.
 *
 * The runtime looks at all sockets between two pieces of work, and completes all reads that have been pending. So what a read
 * brings arrived after the look before; or after the connection's own last read, if none was pending then. A server that did
 * not work has waited at its sockets instead: what wakes it has just arrived.
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

/** A server without work for this time waits at its sockets. */
const PAUSE_MS = 1;

/** A server without work for this time is at rest: what comes next is not part of the load before. */
const REST_MS = 20;

/** The reads of one server, and its work between them. */
export class Arrivals {
  /** When the server was last at rest. */
  busySinceMs = -Infinity;
  /** When it has last worked. */
  workedMs = -Infinity;
  /** The last two times that it has looked at its sockets. */
  #lookMs = -Infinity;
  #lookBeforeMs = -Infinity;
  /** When it had last worked at the last look. */
  #lookWorkedMs = -Infinity;

  /** A piece of work has ended. */
  worked(fromMs: number, toMs = fromMs): void {
    if (fromMs - this.workedMs >= REST_MS) this.busySinceMs = fromMs;
    this.workedMs = toMs;
  }

  /**
   * When the bytes of a read that has completed now may have arrived.
   *
   * @param begunMs When the server had last worked as the read began.
   * @param lastMs When the bytes of the connection's last read arrived.
   */
  oldestMs(nowMs: number, begunMs: number, lastMs: number): number {
    if (nowMs - this.workedMs >= PAUSE_MS) return nowMs;
    if (begunMs === this.workedMs) return Math.max(lastMs, this.busySinceMs); // it did not wait for a look
    if (this.workedMs !== this.#lookWorkedMs) {
      this.#lookBeforeMs = this.#lookMs;
      this.#lookMs = nowMs;
      this.#lookWorkedMs = this.workedMs;
    }
    const wasPending = begunMs < this.#lookBeforeMs;
    return Math.max(wasPending ? this.#lookBeforeMs : lastMs, this.busySinceMs);
  }
}
