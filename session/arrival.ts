/**
 * Tells how much work requests may have waited for before they were read. While a server computes, they wait in the operating
 * system, where it cannot see them; under more load than it can carry, that is most of their time.
 *
 * The runtime looks at all sockets between two pieces of work, and completes the reads that are pending. So what a read brings
 * has waited for no more work than was done since the look before; or, if the connection was not reading then, since its own
 * last read. A server without work waits at its sockets, and what wakes it has not waited at all.
 *
 * In: each read, and each piece of work. Out: how much work each request may have waited for. Refused: nothing.
 */

/** When requests that were read together arrived. */
export interface Arrival {
  /** When they were read, on the server's clock. */
  readonly readMs: number;
  /** The work that the server had done when they arrived at the earliest; see {@linkcode Arrivals.workAt}. */
  readonly afterWorkMs: number;
}

/**
 * A server without work for this time is at rest: it waits at its sockets, and what comes next is not part of the load before.
 * Between two pieces of work it needs less, also on a busy machine.
 */
const REST_MS = 20;

/** The work of one server, and its looks at its sockets. A look is known by the work before it. */
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

  /** A piece of work begins. */
  begin(nowMs: number): void {
    if (nowMs - this.workedMs >= REST_MS) this.busySinceMs = nowMs;
    this.#beganMs = nowMs;
  }

  /** It has ended. */
  end(nowMs: number): void {
    this.workMs = this.workAt(nowMs);
    this.workedMs = nowMs;
    this.#beganMs = Infinity;
  }

  /** A turn has ended: the looks at the sockets between two turns are work as well. */
  endTurn(nowMs: number): void {
    this.begin(nowMs - this.workedMs < REST_MS ? this.workedMs : nowMs);
    this.end(nowMs);
  }

  /** The work since the server started, with the current piece. */
  workAt(nowMs: number): number {
    return this.workMs + Math.max(0, nowMs - this.#beganMs);
  }

  /**
   * The work before the earliest arrival of what was read now.
   *
   * @param nowMs The time.
   * @param begun The work before the read began.
   * @param last The work before the connection's last read was complete.
   */
  earliest(nowMs: number, begun: number, last: number): number {
    const isRest = nowMs - this.workedMs >= REST_MS;
    const isLook = isRest || begun < this.workMs; // else it may have completed without one
    if (isLook && this.#look < this.workMs) {
      this.#lookBefore = this.#look;
      this.#look = this.workMs;
    }
    if (isRest) return this.workMs;
    return isLook && begun <= this.#lookBefore ? this.#lookBefore : last;
  }
}
