/**
 * Reads MessagePack directly from the buffer that the socket filled.
 *
 * In: one payload, as a range of a buffer. Out: its top-level map, key by key and value by value. A result shares no
 * memory with the buffer, which may be overwritten at once. One exception: binary data that takes at least half of the
 * buffer gets the whole buffer, if nothing else will be in it. Refused, by a {@linkcode DecodeError} whose text
 * contains nothing from the peer: missing or extra bytes, extension types, the byte 0xc1, and violations of the rules
 * below.
 *
 * The values are the same as from `@std/msgpack`, which also reads longer binary data here. Intended differences
 * (PROTOCOL.md, "Values"):
 * - Text is strict UTF-8 and keeps a byte order mark; `@std/msgpack` inserts U+FFFD and drops the mark.
 * - An integer within ±(2^53 - 1) is a number in any width, others are bigints. An integer key becomes its decimal
 *   text. A float cannot be a key.
 * - Depth and memory (`message.ts`) are limited. A declared size is compared with the remaining bytes before anything
 *   is allocated.
 * - Binary data is a copy, or the only view of its buffer. `__proto__` is a normal key, whatever flags the runtime has.
 */

import { decode } from "jsr:@std/msgpack@^1.0.3/decode";
import { DecodeError } from "./errors.ts";
import { newBuffer } from "./frame.ts";
import type { Payload } from "./read_message.ts";
import { keepAsTable, keyAt, setField, textAt } from "./text.ts";
import {
  ARRAY_WEIGHT,
  BINARY_WEIGHT,
  ELEMENT_WEIGHT,
  FIELD_WEIGHT,
  INDEXED_FIELD_WEIGHT,
  INTEGER64_WEIGHT,
  isIndexed,
  MAP_WEIGHT,
  MESSAGE_WEIGHT,
  SHORT_KEY_BYTES,
  TEXT_BYTE_WEIGHT,
  TEXT_WEIGHT,
} from "./message.ts";

/** The npm copy has no types, so they are declared here. */
const stdDecode: (bytes: Uint8Array) => unknown = decode;

/** Up to this length a loop is faster than a call of `@std/msgpack`. */
const SHORT_BINARY = 256;

/** From this size on, a buffer is given away. Below it, the copy costs less than the next buffer. */
const LEAST_GIVEN_BYTES = 8 * 1024;

/** The buffer before the first payload. */
const NO_BYTES = new Uint8Array(0);

/** Converts bytes to a float or a 64-bit integer. */
const float = new DataView(new ArrayBuffer(8));

// Each error is made once, because making an error takes 2 µs and throwing it takes a tenth of that. One read from a
// peer can contain twenty thousand invalid payloads.
const TOO_SHORT = new DecodeError("the message ends too early");
const LEFT_OVER = new DecodeError("bytes are left over");
const NO_MAP = new DecodeError("a message must be a map");
const NO_KEY = new DecodeError("a key must be text or an integer");
const NO_VALUE = new DecodeError("0xc1 is not a value");
const EXTENSION = new DecodeError("extension types are not accepted");

/** Reads payloads one by one; after an error, the next `begin` resets the reader. */
export class Reader implements Payload {
  readonly #maxDepth: number;
  readonly #maxMessageBytes: number;
  #bytes: Uint8Array = NO_BYTES;
  #position = 0;
  #end = 0;
  #depth = 0;
  /** The memory used by the values read since {@linkcode Reader.begin}, in bytes; only the reader counts it. */
  weightBytes = 0;
  /** The last map that was converted to a hash table. */
  #table: object | undefined;
  /**
   * Whether the buffer was given away and belongs to the receiver of a message; reset by {@linkcode Reader.release}.
   */
  hasGivenAway = false;
  /** The end of a payload after which the buffer stays empty: its binary data may get the whole buffer. */
  lastPayloadEnd = -1;
  #tooHeavy: DecodeError | undefined;
  #tooDeep: DecodeError | undefined;

  /** @param limits `maxDepth`: nested containers, with the top one; `maxMessageBytes`: memory for one message. */
  constructor({ maxDepth, maxMessageBytes }: { maxDepth: number; maxMessageBytes: number }) {
    this.#maxDepth = maxDepth;
    this.#maxMessageBytes = maxMessageBytes;
  }

  /**
   * Starts a payload.
   *
   * @param bytes The buffer.
   * @param start Its first byte.
   * @param end One past its last byte.
   */
  begin(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes = bytes;
    this.#position = start;
    this.#end = end;
    this.#depth = 0;
    this.weightBytes = MESSAGE_WEIGHT;
  }

  /** @returns An empty object, into which the fields are read one by one. */
  otherFields(): Record<string, unknown> {
    return {};
  }

