/**
 * MessagePack, written straight into the buffer that goes to the socket.
 *
 * In: values, and the headers of maps and arrays. Out: a batch of bytes, a range of a slab. Consecutive batches
 * stand one behind another in a slab, so that a small reply costs no buffer; a slab is never written
 * twice, so that a batch stays valid for as long as somebody holds it.
 *
 * What `@std/msgpack` encodes has the very bytes it has there: numbers take the shortest form, 64-bit integers
 * excepted, which become float64; -0 is 0; half a surrogate pair is U+FFFD; a bigint takes 9 bytes. Binary data and
 * bigints are encoded by `@std/msgpack` itself.
 *
 * Different from it, on purpose:
 * - `undefined` is nil, and a field of a map that is `undefined` is left out; `@std/msgpack` throws a `TypeError`.
 * - Depth is limited, which is also where a cycle ends; `@std/msgpack` overflows the stack. So is the
 *   weight of a message that was begun, as its reader weighs it.
 * - What cannot be encoded is one class of error, {@linkcode EncodeError}, and its text says what it was.
 * - An array or object that changes while it is encoded, by a getter of its own, never leads to invalid bytes: an
 *   array keeps the length it had, an object the keys it had, less those that went away.
 */

import { encode } from "jsr:@std/msgpack@^1.0.3";
import { DEFAULT_LIMITS } from "../limits.ts";
import { EncodeError, TooHeavyError } from "./errors.ts";
import { isPlain, kindOf } from "./sendable.ts";
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
} from "./weight.ts";

/** The npm copy has no types: this is where they enter. */
const stdEncode: (value: bigint | Uint8Array) => Uint8Array = encode;

/** From this length on a text goes to the runtime's encoder, and bytes to its copy: below it, the call costs more than a loop. */
const LONG_TEXT = 64;

const textEncoder = new TextEncoder();

/** What stands for a slab before the first is allocated. */
const NO_SLAB = new Uint8Array(0);

/** Bytes of a buffer: a view of them costs 100 bytes of memory, and more time than to write them. */
export interface Span {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Writes values one behind another. After a throw the caller {@linkcode Writer.rewind}s and goes on. */
export class Writer {
  /** The slab. */
  bytes: Uint8Array<ArrayBuffer> = NO_SLAB;
  /** Where the batch begins in the slab. */
  start = 0;
  /** Where the next byte goes. */
  position = 0;

  #view = new DataView(NO_SLAB.buffer);
  #maxMessageBytes = Infinity;
  #weightBytes = 0;
  readonly #maxDepth: number;
  readonly #slabBytes: number;

  /** `maxDepth`: containers inside one another; `slabBytes`: the size of a slab, allocated at the first byte written. */
  constructor(
    { maxDepth = DEFAULT_LIMITS.maxDepth, slabBytes = 65_536 }: { maxDepth?: number; slabBytes?: number } = {},
  ) {
    this.#maxDepth = maxDepth;
    this.#slabBytes = slabBytes;
  }

  /** Starts on a message, which may weigh so much, as its reader weighs it. */
  begin(maxMessageBytes: number): void {
    this.#maxMessageBytes = maxMessageBytes;
    this.#weightBytes = MESSAGE_WEIGHT;
  }

  /** Makes room for so many bytes behind `position`. May replace `bytes`, and then `start` and `position` too. */
  reserve(bytes: number): void {
    if (this.position + bytes > this.bytes.length) this.#grow(bytes);
  }

  /**
   * Begins a map.
   *
   * @param size How many keys will follow, each before its value, as far as is known.
   * @returns Where it begins, for {@linkcode Writer.endMap}.
   */
  beginMap(size: number): number {
    const start = this.position - this.start;
    this.#writeSize(size, 0x80, 0xde);
    return start;
  }

  /**
   * Ends a map in which another number of keys followed: a field may be `undefined`, or come and go by a getter.
   *
   * @param start Where it begins.
   * @param planned The number of keys that it was begun with.
   * @param size The number of keys that followed.
   */
  endMap(start: number, planned: number, size: number): void {
    this.#charge(MAP_WEIGHT + size * FIELD_WEIGHT);
    if (size === planned) return;
    const header = containerHeaderBytes(planned);
    const moved = containerHeaderBytes(size) - header;
    if (moved > 0) this.reserve(moved);
    const at = this.start + start;
    const end = this.position;
    if (moved !== 0) this.bytes.copyWithin(at + header + moved, at + header, end);
    this.position = at;
    this.#writeSize(size, 0x80, 0xde);
    this.position = end + moved;
  }

  /** Writes the header of an array, behind which so many values follow. */
  writeArrayHeader(size: number): void {
    this.#writeSize(size, 0x90, 0xdc);
    this.#charge(ARRAY_WEIGHT + size * ELEMENT_WEIGHT);
  }

