/**
 * MessagePack in few lines, for browsers, where what a page loads counts more than how fast it is. The tests hold it to
 * `@std/msgpack` and to the reader and writer of this folder: the same bytes, the same values.
 *
 * In: values; bytes. Out: the same as bytes; as values. Refused: what cannot be sent, by an {@linkcode EncodeError} that names the
 * field; bytes that are not one value, by a {@linkcode DecodeError}.
 */

import { DecodeError, EncodeError } from "./errors.ts";
import { faultIn, isPlain } from "./sendable.ts";

/** The most containers in one another, as with the default `maxDepth`. */
const MAX_DEPTH = 64;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/**
 * Encodes a value. Fields that are `undefined` are left out.
 *
 * @param value The value.
 * @param laterFields How many fields its map will get: whoever appends them.
 * @returns The bytes.
 * @throws {EncodeError} If it cannot be sent.
 */
export function encodeCompact(value: unknown, laterFields = 0): Uint8Array<ArrayBuffer> {
  let bytes = new Uint8Array(256);
  let view = new DataView(bytes.buffer);
  let at = 0;

  const reserve = (count: number) => {
    if (at + count <= bytes.length) return;
    const longer = new Uint8Array(2 * (at + count));
    longer.set(bytes);
    bytes = longer;
    view = new DataView(longer.buffer);
  };
  /** Writes a type, and a number in the 0, 1, 2, 4 or 8 bytes behind it. */
  const put = (type: number, count = 0, number = 0) => {
    reserve(9);
    view.setUint8(at, type);
    if (count === 1) view.setUint8(at + 1, number);
    if (count === 2) view.setUint16(at + 1, number);
    if (count === 4) view.setUint32(at + 1, number);
    if (count === 8) view.setFloat64(at + 1, number);
    at += 1 + count;
  };
  /** Writes a type with a size: in the type itself below `few`, else in as many bytes as it takes. */
  const putSize = (size: number, short: number, few: number, type8: number | undefined, type16: number) => {
    if (size < few) put(short | size);
    else if (type8 !== undefined && size < 256) put(type8, 1, size);
    else if (size < 65_536) put(type16, 2, size);
    else put(type16 + 1, 4, size);
  };
  const putBytes = (data: Uint8Array) => {
    reserve(data.length);
    bytes.set(data, at);
    at += data.length;
  };
  const writeText = (text: string) => {
    const utf8 = encoder.encode(text);
    putSize(utf8.length, 0xa0, 32, 0xd9, 0xda);
    putBytes(utf8);
  };
  const writeNumber = (number: number) => {
    if (number >>> 0 === number) {
      if (number < 128) put(number);
      else putSize(number, 0, 0, 0xcc, 0xcd);
    } else if ((number | 0) !== number) put(0xcb, 8, number);
    else if (number >= -32) put(number);
    else if (number >= -128) put(0xd0, 1, number);
    else if (number >= -32_768) put(0xd1, 2, number);
    else put(0xd2, 4, number);
  };
  const writeObject = (object: object, depth: number) => {
    if (object instanceof Uint8Array) {
      putSize(object.length, 0, 0, 0xc4, 0xc5);
      return putBytes(object);
    }
    if (depth === MAX_DEPTH) {
      throw new EncodeError(`Cannot encode containers nested deeper than ${MAX_DEPTH}, or in a cycle`);
    }
    if (Array.isArray(object)) {
      putSize(object.length, 0x90, 16, undefined, 0xdc);
      for (const item of object) write(item, depth + 1);
      return;
    }
    const fields = isPlain(object) && Object.entries(object).filter(([, field]) => field !== undefined);
    if (!fields) throw new EncodeError(faultIn(object, "value", 1));
    putSize(fields.length + (depth === 0 ? laterFields : 0), 0x80, 16, undefined, 0xde);
    for (const [name, field] of fields) {
      writeText(name);
      write(field, depth + 1);
    }
  };
  const writeInteger = (integer: bigint) => {
    if (faultIn(integer, "value", 1)) throw new EncodeError(faultIn(integer, "value", 1));
    put(integer < 0 ? 0xd3 : 0xcf, 8);
    view.setBigUint64(at - 8, BigInt.asUintN(64, integer));
  };
  const write = (value: unknown, depth: number): void => {
    if (value === undefined || value === null) put(0xc0);
    else if (typeof value === "boolean") put(value ? 0xc3 : 0xc2);
    else if (typeof value === "number") writeNumber(value);
    else if (typeof value === "string") writeText(value);
    else if (typeof value === "object") writeObject(value, depth);
    else if (typeof value === "bigint") writeInteger(value);
    else throw new EncodeError(faultIn(value, "value", 1));
  };

  write(value, 0);
  return bytes.subarray(0, at);
}

