/**
 * What a caller gives for a call, encoded when it is given: the caller may change its objects and fill its buffers anew
 * at once.
 *
 * In: a command, parameters, `meta` and credit. Out: the payload up to `seq` and `ttl`, which are known when it is written.
 * Refused, by an `EncodeError` with the path of the field: what the wire cannot carry, what a server would refuse.
 */

import { messageBytesFor } from "../limits.ts";
import { PayloadTooLargeError, TooHeavyError } from "./errors.ts";
import { type GivenRequest, writeGiven } from "./write_message.ts";
import { type Span, Writer } from "./writer.ts";

/** A call may wait for long, and keeps the slab that it is written to: so slabs are small. */
const SLAB_BYTES = 4_096;

// One writer for all clients of the process. It is away while it writes: a getter that makes a call gets another.
let idleWriter: Writer | undefined = new Writer({ slabBytes: SLAB_BYTES });

/**
 * Encodes what a caller gives.
 *
 * @param request What it gives.
 * @param laterFields How many fields will follow.
 * @param maxPayloadBytes The largest payload.
 * @returns The beginning of the payload.
 * @throws {EncodeError} If it cannot be sent; and whatever a getter of the caller's throws.
 */
export function encodeGiven(request: GivenRequest, laterFields: number, maxPayloadBytes: number): Span {
  const writer = idleWriter ?? new Writer({ slabBytes: SLAB_BYTES });
  idleWriter = undefined;
  try {
    writer.begin(messageBytesFor(maxPayloadBytes));
    writeGiven(writer, request, laterFields);
    const { bytes, start, position: end } = writer;
    if (end - start > maxPayloadBytes) throw new PayloadTooLargeError(end - start, maxPayloadBytes);
    writer.finish();
    return { bytes, start, end };
  } catch (error) {
    const isTooLarge = error instanceof TooHeavyError && writer.position - writer.start > maxPayloadBytes;
    throw isTooLarge ? new PayloadTooLargeError(Infinity, maxPayloadBytes) : error;
  } finally {
    writer.rewind(0); // nothing of a request that failed may stand before another's
    idleWriter = writer;
  }
}
