/**
 * Writes MessagePack directly into the buffer that goes to the socket.
 *
 * In: values, and the headers of maps and arrays. Out: a batch of bytes, a range of a slab. Batches share a slab, so a
 * small reply needs no buffer of its own; a batch stays valid (`frame.ts`). Refused, by an {@linkcode EncodeError} that
 * names the value: a value that MessagePack cannot represent, or that is too deep or too heavy.
 *
 * The bytes are the same as from `@std/msgpack`: numbers take the shortest form, except 64-bit integers, which become
 * float64; -0 becomes 0; a lone surrogate becomes U+FFFD; a bigint takes 9 bytes. `@std/msgpack` itself encodes
 * bigints.
 *
 * Intended differences:
 * - `undefined` is nil, and is omitted in a map; `@std/msgpack` throws a `TypeError`.
 * - Depth and weight are limited, which also stops cycles; `@std/msgpack` overflows the stack.
 * - An array or object that a getter changes during encoding still gives valid bytes: an array keeps its original
 *   length, an object its original keys, without those that were removed.
 */

import { encode } from "jsr:@std/msgpack@^1.0.3/encode";
import { DEFAULT_LIMITS, messageBytesFor } from "../limits.ts";
import { EncodeError, isPlain, kindOf, tooHeavy, UnsendableError } from "./errors.ts";
import { NO_SLAB, ROOM_BEHIND_BYTES, sharedSlab, SLAB_BYTES, slabOf, type Span } from "./frame.ts";
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
const stdEncode: (value: bigint) => Uint8Array = encode;

/** Below this length a loop is faster than a call of the runtime's encoder or copy. */
const LONG_TEXT = 48;

/** Nested containers: as many as a peer with the default reads. */
const MAX_DEPTH = DEFAULT_LIMITS.maxDepth;

const textEncoder = new TextEncoder();

const { hasOwnProperty } = Object.prototype;

/** Writes consecutive values. After an error the caller calls {@linkcode Writer.rewind} and continues. */
export class Writer {
  /** The slab. */
  bytes: Uint8Array<ArrayBuffer> = NO_SLAB;
  /** The start of the batch in the slab. */
  start = 0;
  /** The place of the next byte. */
  position = 0;
  #view = new DataView(NO_SLAB.buffer);
  /** While a batch has outgrown the shared slab: the shared slab, and its free part. */
  #shared = NO_SLAB;
  #sharedStart = 0;
  #maxPayloadBytes = Infinity;
  #maxMessageBytes = Infinity;
  #weightBytes = 0;
  readonly #slabBytes: number;

  /** `slabBytes`: the size of a slab, which is allocated for the first byte. */
  constructor({ slabBytes = SLAB_BYTES }: { slabBytes?: number } = {}) {
    this.#slabBytes = slabBytes;
  }

  /** Starts a message for a receiver with this limit. What is added to the message later has the given weight. */
  begin(maxPayloadBytes: number, laterWeight = 0): void {
    this.#maxPayloadBytes = maxPayloadBytes;
    this.#maxMessageBytes = messageBytesFor(maxPayloadBytes) - laterWeight;
    this.#weightBytes = MESSAGE_WEIGHT;
  }

  /** Makes room for this many bytes after `position`. May replace `bytes`, `start` and `position`. */
  reserve(bytes: number): void {
    if (this.position + bytes > this.bytes.length) this.#grow(bytes);
  }

  /** Begins a map of this many keys, each followed by its value. Returns its start, for {@linkcode Writer.endMap}. */
  beginMap(size: number): number {
    const start = this.position - this.start;
    this.#writeSize(size, 0x80, 0xde);
    return start;
  }

  /** Ends a map and corrects its planned size: a field may be `undefined`, or a getter may add or remove one. */
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

  /** Writes the header of an array of this many values. */
  writeArrayHeader(size: number): void {
    this.#writeSize(size, 0x90, 0xdc);
    this.#charge(ARRAY_WEIGHT + size * ELEMENT_WEIGHT);
  }

