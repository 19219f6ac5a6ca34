/**
 * Reads a long payload in parts, so that other connections get their turn between them: 1 MiB can hold 90,000 new field
 * names, which take a tenth of a second.
 *
 * In: a reader at the start of a payload. Out: what the reader would return, key by key and value by value. Refused:
 * what the reader refuses, with the same errors. A payload that takes too much memory is read again to its end, and its
 * values are dropped: only its call fails if its `seq` is known.
 */

import { type Fields, isReservedParameter } from "./message.ts";
import { setField } from "./text.ts";
import type { Payload } from "./read_message.ts";
import type { Reader } from "./reader.ts";

/** How many values are read before others may get their turn: at most about 0.3 ms. */
const VALUES_AT_ONCE = 256;

/** A request that is first read ahead in parts, and then returned at once. */
export class LongPayload implements Payload {
  readonly #reader: Reader;
  /** The message's own fields, in the order received; a name may repeat. */
  readonly #names: string[] = [];
  readonly #values: unknown[] = [];
  /** All other fields: there may be many, so they are put into their map while they are read. */
  #others: Fields = {};
  /** Why the message is refused. Its values are then dropped, except the numbers that tell whose it is. */
  #refusal: string | undefined;
  #valuesRead = 0;
  #given = 0;

  /** @param reader A reader that has begun the payload. */
  constructor(reader: Reader) {
    this.#reader = reader;
  }

  /** Reads the payload. Others may get their turn at each step. The buffer must not change until the end. */
  *readAhead(): Generator<void, void> {
    const reader = this.#reader;
    const start = reader.position;
    try {
      yield* this.#readAll();
    } catch (error) {
      if (!reader.readAgain(start)) throw error;
      this.#refusal = (error as Error).message;
      this.#others = {};
      this.#names.length = this.#values.length = 0;
      yield* this.#readAll();
    }
  }

  *#readAll(): Generator<void, void> {
    const reader = this.#reader;
    for (let left = reader.readMapSize(); left > 0; left--) {
      if (++this.#valuesRead % VALUES_AT_ONCE === 0) yield;
      const key = reader.readKey();
      if (this.#refusal !== undefined) {
        const value = yield* this.#read();
        if (key === "cmd" || key === "seq") this.#keep(key, typeof value === "number" ? value : null);
      } else if (isReservedParameter(key)) {
        this.#keep(key, yield* this.#read());
      } else {
        reader.beginField(this.#others, key);
        setField(this.#others, key, yield* this.#read());
      }
    }
    reader.finish();
  }

  #keep(name: string, value: unknown): void {
    this.#names.push(name);
    this.#values.push(value);
  }

  /** Reads an array or a map and its content in parts, and any other value at once. */
  *#read(): Generator<void, unknown> {
    const reader = this.#reader;
    if (reader.isAtMap) {
      const map: Fields = {};
      for (let left = reader.readMapSize(); left > 0; left--) {
        if (++this.#valuesRead % VALUES_AT_ONCE === 0) yield;
        const key = reader.readKey();
        if (this.#refusal === undefined) reader.beginField(map, key);
        const value = reader.isAtContainer ? yield* this.#read() : reader.readValue();
        if (this.#refusal === undefined) setField(map, key, value);
      }
      reader.leave();
      return map;
    }
    if (!reader.isAtContainer) return reader.readValue();
    const array: unknown[] = [];
    for (let left = reader.readArraySize(); left > 0; left--) {
      if (++this.#valuesRead % VALUES_AT_ONCE === 0) yield;
      const value = reader.isAtContainer ? yield* this.#read() : reader.readValue();
      if (this.#refusal === undefined) array.push(value);
    }
    reader.leave();
    return array;
  }

  get weightBytes(): number {
    return this.#reader.weightBytes;
  }

  otherFields(): Fields {
    return this.#others;
  }

  readMapSize(): number {
    return this.#names.length;
  }

  readKey(): string {
    return this.#names[this.#given];
  }

  readValue(): unknown {
    return this.#values[this.#given++];
  }

  readName(): unknown {
    return this.readValue();
  }

  readField(map: Fields, key: string): void {
    setField(map, key, this.readValue());
  }

  finish(): string | undefined {
    return this.#refusal; // everything else was checked as it was read
  }
}
