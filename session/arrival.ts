/**
 * Tells when what a connection has read may have arrived. While a server computes, requests wait in the operating system,
 * where it cannot see them; under more load than it can carry, that is most of their time.
 *
 * The runtime looks at all sockets in rounds, and completes all reads that are ready. So what a read brings arrived after
 * the round before; or after the connection's own last read, if none was pending in that round. A server that did not
 * compute has slept instead: what wakes it has just arrived.
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

/** Reads within this time count as one round: they complete together, before any of them is processed. */
const ROUND_MS = 0.5;

/** A server without work for this time has looked at its sockets, and waits for what comes. */
const PAUSE_MS = 1;

/** A server without work for this time is at rest: what comes next is no more of the load before. */
const REST_MS = 20;

/** The rounds of one server. */
export class Rounds {
  /** The number of rounds with a read. */
  count = 0;
  /** When the server was last at rest. */
  busySinceMs = -Infinity;
  /** When a call has last looked at the clock. */
  lookedMs = -Infinity;
  #startMs = -Infinity;
  #previousMs = -Infinity;
  #workedMs = -Infinity;

  /** A piece of work has ended. */
  worked(fromMs: number, toMs: number): void {
    if (fromMs - this.#workedMs >= REST_MS) this.busySinceMs = fromMs;
    this.#workedMs = toMs;
  }

  /** Work has waited for its turn until now, which is no rest. */
  waited(nowMs: number): void {
    this.#workedMs = nowMs;
  }

  /** Counts a read that has completed now. */
  countRead(nowMs: number): void {
    if (nowMs - this.#startMs < ROUND_MS) return;
    this.#previousMs = this.#startMs;
    this.#startMs = nowMs;
    this.count++;
  }

  /**
   * When the bytes of a read that has completed now may have arrived.
   *
   * @param begunIn The round in which the read began.
   * @param lastMs When the connection's own bytes before it arrived at the earliest.
   */
  oldestMs(nowMs: number, begunIn: number, lastMs: number): number {
    if (nowMs - this.#workedMs >= PAUSE_MS) return nowMs;
    const wasPending = this.count - begunIn >= 2;
    return Math.max(wasPending ? this.#previousMs : lastMs, this.busySinceMs);
  }
}
