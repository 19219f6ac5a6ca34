/**
 * MessagePack in few lines, for browsers, where the size of the code matters more than its speed. The tests compare it
 * with `@std/msgpack` and with the reader and writer of this folder: the same bytes, the same values.
 *
 * In: values, or bytes. Out: bytes, or values. Refused: a value that cannot be sent, by an {@linkcode EncodeError} that
 * names the field; bytes that are not one value, by a {@linkcode DecodeError}.
 */

import { DecodeError, EncodeError, isPlain, kindOf, PayloadTooLargeError } from "./errors.ts";

/** The maximum depth of nested containers, the same as the default `maxDepth`. */
const MAX_DEPTH = 64;

/** The number formats of the types from 0xca to 0xd3. Sizes of texts and containers use them too. */
const NUMBERS = [
  "Float32",
  "Float64",
  "Uint8",
  "Uint16",
  "Uint32",
  "BigUint64",
  "Int8",
  "Int16",
  "Int32",
  "BigInt64",
] as const;

/** The bytes of a number of each kind: 4, 8; 1, 2, 4, 8; 1, 2, 4, 8. */
const bytesOf = (kind: number) => 1 << (kind + 2 & 3);

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/**
 * Encodes a value. Fields that are `undefined` are left out.
 *
 * @param value The value.
 * @param path What an error calls it.
 * @param maxBytes The most bytes that it may have.
 * @returns The bytes.
 * @throws {EncodeError} If it cannot be sent, or is too large.
 */
export function encodeCompact(value: unknown, path = "value", maxBytes = Infinity): Uint8Array<ArrayBuffer> {
  let bytes = new Uint8Array(256);
  let view = new DataView(bytes.buffer);
  let at = 0;

  /** Makes room, and returns its start. */
  const take = (count: number) => {
    at += count;
    if (at > 2 * maxBytes) throw new PayloadTooLargeError(Infinity, maxBytes); // an array of holes may have any length
    if (at > bytes.length) {
      const old = bytes;
      bytes = new Uint8Array(2 * at);
      bytes.set(old);
      view = new DataView(bytes.buffer);
    }
    return at - count;
  };
  const putBytes = (data: Uint8Array) => {
    const from = take(data.length); // it may replace `bytes`
    bytes.set(data, from);
  };
  /** Writes a type, followed by a number of a kind. */
  const put = (type: number, kind?: number, value?: number | bigint) => {
    const from = take(1 + (kind === undefined ? 0 : bytesOf(kind)));
    view.setUint8(from, type);
    if (kind !== undefined) view[`set${NUMBERS[kind]}`](from + 1, value as never);
  };
  /** Writes a whole number in as many bytes as its size takes; `type` is the type for one byte. */
  const putNumber = (number: number, type: number, kind: number, size = number) => {
    for (; size >= 2 ** (8 * bytesOf(kind)); kind++) type++;
    put(type, kind, number);
  };
  /** Writes a whole number from 0 up. Below `few`, the number is in the type itself. */
  const putSize = (number: number, short: number, few: number, type: number, kind = 2) => {
    if (number < few) put(short | number);
    else putNumber(number, type, kind);
  };
  const writeNumber = (number: number) => {
    if (number >>> 0 === number) putSize(number, 0, 128, 0xcc);
    else if ((number | 0) !== number) put(0xcb, 1, number);
    else if (number >= -32) put(number);
    else putNumber(number, 0xd0, 6, 2 * ~number);
  };
  const write = (value: unknown, path: string, depth: number): void => {
    const refuse = (what: string) => {
      throw new EncodeError(`${path}: ${what} cannot be sent`);
    };
    if (value === undefined || value === null) put(0xc0);
    else if (typeof value === "boolean") put(value ? 0xc3 : 0xc2);
    else if (typeof value === "number") writeNumber(value);
    else if (typeof value === "string") {
      const text = encoder.encode(value);
      putSize(text.length, 0xa0, 32, 0xd9);
      putBytes(text);
    } else if (value instanceof Uint8Array) {
      putSize(value.length, 0, 0, 0xc4);
      putBytes(value);
    } else if (typeof value === "bigint") {
      const bits = BigInt.asUintN(64, value);
      if (bits !== value && BigInt.asIntN(64, value) !== value) refuse("an integer of more than 64 bits");
      put(value < 0 ? 0xd3 : 0xcf, 5, bits);
    } else if (depth === MAX_DEPTH) refuse(`what is nested deeper than ${MAX_DEPTH}, or in a cycle,`);
    else if (Array.isArray(value)) {
      putSize(value.length, 0x90, 16, 0xdc, 3);
      // Not by forEach(), which skips the holes of an array, which are nil.
      for (const [index, item] of value.entries()) write(item, `${path}[${index}]`, depth + 1);
    } else if (typeof value === "object" && isPlain(value)) {
      const fields = Object.entries(value).filter(([, field]) => field !== undefined);
      putSize(fields.length, 0x80, 16, 0xde, 3);
      for (const [name, field] of fields) {
        write(name, "", 0);
        write(field, path === "" ? name : `${path}.${name}`, depth + 1);
      }
    } else refuse(kindOf(value));
  };

  write(value, path, 0);
  if (at > maxBytes) throw new PayloadTooLargeError(at, maxBytes);
  return bytes.subarray(0, at);
}

