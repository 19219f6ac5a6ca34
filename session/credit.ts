/**
 * How many items of a stream may still come: a window that the receiver opens and the sender uses up. Both ends of a
 * stream count it the same way.
 *
 * In: items, and grants. Out: whether an item may be sent or is allowed; when to grant more.
 */
export class CreditWindow {
  /** Items that may still come. */
  left: number;
  readonly #size: number;
  /** Items that the reader has taken and that were not granted again. */
  #taken = 0;

  /** @param items How many may come at first. */
  constructor(items: number) {
    this.left = items;
    this.#size = items;
  }

  /** Uses up one item; `false` if there is no credit for it. */
  use(): boolean {
    if (this.left === 0) return false;
    this.left--;
    return true;
  }

  /** The receiver grants more. */
  grant(items: number): void {
    this.left += items;
  }

  /**
   * The reader has taken an item.
   *
   * @returns How many items to grant now. Half a window at a time, so that not every item costs a message; else 0.
   */
  take(): number {
    if (++this.#taken < this.#size / 2) return 0;
    const items = this.#taken;
    this.#taken = 0;
    this.grant(items);
    return items;
  }
}