  /** Whether the next value is an array or a map. */
  get isAtContainer(): boolean {
    const type = this.#bytes[this.#position];
    return type >> 5 === 0x4 || type >= 0xdc && type <= 0xdf;
  }

  /** Whether the next value is a map. */
  get isAtMap(): boolean {
    const type = this.#bytes[this.#position];
    return type >> 4 === 0x8 || type === 0xde || type === 0xdf;
  }

  /** Enters the array that is next. Returns how many values follow. After them, call {@linkcode Reader.leave}. */
  readArraySize(): number {
    const type = this.#uint8();
    const size = type === 0xdc ? this.#uint16() : type === 0xdd ? this.#uint32() : type & 15;
    this.#enterArray(size);
    return size;
  }

  /** Leaves an array, or a map inside the top-level one. */
  leave(): void {
    this.#depth--;
  }

  /**
   * Enters the top-level map, or a map inside it. An empty array counts as an empty map.
   *
   * @returns How many keys follow, each before its value.
   */
  readMapSize(): number {
    const type = this.#uint8();
    if (type >> 4 === 0x8) return this.#enterMap(type & 15);
    if (type === 0xde) return this.#enterMap(this.#uint16());
    if (type === 0xdf) return this.#enterMap(this.#uint32());
    const empty = type === 0x90 || type === 0xdc && this.#uint16() === 0 || type === 0xdd && this.#uint32() === 0;
    if (!empty) throw NO_MAP;
    this.#enterArray(0);
    return 0;
  }

