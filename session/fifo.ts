/**
 * A first-in, first-out queue. `Array.shift()` moves all other items, which takes 20 µs with 100,000 items.
 *
 * In: items. Out: the same items, in order. Refused: nothing.
 */

/** How many slots at the front may be empty before the rest is moved. */
const SLACK = 1024;

export class Fifo<Item> {
  #items: (Item | undefined)[] = [];
  #next = 0;

  get length(): number {
    return this.#items.length - this.#next;
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  /** Removes the first item; `undefined` if the queue is empty. */
  shift(): Item | undefined {
    if (this.#next === this.#items.length) return undefined;
    const item = this.#items[this.#next];
    this.#items[this.#next++] = undefined; // releases the item
    if (this.#next === this.#items.length || this.#next > SLACK && 2 * this.#next > this.#items.length) {
      this.#items.splice(0, this.#next);
      this.#next = 0;
    }
    return item;
  }

  /** Removes all items. */
  takeAll(): Item[] {
    const items = this.#items.slice(this.#next) as Item[];
    this.#items = [];
    this.#next = 0;
    return items;
  }
}
