/**
 * Encodes and decodes single MessagePack values by packline's codec, without a connection.
 *
 * In: a value, or bytes. Out: bytes in their own buffer, or the value. Refused: what `writer.ts` and `reader.ts`
 * refuse, with the same errors.
 */

import { DecodeError, EncodeError } from "../../codec/errors.ts";
import { Reader } from "../../codec/reader.ts";
import { Writer } from "../../codec/writer.ts";
import { checkLimit, DEFAULT_LIMITS } from "../../limits.ts";

export { DecodeError, EncodeError };

const writer = new Writer();

/** The bytes of a value, as packline writes it, in their own buffer. */
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

/** The value that the bytes hold. They must be exactly one value, of any kind; it shares no memory with them. */
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
