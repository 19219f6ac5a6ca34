/**
 * Holds the items of a stream that have come, until its reader takes them. Both ends use it.
 *
 * In: items, and the outcome of the stream. Out: the items in order, then the outcome, once; credit for more as the reader
 * takes them. Refused: items that were not granted.
 */

import { Fifo } from "./collections.ts";
import type { ItemWindow } from "./item_window.ts";

/** What `next()` of a stream gives. */
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
  /** The reader takes no more: items that were granted may still come, and are dropped. */
  #isLeft = false;

  /**
   * @param window Decides how many items may come.
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

  /** Whether no more items are wanted or can come. */
  get isOver(): boolean {
    return this.#outcome !== undefined;
  }

  /** Adds an item. Returns false if it was not granted. */
  push(value: unknown, bytes: number): boolean {
    if (this.#isLeft) return this.#drop();
    if (this.isOver || !this.#window.add(bytes)) return false;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) {
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
    if (this.isOver) this.#handOutcome();
    else this.#grantMore();
    return waiting.promise;
  }

  /** The reader takes no more. */
  leave(): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    for (const { bytes } of this.#items.takeAll()) this.#window.take(bytes);
    this.#outcome = DONE;
    this.#handOutcome();
  }

  /** No more items come: after the unread ones, the reader gets this outcome. */
  end(outcome: ItemResult | Error): void {
    this.#window.end();
    if (this.isOver) return;
    this.#outcome = outcome;
    this.#handOutcome();
  }

  /** Drops the unread items: the reader gets this outcome at once. */
  cut(outcome: ItemResult | Error): void {
    this.#items.takeAll();
    this.#window.close();
    if (this.#isLeft) return;
    this.#outcome = outcome;
    this.#handOutcome();
  }

  /** Counts an item that nobody reads. Returns false if it was not granted. */
  #drop(): boolean {
    if (!this.#window.add(0)) return false;
    this.#window.take(0);
    return true;
  }

  #taken(bytes: number): void {
    this.#window.take(bytes);
    this.#grantMore();
  }

  #grantMore(): void {
    const items = this.#window.grant();
    if (items > 0) this.#grant(items);
  }

  /** Gives the outcome to the first waiting `next()`; all others get "done". */
  #handOutcome(): void {
    for (const waiting of this.#waiting) {
      if (this.#outcome instanceof Error) waiting.reject(this.#outcome);
      else waiting.resolve(this.#outcome as ItemResult);
      this.#outcome = DONE;
    }
    this.#waiting = [];
  }
}
