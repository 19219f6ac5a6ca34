/**
 * Shows on a terminal how long the user has waited for a reply.
 *
 * In: the start and end of a wait. Out: a status on stderr, after the first second. Refused: nothing; without a
 * terminal on stderr, nothing is shown.
 */

import { showStatus } from "./output.ts";

const EVERY_MS = 1000;

/** Shows one wait at a time. */
export class WaitingSign {
  readonly #hint: () => string;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param hint Returns a text to show after the time. */
  constructor(hint: () => string) {
    this.#hint = hint;
  }

  /** Starts a wait. */
  start(): void {
    const startMs = performance.now();
    this.#timer = setInterval(() => {
      showStatus(`waiting, ${Math.round((performance.now() - startMs) / 1000)} s; ${this.#hint()}`);
    }, EVERY_MS);
  }

  /** Ends the wait. */
  stop(): void {
    clearInterval(this.#timer);
    showStatus("");
  }
}
