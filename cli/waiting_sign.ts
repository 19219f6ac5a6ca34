/**
 * What a terminal shows while a reply is awaited: for how long already.
 *
 * In: when a wait begins and when it ends. Out: a status on stderr, from the first second on. Refused: nothing; where
 * stderr is no terminal, nothing is shown.
 */

import { showStatus } from "./output.ts";

const EVERY_MS = 1000;

/** One wait after the other. */
export class WaitingSign {
  readonly #hint: string;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param hint What can be done about it. */
  constructor(hint: string) {
    this.#hint = hint;
  }

  /** A wait begins. */
  start(): void {
    const startMs = performance.now();
    this.#timer = setInterval(() => {
      showStatus(`waiting, ${Math.round((performance.now() - startMs) / 1000)} s; ${this.#hint}`);
    }, EVERY_MS);
  }

  /** It has ended. */
  stop(): void {
    clearInterval(this.#timer);
    showStatus("");
  }
}