  /** Writes a text. */
  writeText(text: string): void {
    const length = text.length;
    this.#charge(TEXT_WEIGHT + TEXT_BYTE_WEIGHT * length); // before room is made for it
    const bytes = this.#writeText(text);
    if (bytes !== length) this.#charge(TEXT_BYTE_WEIGHT * (bytes - length));
  }

  /** Writes the key of a field. */
  writeKey(key: string): void {
    if (key.length > SHORT_KEY_BYTES) {
      this.writeText(key);
    } else {
      const bytes = this.#writeText(key);
      if (bytes > SHORT_KEY_BYTES) this.#charge(TEXT_WEIGHT + TEXT_BYTE_WEIGHT * bytes);
    }
    if (isIndexed(key)) this.#charge(INDEXED_FIELD_WEIGHT);
  }

  /** Writes a text, and says how many bytes its characters take. */
  #writeText(text: string): number {
    const length = text.length;
    if (length >= LONG_TEXT) return this.#writeLongText(text);
    this.reserve(length + 2);
    const bytes = this.bytes;
    let position = this.position;
    if (length < 32) {
      bytes[position++] = 0xa0 | length;
    } else {
      bytes[position++] = 0xd9;
      bytes[position++] = length;
    }
    for (let index = 0; index < length; index++) {
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) return this.#writeLongText(text);
      bytes[position++] = unit;
    }
    this.position = position;
    return length;
  }

  /** Writes four bytes at once, given as one number, the first one highest: a text of three letters known beforehand. */
  writeFour(bytes: number): void {
    this.reserve(4);
    this.#view.setUint32(this.position, bytes);
    this.position += 4;
  }

  /** Writes a number. */
  writeNumber(number: number): void {
    this.reserve(9);
    const bytes = this.bytes;
    if (number >>> 0 === number) { // -0 too
      if (number < 0x80) {
        bytes[this.position++] = number;
      } else if (number < 0x100) {
        bytes[this.position++] = 0xcc;
        bytes[this.position++] = number;
      } else if (number < 0x10000) {
        this.#writeTagged16(0xcd, number);
      } else {
        this.#writeTagged32(0xce, number);
      }
    } else if ((number | 0) === number) {
      if (number >= -0x20) {
        bytes[this.position++] = number;
      } else if (number >= -0x80) {
        bytes[this.position++] = 0xd0;
        bytes[this.position++] = number;
      } else if (number >= -0x8000) {
        this.#writeTagged16(0xd1, number);
      } else {
        this.#writeTagged32(0xd2, number);
      }
    } else {
      bytes[this.position] = 0xcb;
      this.#view.setFloat64(this.position + 1, number);
      this.position += 9;
    }
  }

  /** Writes nil. */
  writeNil(): void {
    this.#writeByte(0xc0);
  }

  /** Writes true or false. */
  writeBoolean(value: boolean): void {
    this.#writeByte(value ? 0xc3 : 0xc2);
  }

  /**
   * Writes any value.
   *
   * @param value What to write.
   * @param depth How many containers it stands in already, by headers the caller wrote.
   * @throws {EncodeError} If MessagePack cannot hold it, or it is too deep.
   */
  writeValue(value: unknown, depth = 0): void {
    switch (typeof value) {
      case "string":
        return this.writeText(value);
      case "number":
        return this.writeNumber(value);
      case "boolean":
        return this.writeBoolean(value);
      case "undefined":
        return this.writeNil();
      case "object":
        if (value === null) return this.writeNil();
        if (Array.isArray(value)) return this.#writeArray(value, depth + 1);
        return this.#writeObject(value, depth + 1);
      case "bigint":
        return this.#writeLeaf(value);
      default:
        throw new EncodeError(`Cannot encode a ${typeof value}`);
    }
  }

  /** Writes what was encoded before. */
  writeEncoded({ bytes, start, end }: Span): void {
    const length = end - start;
    this.reserve(length);
    if (length > LONG_TEXT) {
      this.bytes.set(bytes.subarray(start, end), this.position);
    } else {
      for (let index = 0; index < length; index++) this.bytes[this.position + index] = bytes[start + index];
    }
    this.position += length;
  }

  /** Drops what was written last; `position` is where the batch is to end, counted from its beginning. */
  rewind(position: number): void {
    this.position = this.start + position;
  }

  /** Ends the batch, from `start` to `position`; the next begins behind it. Nobody will write to it again. */
  finish(): void {
    this.start = this.position;
    // A slab that grew for this batch goes with it: a small batch behind it would keep all of it in memory.
    if (this.bytes.length > this.#slabBytes) this.#use(NO_SLAB, 0);
  }

  #grow(bytes: number): void {
    const batch = this.bytes.subarray(this.start, this.position);
    // Twice the batch, so that growing byte by byte copies each byte a few times only.
    const slab = new Uint8Array(Math.max(this.#slabBytes, 2 * batch.length + bytes));
    slab.set(batch);
    this.#use(slab, batch.length);
  }

  #use(slab: Uint8Array<ArrayBuffer>, position: number): void {
    this.bytes = slab;
    this.#view = new DataView(slab.buffer);
    this.start = 0;
    this.position = position;
  }

  #writeByte(byte: number): void {
    this.reserve(1);
    this.bytes[this.position++] = byte;
  }

  #writeTagged16(tag: number, number: number): void {
    const position = this.position;
    const bytes = this.bytes;
    bytes[position] = tag;
    bytes[position + 1] = number >> 8;
    bytes[position + 2] = number;
    this.position = position + 3;
  }

  #writeTagged32(tag: number, number: number): void {
    this.bytes[this.position] = tag;
    this.#view.setUint32(this.position + 1, number);
    this.position += 5;
  }

  #charge(bytes: number): void {
    this.#weightBytes += bytes;
    if (this.#weightBytes > this.#maxMessageBytes) throw tooHeavy(this.#maxMessageBytes);
  }

  #writeSize(size: number, fixed: number, tag16: number): void {
    // An array's length comes from a proxy at times, and may be anything.
    if (size >>> 0 !== size) throw new EncodeError("Cannot encode a container whose size is beyond 32 bits");
    this.reserve(5);
    if (size < 16) this.bytes[this.position++] = fixed | size;
    else if (size < 0x10000) this.#writeTagged16(tag16, size);
    else this.#writeTagged32(tag16 + 1, size);
  }

  #writeLongText(text: string): number {
    // A UTF-16 unit takes at most 3 bytes. The header is as long as the text would need were it ASCII; what was
    // not is moved by the difference.
    this.reserve(5 + 3 * text.length);
    const guess = textHeaderBytes(text.length);
    const { written } = textEncoder.encodeInto(text, this.bytes.subarray(this.position + guess));
    const header = textHeaderBytes(written);
    const from = this.position + guess;
    if (header !== guess) this.bytes.copyWithin(this.position + header, from, from + written);
    if (header === 1) {
      this.bytes[this.position++] = 0xa0 | written;
    } else if (header === 2) {
      this.bytes[this.position++] = 0xd9;
      this.bytes[this.position++] = written;
    } else if (header === 3) {
      this.#writeTagged16(0xda, written);
    } else {
      this.#writeTagged32(0xdb, written);
    }
    this.position += written;
    return written;
  }

  #writeArray(array: readonly unknown[], depth: number): void {
    if (depth > this.#maxDepth) throw tooDeep(this.#maxDepth);
    const length = array.length;
    this.writeArrayHeader(length);
    for (let index = 0; index < length; index++) this.writeValue(array[index], depth);
  }

  #writeObject(object: object, depth: number): void {
    if (!isPlain(object)) {
      if (object instanceof Uint8Array) return this.#writeLeaf(object);
      throw new EncodeError(`Cannot encode ${kindOf(object)}`);
    }
    if (depth > this.#maxDepth) throw tooDeep(this.#maxDepth);
    const keys = Object.keys(object);
    const start = this.beginMap(keys.length);
    let size = 0;
    for (const key of keys) {
      const value = (object as Record<string, unknown>)[key];
      if (value === undefined) continue;
      this.writeKey(key);
      this.writeValue(value, depth);
      size++;
    }
    this.endMap(start, keys.length, size);
  }

  #writeLeaf(value: bigint | Uint8Array): void {
    let encoded;
    try {
      encoded = stdEncode(value);
    } catch (cause) {
      throw new EncodeError((cause as Error).message, { cause });
    }
    this.#charge(typeof value === "bigint" ? INTEGER64_WEIGHT : BINARY_WEIGHT + value.length);
    this.reserve(encoded.length);
    this.bytes.set(encoded, this.position);
    this.position += encoded.length;
  }
}

function textHeaderBytes(length: number): number {
  return length < 32 ? 1 : length < 0x100 ? 2 : length < 0x10000 ? 3 : 5;
}

function containerHeaderBytes(size: number): number {
  return size < 16 ? 1 : size < 0x10000 ? 3 : 5;
}

function tooHeavy(maxMessageBytes: number): TooHeavyError {
  return new TooHeavyError(`Cannot encode what takes more than ${maxMessageBytes} bytes of memory`);
}

function tooDeep(maxDepth: number): EncodeError {
  return new EncodeError(`Cannot encode containers nested deeper than ${maxDepth}, or in a cycle`);
}