/**
 * Decodes one value. Integers that a number holds exactly are numbers; binary data is a copy.
 *
 * @param bytes The bytes of the value, and no others.
 * @returns The value.
 * @throws {DecodeError} If they are not one value, or are nested too deep.
 */
export function decodeCompact(bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;

  /** Skips bytes, and returns their start. */
  const skip = (size: number) => {
    at += size;
    if (at > bytes.length) throw new DecodeError("the message ends too early");
    return at - size;
  };
  /** Reads a number. */
  const number = (kind: number) => {
    const value = view[`get${NUMBERS[kind]}`](skip(bytesOf(kind)));
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  };
  /** The size of what follows, in 1, 2 or 4 bytes. */
  const size = (log: number) => number(2 + log) as number;
  const text = (size: number) => {
    const from = skip(size);
    try {
      return decoder.decode(bytes.subarray(from, at));
    } catch {
      throw new DecodeError("text is not valid UTF-8");
    }
  };
  const array = <T>(size: number, next: () => T) => {
    const array: T[] = [];
    while (array.length < size) array.push(next());
    return array;
  };
  const field = (depth: number) => {
    const type = bytes[at];
    const key = read(0);
    // The types 0xca and 0xcb are floats.
    if (!(type >= 0xca && type <= 0xcb) && /string|number|bigint/.test(typeof key)) return [key, read(depth)];
    throw new DecodeError("a key must be text or an integer");
  };
  // Not by assignment: for `__proto__`, that would set the prototype.
  const map = (size: number, depth: number) => Object.fromEntries(array(size, () => field(depth)));
  /** @param depth How many levels of containers the value may have. */
  const read = (depth: number): unknown => {
    const type = size(0);
    if (type < 0x80) return type;
    if (type >= 0xe0) return type - 256;
    if (type >= 0xa0 && type < 0xc0) return text(type & 31);
    if (type === 0xc0) return null;
    if (type >= 0xc2 && type <= 0xc3) return type === 0xc3;
    if (type >= 0xc4 && type <= 0xc6) return bytes.slice(skip(size(type - 0xc4)), at);
    if (type >= 0xca && type <= 0xd3) return number(type - 0xca);
    if (type >= 0xd9 && type <= 0xdb) return text(size(type - 0xd9));
    if (depth-- === 0) throw new DecodeError(`nested deeper than ${MAX_DEPTH}`);
    if (type < 0x90) return map(type & 15, depth);
    if (type < 0xa0) return array(type & 15, () => read(depth));
    if (type >= 0xde) return map(size(type - 0xdd), depth);
    if (type >= 0xdc) return array(size(type - 0xdb), () => read(depth));
    throw new DecodeError("extension types are not accepted");
  };

  const value = read(MAX_DEPTH);
  if (at < bytes.length) throw new DecodeError("bytes are left over");
  return value;
}

/** The largest payload of a short frame, and both bytes of the mark of a long one (`frame.ts`). */
const MAX_SHORT = 57_310;
const LONG_MARK = 0x1f;

/** Joins pieces into one. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((bytes, { length }) => bytes + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** A payload as a frame. */
export function framed(payload: Uint8Array): Uint8Array {
  const { length } = payload;
  const head = length > MAX_SHORT
    ? [LONG_MARK, LONG_MARK, length >> 24, length >> 16, length >> 8, length]
    : [(length >> 8) + 32, length + 32];
  return joined([Uint8Array.from(head), payload, Uint8Array.of(0x0a)]);
}

/**
 * The payload of the first frame.
 *
 * @param bytes The bytes received so far.
 * @param maxPayloadBytes The largest payload.
 * @returns A part of the bytes; `undefined` if the frame is not complete.
 * @throws {DecodeError} If it is not a frame.
 */
export function frameAt(bytes: Uint8Array, maxPayloadBytes: number): Uint8Array | undefined {
  const [high, low] = bytes;
  const isLong = high === LONG_MARK && low === LONG_MARK;
  const start = isLong ? 6 : 2;
  if (bytes.length < start) return;
  const length = isLong
    ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(2)
    : ((high - 32 & 255) << 8) + (low - 32 & 255);
  const end = start + length;
  const isFrame = isLong === length > MAX_SHORT && length <= maxPayloadBytes;
  if (!isFrame || end < bytes.length && bytes[end] !== 0x0a) {
    throw new DecodeError("not a frame, or larger than maxPayloadBytes");
  }
  return end < bytes.length ? bytes.subarray(start, end) : undefined;
}
