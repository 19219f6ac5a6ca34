/**
 * The received items of a stream, at either end: the items that wait for the reader, and how many more the sender may
 * send. Credit counts items, and memory counts bytes. A window has as many items as fit into its share of the budget,
 * by the size of the items received so far.
 *
 * In: items, and the outcome of the stream. Out: the items in order, then the outcome, once; credit for more as the
 * reader takes them. Refused: items that were not granted.
 */

import { Fifo } from "./collections.ts";

/** The share of a larger item's size that counts after one more item, so that a single large item is soon forgotten. */
const FADING = 0.9;

/** What one stream may use before its first item shows how large its items are. */
const FIRST_BYTES = 4 * 1024 * 1024;

/** The result of `next()` of a stream. */
export type ItemResult = IteratorResult<unknown, unknown>;

/** The result of every `next()` after the end. */
export const DONE: ItemResult = Object.freeze({ done: true, value: undefined });

/** The items of one stream. */
export class ItemQueue {
  readonly #window: ItemWindow;
  readonly #grant: (items: number) => void;
  readonly #items = new Fifo<{ value: unknown; bytes: number }>();
  /** Calls of `next()` that wait for an item. */
  #waiting: PromiseWithResolvers<ItemResult>[] = [];
  /** What comes after the last item. */
  #outcome: ItemResult | Error | undefined;
  /** Whether the reader has left. Granted items may still come, and are dropped. */
  #isLeft = false;

  /**
   * @param window Decides how many items may be sent.
   * @param grant Sends credit for more items.
   */
  constructor(window: ItemWindow, grant: (items: number) => void) {
    this.#window = window;
    this.#grant = grant;
  }

  /** Unread items. */
  get length(): number {
    return this.#items.length;
  }

  /** Whether no more items are wanted, or none can come. */
  get isOver(): boolean {
    return this.#outcome !== undefined;
  }

  /** Adds an item. Returns false if it was not granted. */
  push(value: unknown, bytes: number): boolean {
    if (this.isOver && !this.#isLeft || !this.#window.add(bytes)) return false;
    const waiting = this.#waiting.shift();
    if (this.#isLeft) {
      this.#window.take(bytes);
    } else if (waiting === undefined) {
      this.#items.push({ value, bytes });
    } else {
      waiting.resolve({ done: false, value });
      this.#taken(bytes);
    }
    return true;
  }

  /** The next item, or the outcome. Not async, so that concurrent calls are served in order. */
  next(): Promise<ItemResult> {
    const item = this.#items.shift();
    if (item !== undefined) {
      this.#taken(item.bytes);
      return Promise.resolve({ done: false, value: item.value });
    }
    const waiting = Promise.withResolvers<ItemResult>();
    this.#waiting.push(waiting);
    if (this.#outcome !== undefined) this.#over(this.#outcome);
    else this.#grantMore();
    return waiting.promise;
  }

  /** The reader leaves, and takes no more items. */
  leave(): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    for (const { bytes } of this.#items.takeAll()) this.#window.take(bytes);
    this.#over(DONE);
  }

  /** No more items come. After the unread items, the reader gets this outcome. */
  end(outcome: ItemResult | Error): void {
    this.#window.end();
    if (!this.isOver) this.#over(outcome);
  }

  /** Drops the unread items, and takes no more. */
  drop(): void {
    this.#items.takeAll();
    this.#window.close();
  }

  /** Drops the unread items. The reader gets this outcome at once. */
  cut(outcome: ItemResult | Error): void {
    this.drop();
    if (!this.#isLeft) this.#over(outcome);
  }

  #taken(bytes: number): void {
    this.#window.take(bytes);
    this.#grantMore();
  }

  #grantMore(): void {
    const items = this.#window.grant();
    if (items > 0) this.#grant(items);
  }

  /** Gives the outcome to the first waiting `next()`, or the next one; all others get "done". */
  #over(outcome: ItemResult | Error): void {
    for (const waiting of this.#waiting) {
      if (outcome instanceof Error) waiting.reject(outcome);
      else waiting.resolve(outcome);
      outcome = DONE;
    }
    this.#outcome = outcome;
    this.#waiting = [];
  }
}

/** The memory for the received items of several streams. */
export class ItemBudget {
  /** Bytes of unread items and of items that may still come, except one item of each stream. */
  usedBytes = 0;
  /** Bytes of unread items. */
  unreadBytes = 0;
  /** Open streams. */
  streams = 0;
  /** The most that one stream may use after the size of its items is known. */
  readonly streamBytes: number;
  readonly #limitBytes: number;

  /**
   * @param limitBytes The limit of all streams together.
   * @param streamBytes The limit of one stream, after the size of its items is known.
   */
  constructor(limitBytes: number, streamBytes = limitBytes) {
    this.#limitBytes = limitBytes;
    this.streamBytes = streamBytes;
  }

  /** Whether the unread items exceed the budget, because senders had more credit than there is room for their items. */
  get isExceeded(): boolean {
    return this.unreadBytes > this.#limitBytes;
  }

  /** Counts the bytes of received items; negative for items that are no longer unread. */
  hold(bytes: number): void {
    this.unreadBytes += bytes;
  }

  /** How much a stream may use, if it uses `ownBytes` now. */
  shareBytes(ownBytes: number): number {
    const freeBytes = Math.max(0, this.#limitBytes - this.usedBytes);
    return Math.min(this.#limitBytes / this.streams, ownBytes + freeBytes);
  }
}

/** The window of one stream. It uses nothing of the budget before it is open. */
export class ItemWindow {
  readonly #budget: ItemBudget;
  readonly #maxItems: number;
  /** Items that may still come. */
  #left = 0;
  #unreadItems = 0;
  #unreadBytes = 0;
  /** The expected size of the next item: at first the largest that is allowed. */
  #itemBytes: number;
  /** Whether an item was received, so that its size is known. */
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
    const mostBytes = this.#knowsItems ? this.#budget.streamBytes : FIRST_BYTES;
    const bytes = Math.min(mostBytes, this.#budget.shareBytes(this.#reservedBytes));
    const items = Math.floor(bytes / this.#itemBytes);
    return Math.max(1, Math.min(this.#maxItems, items));
  }

  /**
   * The sender may begin, or begin again on another connection.
   *
   * @param items How many items it may send at first.
   */
  open(items: number): void {
    if (this.#state === "new") this.#budget.streams++;
    this.#state = "open";
    this.#left = items;
    this.#reserve();
  }

  /** Adds a received item. Returns false if it was not granted. */
  add(bytes: number): boolean {
    if (this.#left === 0) return false;
    this.#left--;
    this.#unreadItems++;
    this.#unreadBytes += bytes;
    this.#budget.hold(bytes);
    // Whole bytes, because sums of fractions would not return to 0.
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
   * @returns How many more to grant: at least half a window at a time, so that not every item costs a message; else 0.
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

  /** No more items come, and the unread items are dropped. */
  close(): void {
    if (this.#state === "new" || this.#state === "closed") return;
    this.#state = "closed";
    this.#left = 0;
    this.#budget.hold(-this.#unreadBytes);
    this.#budget.usedBytes -= this.#reservedBytes;
    this.#budget.streams--;
  }

  /**
   * One item of each stream is not counted. Otherwise a few streams that wait for their first item would leave nothing
   * for the others.
   */
  #reserve(): void {
    const bytes = Math.max(0, this.#unreadBytes + (this.#left - 1) * this.#itemBytes);
    this.#budget.usedBytes += bytes - this.#reservedBytes;
    this.#reservedBytes = bytes;
  }
}
