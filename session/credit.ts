/**
 * Counts how many stream items the receiver still accepts. Both ends of a stream use the same count.
 *
 * In: items and grants. Out: whether an item may be sent or accepted; when to grant more. Refused: nothing.
 */
export class CreditWindow {
  /** Items that may still be sent. */
  left: number;
  readonly #size: number;
  /** Items that the reader has consumed since the last grant. */
  #taken = 0;

  /** @param items The initial credit. */
  constructor(items: number) {
    this.left = items;
    this.#size = items;
  }

  /** Uses one credit; `false` if none is left. */
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
   * The reader has consumed an item.
   *
   * @returns How many items to grant now, or 0. Grants half a window at a time, so that not every item costs a message.
   */
  take(): number {
    if (++this.#taken < this.#size / 2) return 0;
    const items = this.#taken;
    this.#taken = 0;
    this.grant(items);
    return items;
  }
}
