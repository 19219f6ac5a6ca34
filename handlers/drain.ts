/**
 * The end of a server in order: what runs is answered, what comes is refused, silence ends a connection.
 *
 * In: the steps of a shutdown, and the calls that it waits for. Out: their numbers; the end of a quiet connection.
 */

import type { Clock, Timer } from "../transport/clock.ts";

/**
 * A draining connection is closed when it has been silent this long: whoever calls within this time is refused by name,
 * and can call elsewhere. A request that crosses the close on its way is lost, and the longer its caller had been silent, the
 * less likely it is to send one just then.
 */
const QUIET_MS = 1_000;

/** How far the shutdown of a server is, and what it has waited for. */
export class Drain {
  /**
   * `stopping`: the port is being given up, and calls that are finished from now on are counted. `refusing`: what comes
   * is answered `SHUTTING_DOWN`. `cutting`: the grace is over.
   */
  phase: "none" | "stopping" | "refusing" | "cutting" = "none";
  /** Calls that the shutdown waited for. */
  finishedCalls = 0;
  /** Calls that it did not wait for any longer. */
  cutCalls = 0;

  /** Whether calls that are finished now were waited for. */
  get isWaiting(): boolean {
    return this.phase === "stopping" || this.phase === "refusing";
  }

  /** Whether new requests and connections are refused. */
  get isRefusing(): boolean {
    return this.phase === "refusing" || this.phase === "cutting";
  }
}

/** Ends one draining connection when it has been quiet. */
export class QuietTimer {
  readonly #clock: Clock;
  readonly #onQuiet: () => void;
  #timer: Timer | undefined;

  constructor(clock: Clock, onQuiet: () => void) {
    this.#clock = clock;
    this.#onQuiet = onQuiet;
  }

  /** Something has come or gone: the time begins anew. */
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
