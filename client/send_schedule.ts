/**
 * Decides when a client writes: at the end of the current turn of the event loop, so that all calls of one turn leave
 * in one write. After a quiet time, it first checks whether the server has closed the connection.
 *
 * In: a request to write. Out: a callback. Refused: nothing.
 */

import type { Clock } from "../transport/clock.ts";

/** After this long without traffic, check for a closed connection first. */
const QUIET_MS = 1_000;

/** The schedule of one connection. */
export class SendSchedule {
  readonly #clock: Clock;
  readonly #send: () => void;
  #isScheduled = false;
  #isClosed = false;
  /** The time of the last traffic. */
  #lastUseMs: number;
  #look: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param clock The clock for quiet times.
   * @param send Called when it is time to write.
   */
  constructor(clock: Clock, send: () => void) {
    this.#clock = clock;
    this.#send = send;
    this.#lastUseMs = clock.now();
  }

  /** Records traffic. */
  used(nowMs: number): void {
    this.#lastUseMs = nowMs;
  }

  /** Schedules a write. */
  wake(): void {
    if (this.#isScheduled || this.#isClosed) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      const wasQuiet = this.#clock.now() - this.#lastUseMs >= QUIET_MS;
      // The runtime polls its sockets before a timer fires, so pending input is read first.
      if (wasQuiet && !this.#isClosed) this.#look = setTimeout(() => this.#fire(), 0);
      else this.#fire();
    });
  }

  /** Cancels the schedule and its timer. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#look);
  }

  #fire(): void {
    this.#isScheduled = false;
    if (!this.#isClosed) this.#send();
  }
}
