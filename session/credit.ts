/**
 * Counts how many items of a stream its receiver still takes. Both ends use it for what they send.
 *
 * In: items and grants. Out: whether an item may be sent; a promise of more. Refused: nothing.
 */
export class CreditWindow {
  /** Items that may still be sent. */
  left: number;
  #wake: (() => void) | undefined;

  /** @param items The initial credit. */
  constructor(items: number) {
    this.left = items;
  }

  /** Uses one credit. */
  use(): void {
    this.left--;
  }

  /** The receiver takes more. */
  grant(items: number): void {
    this.left += items;
    this.wake();
  }

  /** Resolves when there is more, or by {@linkcode CreditWindow.wake}. */
  granted(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  /** Lets the sender look again: its stream may be over. */
  wake(): void {
    this.#wake?.();
  }
}
