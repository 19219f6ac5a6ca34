/**
 * Time for upper bounds: the ticks of a timer, counted. A busy machine delays the ticks as it delays what is measured, so
 * a bound that holds on an idle machine holds on a busy one. It never shows more than a clock does.
 */

const TICK_MS = 10;

/** Counts from its making to its disposal. */
export class TickedTime implements Disposable {
  #count = 0;
  readonly #timer = setInterval(() => this.#count++, TICK_MS);

  /** The time so far, in milliseconds. */
  get ms(): number {
    return this.#count * TICK_MS;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
