/**
 * Encodes the arguments of a call at once, so the caller may change its objects and buffers immediately.
 *
 * In: a command, parameters, `meta` and credit; or an item of the caller's stream. Out: the payload without `seq` and
 * `ttl`, which are added when it is sent; or the item's value. Refused, by an `EncodeError` with the path of the field:
 * what cannot be sent, or what a server would reject.
 */

import { messageBytesFor } from "../limits.ts";
import { PayloadTooLargeError, TooHeavyError } from "./errors.ts";
import { FIELD_WEIGHT, MAP_WEIGHT } from "./message.ts";
import { type GivenRequest, writeGiven, writeItemValue } from "./write_message.ts";
import { type Span, Writer } from "./writer.ts";

/** Slabs are small, because a call may wait for long and keeps its slab in memory. */
const SLAB_BYTES = 4_096;

// All clients of the process share one writer. It is taken while it writes: a getter that makes a call gets a new one.
let idleWriter: Writer | undefined = new Writer({ slabBytes: SLAB_BYTES });

/**
 * Encodes the arguments of a call.
 *
 * @param request The arguments.
 * @param laterFields The number of fields that will be added.
 * @param maxPayloadBytes The largest payload.
 * @returns The beginning of the payload.
 * @throws {EncodeError} If they cannot be sent; errors of the caller's getters pass through.
 */
export function encodeGiven(request: GivenRequest, laterFields: number, maxPayloadBytes: number): Span {
  return encoded((writer) => writeGiven(writer, request, laterFields), maxPayloadBytes);
}

/**
 * Encodes the value of an item that may have to be sent again.
 *
 * @param item The value.
 * @param maxPayloadBytes The largest payload.
 * @returns The value's bytes.
 * @throws {EncodeError} If it cannot be sent; errors of the caller's getters pass through.
 */
export function encodeItem(item: unknown, maxPayloadBytes: number): Span {
  return encoded((writer) => writeItemValue(writer, item), maxPayloadBytes, MAP_WEIGHT + 3 * FIELD_WEIGHT);
}

/** @param otherWeight What the other fields of the message will weigh, in bytes. */
function encoded(write: (writer: Writer) => void, maxPayloadBytes: number, otherWeight = 0): Span {
  const writer = idleWriter ?? new Writer({ slabBytes: SLAB_BYTES });
  idleWriter = undefined;
  try {
    writer.begin(messageBytesFor(maxPayloadBytes) - otherWeight);
    write(writer);
    const { bytes, start, position: end } = writer;
    if (end - start > maxPayloadBytes) throw new PayloadTooLargeError(end - start, maxPayloadBytes);
    writer.finish();
    return { bytes, start, end };
  } catch (error) {
    const isTooLarge = error instanceof TooHeavyError && writer.position - writer.start > maxPayloadBytes;
    throw isTooLarge ? new PayloadTooLargeError(Infinity, maxPayloadBytes) : error;
  } finally {
    writer.rewind(0); // remove the bytes of a failed request
    idleWriter = writer;
  }
}
