/**
 * Tracks a graceful shutdown: running calls are answered, new connections refused, quiet connections closed.
 *
 * In: the steps of a shutdown, and the calls that it waits for. Out: their numbers; the end of quiet connections.
 */

import type { Clock, Timer } from "../transport/clock.ts";

/**
 * A draining connection is closed after this silence. A caller that sends a request within this time gets a refusal and
 * can call another server. A request that is sent just as the connection closes is lost; the longer the silence before,
 * the less likely that is.
 */
const QUIET_MS = 1_000;

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

/** Closes one draining connection after a silence. */
export class QuietTimer {
  readonly #clock: Clock;
  readonly #onQuiet: () => void;
  #timer: Timer | undefined;

  constructor(clock: Clock, onQuiet: () => void) {
    this.#clock = clock;
    this.#onQuiet = onQuiet;
  }

  /** Restarts the time after traffic. */
  restart(): void {
    this.stop();
    this.#timer = this.#clock.setTimer(
      () => {
        this.#timer = undefined;
        this.#onQuiet();
      },
      QUIET_MS,
      false,
    );
  }

  stop(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }
}