  /**
   * @returns The key: text, or an integer's decimal text.
   */
  readKey(): string {
    const type = this.#uint8();
    if (type >> 5 === 0x5) return this.#key(type & 31);
    if (type === 0xd9) return this.#key(this.#uint8());
    if (type === 0xda) return this.#key(this.#uint16());
    if (type === 0xdb) return this.#key(this.#uint32());
    if (type < 0x80 || type >= 0xe0 || type >= 0xcc && type <= 0xd3) return String(this.#valueOf(type));
    throw NO_KEY;
  }

  /** @returns The next value. */
  readValue(): unknown {
    return this.#valueOf(this.#uint8());
  }

  /** @returns The next value. A short text is read like a key: the names of commands repeat too. */
  readName(): unknown {
    const type = this.#uint8();
    if (type >> 5 !== 0x5) return this.#valueOf(type);
    this.#charge(TEXT_WEIGHT + (type & 31) * TEXT_BYTE_WEIGHT);
    return this.#key(type & 31);
  }

  /**
   * Reads the next value into a field of a map.
   *
   * @param map The map.
   * @param key The key, from {@linkcode Reader.readKey}.
   */
  readField(map: Record<string, unknown>, key: string): void {
    this.beginField(map, key);
    setField(map, key, this.readValue());
  }

  /** Prepares a map for a field whose value is read next. */
  beginField(map: Record<string, unknown>, key: string): void {
    if (!isIndexed(key)) return;
    this.#charge(INDEXED_FIELD_WEIGHT);
    if (map !== this.#table) keepAsTable(this.#table = map);
  }

  /** Releases the payload, so that an idle connection does not keep its last frame in memory. */
  release(): void {
    this.#bytes = NO_BYTES;
    this.hasGivenAway = false;
    this.lastPayloadEnd = -1;
    this.#table = undefined;
  }

  /** Rejects bytes after the last value. */
  finish(): undefined {
    if (this.#position !== this.#end) throw LEFT_OVER;
  }

  /** The position of the next byte. */
  get position(): number {
    return this.#position;
  }

  /** Goes back to the start of a payload that takes too much memory. Its values must not be kept now. */
  readAgain(start: number): boolean {
    if (this.weightBytes <= this.#maxMessageBytes) return false;
    this.#position = start;
    this.#depth = 0;
    this.weightBytes = -Infinity;
    return true;
  }

  #valueOf(type: number): unknown {
    if (type < 0x80) return type;
    if (type >= 0xe0) return type - 0x100;
    if (type >= 0xa0 && type < 0xc0) return this.#text(type & 31);
    if (type < 0x90) return this.#map(type & 15);
    if (type < 0xa0) return this.#array(type & 15);
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#binary(2, this.#uint8());
      case 0xc5:
        return this.#binary(3, this.#uint16());
      case 0xc6:
        return this.#binary(5, this.#uint32());
      case 0xca:
        float.setUint32(0, this.#uint32());
        return float.getFloat32(0);
      case 0xcb:
        float.setUint32(0, this.#uint32());
        float.setUint32(4, this.#uint32());
        return float.getFloat64(0);
      case 0xcc:
        return this.#uint8();
      case 0xcd:
        return this.#uint16();
      case 0xce:
        return this.#uint32();
      case 0xd0:
        return this.#uint8() << 24 >> 24;
      case 0xd1:
        return this.#uint16() << 16 >> 16;
      case 0xd2:
        return this.#uint32() | 0;
      case 0xcf:
        return this.#integer64(false);
      case 0xd3:
        return this.#integer64(true);
      case 0xd9:
        return this.#text(this.#uint8());
      case 0xda:
        return this.#text(this.#uint16());
      case 0xdb:
        return this.#text(this.#uint32());
      case 0xdc:
        return this.#array(this.#uint16());
      case 0xdd:
        return this.#array(this.#uint32());
      case 0xde:
        return this.#map(this.#uint16());
      case 0xdf:
        return this.#map(this.#uint32());
      case 0xc1:
        throw NO_VALUE;
      default:
        throw EXTENSION;
    }
  }

  #map(size: number): Record<string, unknown> {
    this.#enterMap(size);
    const map: Record<string, unknown> = {};
    for (let index = 0; index < size; index++) {
      const key = this.readKey();
      this.readField(map, key);
    }
    this.#depth--;
    return map;
  }

  #array(size: number): unknown[] {
    this.#enterArray(size);
    const array: unknown[] = [];
    for (let index = 0; index < size; index++) array.push(this.readValue());
    this.#depth--;
    return array;
  }

  #enterMap(size: number): number {
    this.#enter(2 * size, MAP_WEIGHT + size * FIELD_WEIGHT);
    return size;
  }

  #enterArray(size: number): void {
    this.#enter(size, ARRAY_WEIGHT + size * ELEMENT_WEIGHT);
  }

  /** Enters a container. */
  #enter(values: number, weight: number): void {
    if (values > this.#end - this.#position) throw TOO_SHORT; // each value has at least one byte
    if (++this.#depth > this.#maxDepth) throw this.#tooDeep ??= new DecodeError(`nested deeper than ${this.#maxDepth}`);
    this.#charge(weight);
  }

  /** Counts the memory of a value before it is allocated. */
  #charge(bytes: number): void {
    this.weightBytes += bytes;
    if (this.weightBytes > this.#maxMessageBytes) throw this.#refusal();
  }

  #refusal(): DecodeError {
    return this.#tooHeavy ??= new DecodeError(`the message takes more than ${this.#maxMessageBytes} bytes of memory`);
  }

  #key(length: number): string {
    if (length > SHORT_KEY_BYTES) return this.#text(length);
    return keyAt(this.#bytes, this.#take(length), length);
  }

  #text(length: number): string {
    const start = this.#take(length);
    this.#charge(TEXT_WEIGHT + length * TEXT_BYTE_WEIGHT);
    return textAt(this.#bytes, start, length);
  }

  #binary(header: number, length: number): Uint8Array {
    const start = this.#take(length);
    this.#charge(BINARY_WEIGHT + length);
    if (length <= SHORT_BINARY) {
      const binary = new Uint8Array(length);
      for (let index = 0; index < length; index++) binary[index] = this.#bytes[start + index];
      return binary;
    }
    // It has the same weight as a copy: its buffer is at most twice as large.
    const isLast = this.#end === this.lastPayloadEnd;
    if (isLast && length >= LEAST_GIVEN_BYTES && 2 * length >= this.#bytes.length) {
      this.hasGivenAway = true;
      return this.#bytes.subarray(start, start + length);
    }
    const copy = newBuffer(length);
    copy.set(stdDecode(this.#bytes.subarray(start - header, start + length)) as Uint8Array);
    return copy;
  }

  #integer64(signed: boolean): number | bigint {
    if (this.#end - this.#position < 8) throw TOO_SHORT;
    this.#charge(INTEGER64_WEIGHT);
    const high = this.#uint32();
    const low = this.#uint32();
    const number = (signed ? high | 0 : high) * 2 ** 32 + low;
    if (Number.isSafeInteger(number)) return number;
    float.setUint32(0, high);
    float.setUint32(4, low);
    return signed ? float.getBigInt64(0) : float.getBigUint64(0);
  }

  /** Skips some bytes and returns their start. */
  #take(bytes: number): number {
    const start = this.#position;
    if (bytes > this.#end - start) throw TOO_SHORT;
    this.#position = start + bytes;
    return start;
  }

  #uint8(): number {
    const at = this.#position;
    if (at >= this.#end) throw TOO_SHORT;
    this.#position = at + 1;
    return this.#bytes[at];
  }

  #uint16(): number {
    const at = this.#take(2);
    return this.#bytes[at] << 8 | this.#bytes[at + 1];
  }

  #uint32(): number {
    const at = this.#take(4);
    const bytes = this.#bytes;
    return (bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]) >>> 0;
  }
}
