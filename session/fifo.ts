/**
 * A first-in, first-out queue. `Array.shift()` moves all other items, which takes 20 µs with 100,000 items.
 *
 * In: items. Out: the same items, in order. Refused: nothing.
 */

/** How many slots at the front may be empty before the rest is moved. */
const SLACK = 1024;

export class Fifo<Item> {
  /** The number of items; only the queue changes it. */
  length = 0;
  #items: (Item | undefined)[] = [];
  #next = 0;

  push(item: Item): void {
    this.#items.push(item);
    this.length++;
  }

  /** Removes the first item; `undefined` if the queue is empty. */
  shift(): Item | undefined {
    if (this.length === 0) return undefined;
    this.length--;
    const item = this.#items[this.#next];
    this.#items[this.#next++] = undefined; // releases the item
    if (this.length === 0 || this.#next > SLACK && 2 * this.#next > this.#items.length) {
      this.#items.splice(0, this.#next);
      this.#next = 0;
    }
    return item;
  }

  /** Removes all items. */
  takeAll(): Item[] {
    const items = this.#items.slice(this.#next) as Item[];
    this.#items = [];
    this.#next = this.length = 0;
    return items;
  }
}
