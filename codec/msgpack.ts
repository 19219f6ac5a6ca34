/**
 * Encodes and decodes single MessagePack values without a connection: for a file, a test, another transport.
 *
 * In: a value, or bytes. Out: bytes in their own buffer, or the value. Refused: what `writer.ts` and `reader.ts`
 * refuse, with the same errors. Their headers list the differences from `@std/msgpack`.
 */

import { checkLimit, DEFAULT_LIMITS } from "../limits.ts";
import { DecodeError, EncodeError } from "./errors.ts";
import { Reader } from "./reader.ts";
import { Writer } from "./writer.ts";

export { DecodeError, EncodeError };

const writer = new Writer();

/**
 * Encodes a value as packline does on the wire (PROTOCOL.md, "Values"): the bytes of `@std/msgpack`, except that
 * `undefined` becomes nil, or is omitted in a map.
 *
 * @param value Text, numbers, bigints of up to 64 bits, booleans, `null`, `undefined`, `Uint8Array`, and arrays and
 * plain objects of these, nested at most {@linkcode DEFAULT_LIMITS}`.maxDepth` deep.
 * @returns The bytes, in their own buffer.
 * @throws {EncodeError} If MessagePack cannot represent the value, or it is nested too deep or contains itself.
 *
 * @example Encode and decode a value
 * ```ts
 * import { decode, encode } from "./msgpack.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = encode({ cmd: 2, sleep: 0.5, note: undefined });
 * assertEquals(bytes.length, 21);
 * assertEquals(decode(bytes), { cmd: 2, sleep: 0.5 });
 * ```
 */
export function encode(value: unknown): Uint8Array<ArrayBuffer> {
  // Not 0 if a getter of the value calls `encode` itself.
  const mark = writer.position - writer.start;
  try {
    writer.writeValue(value);
    return writer.bytes.slice(writer.start + mark, writer.position);
  } finally {
    writer.rewind(mark);
    if (mark === 0) writer.finish(); // an empty batch; this releases a slab that grew
  }
}

/**
 * Decodes one value by the rules of the wire (PROTOCOL.md, "Values"): strict UTF-8, no extension types, integers within
 * ±(2^53 - 1) as numbers and others as bigints, integer keys as their decimal text. Unlike a message, it may be any
 * value, not only a map.
 *
 * @param bytes Exactly one value. The result shares no memory with them.
 * @param limits `maxDepth`: nested containers; `maxMessageBytes`: memory for the value. The defaults are in
 * {@linkcode DEFAULT_LIMITS}.
 * @returns The value.
 * @throws {DecodeError} If the bytes are not exactly one value, or exceed a limit.
 * @throws {RangeError} If a limit is not a whole number in its range.
 *
 * @example Bytes that are not one value
 * ```ts
 * import { decode, DecodeError } from "./msgpack.ts";
 * import { assertEquals, assertThrows } from "@std/assert";
 *
 * assertEquals(decode(new Uint8Array([0x92, 1, 2])), [1, 2]);
 * assertThrows(() => decode(new Uint8Array([0x92, 1])), DecodeError, "ends too early");
 * assertThrows(() => decode(new Uint8Array([0x92, 1, 2]), { maxMessageBytes: 300 }), DecodeError, "more than 300");
 * ```
 */
export function decode(bytes: Uint8Array, limits: { maxDepth?: number; maxMessageBytes?: number } = {}): unknown {
  const { maxDepth = DEFAULT_LIMITS.maxDepth, maxMessageBytes = DEFAULT_LIMITS.maxMessageBytes } = limits;
  const reader = new Reader({
    maxDepth: checkLimit("maxDepth", maxDepth),
    maxMessageBytes: checkLimit("maxMessageBytes", maxMessageBytes),
  });
  try {
    reader.begin(bytes, 0, bytes.length);
    const value = reader.readValue();
    reader.finish();
    return value;
  } catch (error) {
    // The reader reuses its error objects. A new one has its own stack trace.
    throw error instanceof DecodeError ? new DecodeError(error.message) : error;
  }
}