/**
 * Decodes one value. Integers that a number holds exactly are numbers; binary data is a copy.
 *
 * @param bytes The bytes of the value, and no others.
 * @returns The value.
 * @throws {DecodeError} If they are something else, or nested too deep.
 */
export function decodeCompact(bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;

  /** Goes on, and gives the place before. */
  const skip = (count: number) => {
    at += count;
    if (at > bytes.length) throw new DecodeError("the message ends too early");
    return at - count;
  };
  const readSize = (count: number) => {
    const from = skip(count);
    return count === 1 ? view.getUint8(from) : count === 2 ? view.getUint16(from) : view.getUint32(from);
  };
  const readText = (size: number) => {
    const from = skip(size);
    try {
      return decoder.decode(bytes.subarray(from, at));
    } catch {
      throw new DecodeError("text is not valid UTF-8");
    }
  };
  const readBytes = (size: number) => {
    const from = skip(size);
    return bytes.slice(from, at);
  };
  const readInteger = (integer: bigint) => {
    const number = Number(integer);
    return Number.isSafeInteger(number) ? number : integer;
  };
  const readArray = (size: number, depth: number) => {
    const array: unknown[] = [];
    while (array.length < size) array.push(read(depth));
    return array;
  };
  const readMap = (size: number, depth: number) => {
    const map: Record<string, unknown> = {};
    for (; size > 0; size--) {
      const key = read(0);
      if (typeof key !== "string" && !(typeof key === "number" && Number.isInteger(key)) && typeof key !== "bigint") {
        throw new DecodeError("a key must be text or an integer");
      }
      const value = read(depth);
      // Not by an assignment, which of `__proto__` would set the prototype.
      Object.defineProperty(map, `${key}`, { value, writable: true, enumerable: true, configurable: true });
    }
    return map;
  };
  /** @param depth How many containers may be in it. */
  const read = (depth: number): unknown => {
    const type = readSize(1);
    if (type < 0x80) return type;
    if (type >= 0xe0) return type - 256;
    if (type >= 0xa0 && type < 0xc0) return readText(type & 31);
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return type === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return readBytes(readSize(1 << type - 0xc4));
      case 0xca:
        return view.getFloat32(skip(4));
      case 0xcb:
        return view.getFloat64(skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return readSize(1 << type - 0xcc);
      case 0xcf:
        return readInteger(view.getBigUint64(skip(8)));
      case 0xd0:
        return view.getInt8(skip(1));
      case 0xd1:
        return view.getInt16(skip(2));
      case 0xd2:
        return view.getInt32(skip(4));
      case 0xd3:
        return readInteger(view.getBigInt64(skip(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return readText(readSize(1 << type - 0xd9));
    }
    if (depth === 0) throw new DecodeError(`nested deeper than ${MAX_DEPTH}`);
    if (type < 0x90) return readMap(type & 15, depth - 1);
    if (type < 0xa0) return readArray(type & 15, depth - 1);
    if (type === 0xdc || type === 0xdd) return readArray(readSize(2 << type - 0xdc), depth - 1);
    if (type === 0xde || type === 0xdf) return readMap(readSize(2 << type - 0xde), depth - 1);
    throw new DecodeError("extension types are not accepted");
  };

  const value = read(MAX_DEPTH);
  if (at < bytes.length) throw new DecodeError("bytes are left over");
  return value;
}
