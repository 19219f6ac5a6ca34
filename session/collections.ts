/**
 * A queue and a table for thousands of short-lived entries, for which `Array.shift()` and a `Map` cost too much. Counts
 * of failures by code.
 *
 * In: items; calls; codes. Out: the same items, in order; the same calls, by number; counts of at most 64 codes and of
 * all others together. Refused: nothing.
 */

/** The maximum number of codes that are counted separately: a handler may use its callers' text as a code. */
const MAX_CODES = 64;

/** The name under which all further codes are counted. */
export const OTHER_CODES = "OTHER";

/** A first-in, first-out queue. `Array.shift()` moves all other items, which takes 20 µs with 100,000 items. */
export class Fifo<Item> {
  /**
   * The number of items; only the queue changes it. It is a field, because a server reads it four times for each
   * request.
   */
  length = 0;
  /** The newest items, and the items before them in reverse order. */
  #coming: Item[] = [];
  #going: Item[] = [];

  push(item: Item): void {
    this.#coming.push(item);
    this.length++;
  }

  /** Removes the first item; `undefined` if the queue is empty. */
  shift(): Item | undefined {
    if (this.length === 0) return undefined;
    this.length--;
    if (this.#going.length === 0) [this.#coming, this.#going] = [this.#going, this.#coming.reverse()];
    return this.#going.pop();
  }

  /** Removes all items. */
  takeAll(): Item[] {
    const items: Item[] = [];
    while (this.length > 0) items.push(this.shift() as Item);
    return items;
  }
}

/**
 * Counts failures by code. No code is long (PROTOCOL.md, "Replies").
 *
 * @returns The name under which they are counted.
 */
export function countCode(codes: Map<string, number>, code: string, calls: number): string {
  const name = codes.has(code) || codes.size < MAX_CODES ? code : OTHER_CODES;
  codes.set(name, (codes.get(name) ?? 0) + calls);
  return name;
}

/** An entry with a number. */
interface Numbered {
  /** An integer from 0 up; must not change while it is in a table. */
  readonly id: number;
}

/** The smallest and the largest number of places; powers of two. */
const FIRST_PLACES = 16;
const MOST_PLACES = 1024;

/** The places of an unused table, which grows before its first call. */
const NO_PLACES: undefined[] = [undefined];

/**
 * The calls of one connection, found by their number. A `Map` whose entries come and go with every call costs the
 * garbage collector 14 % of a server's time, in pauses of 3 to 10 ms, because it leaves tables behind that point to
 * each other. An array leaves nothing behind.
 */
export class CallTable<Call extends Numbered> {
  /** Each call at the low bits of its number, so that consecutive numbers never share a place. */
  #places: (Call | undefined)[] = NO_PLACES;
  #inPlaces = 0;
  /** Calls whose place was taken. */
  #beside: Map<number, Call> | undefined;

  /** The number of calls. */
  get size(): number {
    return this.#beside === undefined ? this.#inPlaces : this.#inPlaces + this.#beside.size;
  }

  /** The call with this number. */
  get(id: number): Call | undefined {
    const call = this.#places[id & this.#places.length - 1];
    return call !== undefined && call.id === id ? call : this.#beside?.get(id);
  }

  /** Whether there is a call with this number. */
  has(id: number): boolean {
    return this.get(id) !== undefined;
  }

  /** Adds a call, whose number no other call has. */
  set(call: Call): void {
    if (2 * this.#inPlaces >= this.#places.length - 1 && this.#places.length < MOST_PLACES) this.#grow();
    const { id } = call;
    const place = id & this.#places.length - 1;
    if (this.#places[place] === undefined) {
      this.#places[place] = call;
      this.#inPlaces++;
    } else {
      (this.#beside ??= new Map()).set(id, call);
    }
  }

  /** Removes the call with this number. */
  delete(id: number): void {
    const place = id & this.#places.length - 1;
    if (this.#places[place]?.id === id) {
      this.#places[place] = undefined;
      this.#inPlaces--;
    } else {
      this.#beside?.delete(id);
    }
  }

  /** Removes all calls. */
  clear(): void {
    this.#places = NO_PLACES;
    this.#inPlaces = 0;
    this.#beside = undefined;
  }

  /** All calls, in any order. */
  *[Symbol.iterator](): Generator<Call, void> {
    for (const call of this.#places) if (call !== undefined) yield call;
    if (this.#beside !== undefined) yield* this.#beside.values();
  }

  /** All calls, in the order of their numbers. */
  values(): Call[] {
    return [...this].sort((a, b) => a.id - b.id);
  }

  #grow(): void {
    const calls = this.values();
    this.#places = new Array(Math.max(FIRST_PLACES, 2 * this.#places.length)).fill(undefined);
    this.#inPlaces = 0;
    this.#beside = undefined;
    for (const call of calls) this.set(call);
  }
}
