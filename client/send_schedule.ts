/**
 * When a client writes: at the end of this turn of the event loop, so that what is asked for in one turn leaves in one
 * write. After a silence it looks first whether the server has closed the connection, which is only read then.
 *
 * In: word that there is something to write. Out: a call back.
 */

import type { Clock } from "../transport/clock.ts";

/** How long nothing came and went before the end of the connection is looked for. */
const QUIET_MS = 1_000;

/** The schedule of one connection. */
export class SendSchedule {
  readonly #clock: Clock;
  readonly #send: () => void;
  #isScheduled = false;
  #isClosed = false;
  /** When something last came or went. */
  #lastUseMs: number;
  #look: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param clock Whose time.
   * @param send Called when it is time to write.
   */
  constructor(clock: Clock, send: () => void) {
    this.#clock = clock;
    this.#send = send;
    this.#lastUseMs = clock.now();
  }

  /** Something came or went. */
  used(nowMs: number): void {
    this.#lastUseMs = nowMs;
  }

  /** There is something to write. */
  wake(): void {
    if (this.#isScheduled || this.#isClosed) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      const wasQuiet = this.#clock.now() - this.#lastUseMs >= QUIET_MS;
      // The runtime looks at its sockets before a timer fires: what waits there is read first.
      if (wasQuiet && !this.#isClosed) this.#look = setTimeout(() => this.#fire(), 0);
      else this.#fire();
    });
  }

  /** Calls back no more, and leaves no timer. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#look);
  }

  #fire(): void {
    this.#isScheduled = false;
    if (!this.#isClosed) this.#send();
  }
}