  /** Writes a text. */
  writeText(text: string): void {
    const length = text.length;
    this.#charge(TEXT_WEIGHT + TEXT_BYTE_WEIGHT * length); // before it allocates
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

  /** Writes a text and returns the size of its characters in bytes. */
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

  /** Writes four bytes, given as one big-endian number: a known text of three letters. */
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
   * @param depth The number of containers around it, whose headers the caller wrote.
   * @throws {EncodeError} If MessagePack cannot represent it, or it is nested too deep.
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
        return this.#writeBigint(value);
      default:
        throw new UnsendableError(`Cannot encode a ${typeof value}`);
    }
  }

  /** Writes bytes that were encoded earlier. */
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

  /** Drops the last bytes; `position` is the new end of the batch, from its start. */
  rewind(position: number): void {
    this.position = this.start + position;
  }

  /** Ends the batch, which is never written to again. The next one begins after it. */
  finish(): void {
    this.start = this.position;
    // Continue in the shared slab: a small batch in a large slab would keep all of it in memory.
    if (this.bytes.length > this.#slabBytes) this.#use(this.#shared, this.#sharedStart, this.#sharedStart);
  }

  #grow(bytes: number): void {
    const batch = this.bytes.subarray(this.start, this.position);
    // Twice the batch, so that growing byte by byte copies each byte only a few times.
    const slabBytes = Math.max(this.#slabBytes, 2 * batch.length + bytes);
    const slab = slabBytes === SLAB_BYTES ? sharedSlab(this.bytes) : slabOf(slabBytes);
    slab.set(batch);
    if (this.bytes.length <= this.#slabBytes) {
      this.#shared = this.bytes;
      this.#sharedStart = this.start;
    }
    this.#use(slab, 0, batch.length);
  }

  #use(slab: Uint8Array<ArrayBuffer>, start: number, position: number): void {
    this.bytes = slab;
    this.#view = new DataView(slab.buffer);
    this.start = start;
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

  /** Writes a length of 8, 16 or 32 bits; their tags follow one another. */
  #writeLength(tag8: number, length: number): void {
    if (length < 0x100) {
      this.bytes[this.position++] = tag8;
      this.bytes[this.position++] = length;
    } else if (length < 0x10000) {
      this.#writeTagged16(tag8 + 1, length);
    } else {
      this.#writeTagged32(tag8 + 2, length);
    }
  }

  #charge(bytes: number): void {
    this.#weightBytes += bytes;
    if (this.#weightBytes > this.#maxMessageBytes) {
      throw tooHeavy(this.position - this.start, this.#maxPayloadBytes, this.#maxMessageBytes);
    }
  }

  #writeSize(size: number, fixed: number, tag16: number): void {
    // A proxy may return anything as an array's length.
    if (size >>> 0 !== size) throw new EncodeError("Cannot encode a container whose size is beyond 32 bits");
    this.reserve(5);
    if (size < 16) this.bytes[this.position++] = fixed | size;
    else if (size < 0x10000) this.#writeTagged16(tag16, size);
    else this.#writeTagged32(tag16 + 1, size);
  }

  #writeLongText(text: string): number {
    // A UTF-16 unit takes at most 3 bytes. Guess the header for ASCII; other text is moved by the difference.
    this.reserve(5 + 3 * text.length);
    const guess = textHeaderBytes(text.length);
    const { written } = textEncoder.encodeInto(text, this.bytes.subarray(this.position + guess));
    const header = textHeaderBytes(written);
    const from = this.position + guess;
    if (header !== guess) this.bytes.copyWithin(this.position + header, from, from + written);
    if (header === 1) this.bytes[this.position++] = 0xa0 | written;
    else this.#writeLength(0xd9, written);
    this.position += written;
    return written;
  }

  #writeArray(array: readonly unknown[], depth: number): void {
    if (depth > MAX_DEPTH) throw tooDeep();
    const length = array.length;
    this.writeArrayHeader(length);
    for (let index = 0; index < length; index++) this.writeValue(array[index], depth);
  }

  #writeObject(object: object, depth: number): void {
    if (!isPlain(object)) {
      if (object instanceof Uint8Array && ArrayBuffer.isView(object)) return this.#writeBinary(object);
      throw new UnsendableError(`Cannot encode ${kindOf(object)}`);
    }
    if (depth > MAX_DEPTH) throw tooDeep();
    // Most objects have less than 16 fields, and a header of one byte. In such a loop, V8 does not search for each
    // field.
    const start = this.beginMap(0);
    let size = 0;
    for (const key in object) {
      if (!hasOwnProperty.call(object, key)) continue;
      const value = (object as Record<string, unknown>)[key];
      if (value === undefined) continue;
      this.writeKey(key);
      this.writeValue(value, depth);
      size++;
    }
    this.endMap(start, 0, size);
  }

  #writeBinary(binary: Uint8Array): void {
    const { length } = binary;
    if (length >= 2 ** 32) throw new EncodeError("Cannot encode binary data of more than 32 bits of length");
    this.#charge(BINARY_WEIGHT + length); // before it allocates
    this.reserve(5 + length + ROOM_BEHIND_BYTES);
    this.#writeLength(0xc4, length);
    this.bytes.set(binary, this.position);
    this.position += length;
  }

  #writeBigint(value: bigint): void {
    let encoded;
    try {
      encoded = stdEncode(value);
    } catch (cause) {
      throw new UnsendableError((cause as Error).message, { cause });
    }
    this.#charge(INTEGER64_WEIGHT);
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

function tooDeep(): EncodeError {
  return new EncodeError(`Cannot encode containers nested deeper than ${MAX_DEPTH}, or in a cycle`);
}
