/**
 * Estimates how much work requests may have waited for before they were read. While a server computes, requests wait in
 * the operating system, where the server cannot see them. Under overload, they wait there for most of their time.
 *
 * The runtime polls all sockets between two pieces of work, and completes the pending reads. So the input of a read has
 * waited at most for the work since the previous poll or, if the connection was not reading then, since its own last
 * read. A server without work waits at its sockets, and the input that wakes it has not waited at all.
 *
 * In: each read, and each piece of work. Out: how much work each request may have waited for. Refused: nothing.
 */

/** When requests that were read together arrived. */
export interface Arrival {
  /** When they were read, on the server's clock. */
  readonly readMs: number;
  /**
   * The work that the server had done at the earliest time at which they may have arrived; see
   * {@linkcode Arrivals.workAt}.
   */
  readonly afterWorkMs: number;
}

/**
 * A server without work for this time is at rest: it waits at its sockets, and the next input is not part of the
 * previous load. The time between two pieces of work is shorter, even on a busy machine. If the pauses since the last
 * known look are as long together, the runtime has polled in one of them.
 */
const REST_MS = 20;

/** The work of one server, and the polls of its sockets ("looks"). A look is identified by the work before it. */
export class Arrivals {
  /** The work since the server started, in milliseconds, without the current piece. */
  workMs = 0;
  /** When the last piece of work ended. */
  workedMs = -Infinity;
  /** When the server was last at rest. */
  busySinceMs = -Infinity;
  #beganMs = Infinity;
  #look = 0;
  #lookBefore = 0;
  /** The time without work since the last known look. */
  #idleMs = 0;

  /** A piece of work begins. */
  begin(nowMs: number): void {
    const idleMs = nowMs - this.workedMs;
    if (idleMs >= REST_MS) this.busySinceMs = nowMs;
    this.#idleMs += idleMs;
    if (this.#idleMs >= REST_MS) this.#looked(); // the reads of a single busy connection never show a look
    this.#beganMs = nowMs;
  }

  /** The piece of work has ended. */
  end(nowMs: number): void {
    this.workMs = this.workAt(nowMs);
    this.workedMs = nowMs;
    this.#beganMs = Infinity;
  }

  /** A turn has ended. The looks at the sockets between two turns count as work too. */
  endTurn(nowMs: number): void {
    this.begin(nowMs - this.workedMs < REST_MS ? this.workedMs : nowMs);
    this.end(nowMs);
  }

  /** The work since the server started, with the current piece. */
  workAt(nowMs: number): number {
    return this.workMs + Math.max(0, nowMs - this.#beganMs);
  }

  /**
   * The work before the earliest possible arrival of the input that was just read.
   *
   * @param nowMs The time.
   * @param begun The work before the read began.
   * @param last The work before the connection's last read was complete.
   */
  earliest(nowMs: number, begun: number, last: number): number {
    const isRest = nowMs - this.workedMs >= REST_MS;
    const isLook = isRest || begun < this.workMs; // otherwise the read may have completed without a look
    if (isLook && this.#look < this.workMs) this.#looked();
    if (isRest) return this.workMs;
    return isLook && begun <= this.#lookBefore ? this.#lookBefore : last;
  }

  /** The runtime has polled the sockets, after all the work so far. */
  #looked(): void {
    this.#lookBefore = this.#look;
    this.#look = this.workMs;
    this.#idleMs = 0;
  }
}
