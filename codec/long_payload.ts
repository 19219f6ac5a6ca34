/**
 * Reads a long payload in parts, so that other connections get their turn between them: 1 MiB can hold 90,000 new field
 * names, which take a tenth of a second.
 *
 * In: a reader at the start of a payload. Out: what the reader would return, key by key and value by value. Refused:
 * what the reader refuses, with the same errors.
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
  readonly #others: Fields = {};
  #valuesRead = 0;
  #given = 0;

  /** @param reader A reader that has begun the payload. */
  constructor(reader: Reader) {
    this.#reader = reader;
  }

  /** Reads the payload. Others may get their turn at each step. The buffer must not change until the end. */
  *readAhead(): Generator<void, void> {
    const reader = this.#reader;
    for (let left = reader.readMapSize(); left > 0; left--) {
      if (++this.#valuesRead % VALUES_AT_ONCE === 0) yield;
      const key = reader.readKey();
      if (isReservedParameter(key)) {
        this.#names.push(key);
        this.#values.push(yield* this.#read());
      } else {
        reader.beginField(this.#others, key);
        setField(this.#others, key, yield* this.#read());
      }
    }
    reader.finish();
  }

  /** Reads an array or a map and its content in parts, and any other value at once. */
  *#read(): Generator<void, unknown> {
    const reader = this.#reader;
    if (reader.isAtMap) {
      const map: Fields = {};
      for (let left = reader.readMapSize(); left > 0; left--) {
        if (++this.#valuesRead % VALUES_AT_ONCE === 0) yield;
        const key = reader.readKey();
        reader.beginField(map, key);
        setField(map, key, reader.isAtContainer ? yield* this.#read() : reader.readValue());
      }
      reader.leave();
      return map;
    }
    if (!reader.isAtContainer) return reader.readValue();
    const array: unknown[] = [];
    for (let left = reader.readArraySize(); left > 0; left--) {
      if (++this.#valuesRead % VALUES_AT_ONCE === 0) yield;
      array.push(reader.isAtContainer ? yield* this.#read() : reader.readValue());
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

  finish(): void {} // it was checked as it was read
}
