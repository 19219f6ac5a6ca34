/**
 * Decides how many items of a stream its sender may send. Credit counts items, memory counts bytes: a window has as many
 * items as fit into its share of the budget, by the size of the items that have come. Both ends use it.
 *
 * In: items that come, items that the reader takes. Out: how many more to grant. Refused: items that were not granted.
 */

/** The share of a larger item's size that counts after one more item: a single large item is soon forgotten. */
const FADING = 0.9;

/** The memory for the items that come in on several streams. */
export class ItemBudget {
  /** Bytes of unread items, and of those that may still come, but for one item of each stream. */
  usedBytes = 0;
  /** Bytes of unread items. */
  unreadBytes = 0;
  /** Open streams. */
  streams = 0;
  readonly #limitBytes: number;
  readonly #streamBytes: number;

  /**
   * @param limitBytes All streams together.
   * @param streamBytes One stream.
   */
  constructor(limitBytes: number, streamBytes = limitBytes) {
    this.#limitBytes = limitBytes;
    this.#streamBytes = streamBytes;
  }

  /** Whether the items that are unread have used it up: senders had more credit than their items have room. */
  get isExceeded(): boolean {
    return this.unreadBytes > this.#limitBytes;
  }

  /** Counts bytes of items that have come, or that are not unread any more. */
  hold(bytes: number): void {
    this.unreadBytes += bytes;
  }

  /** How much a stream may use that uses `ownBytes` now. */
  shareBytes(ownBytes: number): number {
    const freeBytes = Math.max(0, this.#limitBytes - this.usedBytes);
    return Math.min(this.#streamBytes, this.#limitBytes / this.streams, ownBytes + freeBytes);
  }
}

/** The window of one stream. It takes nothing from the budget before it is open. */
export class ItemWindow {
  readonly #budget: ItemBudget;
  readonly #maxItems: number;
  /** Items that may still come. */
  #left = 0;
  #unreadItems = 0;
  #unreadBytes = 0;
  /** What the next item is expected to take: at first the largest that is allowed. */
  #itemBytes: number;
  /** Whether an item has come, and its size is known. */
  #knowsItems = false;
  #reservedBytes = 0;
  #state: "new" | "open" | "ended" | "closed" = "new";

  /**
   * @param budget The memory, shared with other streams.
   * @param maxItems The most items in the window.
   * @param maxItemBytes The largest item.
   */
  constructor(budget: ItemBudget, maxItems: number, maxItemBytes: number) {
    this.#budget = budget;
    this.#maxItems = maxItems;
    this.#itemBytes = maxItemBytes;
  }

  /** The size of the window, in items. */
  get size(): number {
    const items = Math.floor(this.#budget.shareBytes(this.#reservedBytes) / this.#itemBytes);
    return Math.max(1, Math.min(this.#maxItems, items));
  }

  /**
   * The sender may begin, or begin again elsewhere.
   *
   * @param items How many items it may send at first.
   */
  open(items: number): void {
    if (this.#state === "new") this.#budget.streams++;
    this.#state = "open";
    this.#left = items;
    this.#reserve();
  }

  /** Adds an item that has come. Returns false if it was not granted. */
  add(bytes: number): boolean {
    if (this.#left === 0) return false;
    this.#left--;
    this.#unreadItems++;
    this.#unreadBytes += bytes;
    this.#budget.hold(bytes);
    // Whole bytes: sums of fractions would not come back to 0.
    this.#itemBytes = this.#knowsItems ? Math.max(bytes, Math.floor(this.#itemBytes * FADING)) : bytes;
    this.#knowsItems = true;
    this.#reserve();
    return true;
  }

  /** The reader has taken an item. */
  take(bytes: number): void {
    this.#unreadItems--;
    this.#unreadBytes -= bytes;
    this.#budget.hold(-bytes);
    this.#reserve();
    if (this.#state === "ended" && this.#unreadItems === 0) this.close();
  }

  /**
   * The reader wants items.
   *
   * @returns How many more to grant, or 0. Half a window at a time, so that not every item costs a message.
   */
  grant(): number {
    if (this.#state !== "open") return 0;
    const { size } = this;
    const items = size - this.#left - this.#unreadItems;
    if (items < size / 2) return 0;
    this.#left += items;
    this.#reserve();
    return items;
  }

  /** No more items come. */
  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#left = 0;
    this.#reserve();
    if (this.#unreadItems === 0) this.close();
  }

  /** No more items come, and the unread ones are dropped. */
  close(): void {
    if (this.#state === "new" || this.#state === "closed") return;
    this.#state = "closed";
    this.#left = 0;
    this.#budget.hold(-this.#unreadBytes);
    this.#budget.usedBytes -= this.#reservedBytes;
    this.#budget.streams--;
  }

  /** One item is free: otherwise a few streams that wait for their first item would leave nothing for the others. */
  #reserve(): void {
    const bytes = Math.max(0, this.#unreadBytes + (this.#left - 1) * this.#itemBytes);
    this.#budget.usedBytes += bytes - this.#reservedBytes;
    this.#reservedBytes = bytes;
  }
}
