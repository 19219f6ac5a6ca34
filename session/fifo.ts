/**
 * A first-in, first-out queue. `Array.shift()` moves all other items, which takes 20 µs with 100,000 items.
 *
 * In: items. Out: the same items, in order. Refused: nothing.
 */

export class Fifo<Item> {
  /** What has come, and before that, turned round, what goes next. */
  #coming: Item[] = [];
  #going: Item[] = [];

  /** The number of items. */
  get length(): number {
    return this.#coming.length + this.#going.length;
  }

  push(item: Item): void {
    this.#coming.push(item);
  }

  /** Removes the first item; `undefined` if the queue is empty. */
  shift(): Item | undefined {
    if (this.#going.length === 0) [this.#coming, this.#going] = [this.#going, this.#coming.reverse()];
    return this.#going.pop();
  }

  /** Removes all items. */
  takeAll(): Item[] {
    const items = [...this.#going.reverse(), ...this.#coming];
    this.#coming = [];
    this.#going = [];
    return items;
  }
}
