/**
 * Stage 3: messages to bytes. In: messages. Out: whole frames one behind another, each written in place: header, payload
 * and newline.
 *
 * A message is written as soon as it is handed over, so its maker may change it at once. The frames of one turn of the
 * event loop leave together, in one chunk.
 *
 * Refused: a message that MessagePack cannot hold, that is over the size limit, or that takes more memory than its
 * reader grants. It leaves no byte; whoever made the stage is told, and may answer with another message in its place.
 */

import { messageBytesFor } from "../limits.ts";
import type { Output } from "./stage.ts";
import {
  LONG_HEADER_BYTES,
  MAX_SHORT_PAYLOAD_BYTES,
  SHORT_HEADER_BYTES,
  TERMINATOR,
  writeLongHeader,
  writeShortHeader,
} from "./frame.ts";
import { PayloadTooLargeError, TooHeavyError } from "./errors.ts";
import { Writer } from "./writer.ts";

/** How a message becomes bytes, and what becomes of one that cannot. */
export interface Encoding<Message> {
  /** Writes one payload: `writeReply` on a server, `writeRequest` on a client. */
  writeMessage(writer: Writer, message: Message): void;
  /** The largest payload of a message; asked for each, since a peer may raise what it takes. */
  maxPayloadBytes(message: Message): number;
  /** Told of a message that could not be written, and why; what it returns is written instead. */
  onUnwritable(message: Message, error: unknown): Message | undefined;
}

/** Frames that lie apart leave as one chunk, copied, up to this size: one write costs more than such a copy. */
const JOINED_BYTES = 64 * 1024;

// One writer for all stages of the process: the frames of all lie one behind another in the same slab, and an idle
// connection holds no buffer. While a frame is written the writer is taken: a getter or a hook that sends something
// meanwhile gets a writer of its own.
let idleWriter: Writer | undefined = new Writer();

/** The encode stage: give it to a `TransformStream`, or compose it with others. */
export class EncodeStage<Message> implements Transformer<Message, Uint8Array> {
  readonly #encoding: Encoding<Message>;
  readonly #counter: { add(bytes: number): void } | undefined;
  /** The frames that have not left: a range of the slab that is written to, and those before it. */
  #slab: Uint8Array<ArrayBuffer> | undefined;
  #start = 0;
  #end = 0;
  #before: Uint8Array[] | undefined;
  #leaving = false;

  /**
   * @param encoding How a message becomes bytes, and what becomes of one that cannot.
   * @param counter Counts the bytes of each frame, as soon as it is written.
   */
  constructor(encoding: Encoding<Message>, counter?: { add(bytes: number): void }) {
    this.#encoding = encoding;
    this.#counter = counter;
  }

  transform(message: Message, output: Output<Uint8Array>): void {
    this.#write(message);
    if (this.#leaving || this.#slab === undefined) return;
    this.#leaving = true;
    queueMicrotask(() => {
      this.#leaving = false;
      try {
        this.flush(output);
      } catch {
        // The output has ended: nobody takes the frames.
      }
    });
  }

  /** Puts out what has been written, without waiting for the end of the turn. */
  flush(output: Output<Uint8Array>): void {
    if (this.#slab === undefined) return;
    const last = this.#slab.subarray(this.#start, this.#end);
    const before = this.#before;
    this.cancel();
    if (before === undefined) {
      output.enqueue(last);
    } else {
      for (const chunk of joined([...before, last])) output.enqueue(chunk);
    }
  }

  /** Drops what has been written and has not left. */
  cancel(): void {
    this.#slab = undefined;
    this.#before = undefined;
  }

  #write(message: Message): void {
    try {
      this.#writeFrame(message, this.#encoding.maxPayloadBytes(message));
    } catch (error) {
      const instead = this.#encoding.onUnwritable(message, error);
      if (instead !== undefined) this.#write(instead);
    }
  }

  #writeFrame(message: Message, limitBytes: number): void {
    const writer = idleWriter ?? new Writer();
    idleWriter = undefined;
    try {
      writer.begin(messageBytesFor(limitBytes));
      writer.reserve(SHORT_HEADER_BYTES);
      writer.position += SHORT_HEADER_BYTES;
      this.#encoding.writeMessage(writer, message);
      this.#finishFrame(writer, limitBytes);
      this.#append(writer);
    } catch (error) {
      const writtenBytes = writer.position - writer.start;
      writer.rewind(0);
      const isTooLarge = error instanceof TooHeavyError && writtenBytes > limitBytes;
      throw isTooLarge ? new PayloadTooLargeError(Infinity, limitBytes) : error;
    } finally {
      idleWriter = writer;
    }
  }

  /** Adds the frame that the writer holds to those that leave at the end of the turn. */
  #append(writer: Writer): void {
    const { bytes, start, position } = writer;
    writer.finish();
    if (this.#slab !== bytes || this.#end !== start) {
      if (this.#slab !== undefined) (this.#before ??= []).push(this.#slab.subarray(this.#start, this.#end));
      this.#slab = bytes;
      this.#start = start;
    }
    this.#end = position;
    this.#counter?.add(position - start);
  }

  #finishFrame(writer: Writer, limitBytes: number): void {
    const payloadBytes = writer.position - writer.start - SHORT_HEADER_BYTES;
    if (payloadBytes > limitBytes) throw new PayloadTooLargeError(payloadBytes, limitBytes);
    writer.reserve(LONG_HEADER_BYTES - SHORT_HEADER_BYTES + 1);
    const at = writer.start;
    if (payloadBytes <= MAX_SHORT_PAYLOAD_BYTES) {
      writeShortHeader(writer.bytes, at, payloadBytes);
    } else {
      // Rare enough that moving the payload beats guessing its size beforehand.
      writer.bytes.copyWithin(at + LONG_HEADER_BYTES, at + SHORT_HEADER_BYTES, writer.position);
      writer.position += LONG_HEADER_BYTES - SHORT_HEADER_BYTES;
      writeLongHeader(writer.bytes, at, payloadBytes);
    }
    writer.bytes[writer.position++] = TERMINATOR;
  }
}

/** Chunks as few: one, where that costs less than to write them one by one. */
function joined(chunks: Uint8Array[]): Uint8Array[] {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  if (bytes > JOINED_BYTES) return chunks;
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return [whole];
}

/**
 * One message as a frame, for whoever has no batches.
 *
 * @param message The message.
 * @param writeMessage Writes its payload.
 * @param maxPayloadBytes The largest payload.
 * @returns The frame, whole.
 * @throws {EncodeError} If it cannot be written; and whatever a getter of the message's throws.
 */
export function encodeFrame<Message>(
  message: Message,
  writeMessage: (writer: Writer, message: Message) => void,
  maxPayloadBytes = Infinity,
): Uint8Array {
  const stage = new EncodeStage<Message>({
    writeMessage,
    maxPayloadBytes: () => maxPayloadBytes,
    onUnwritable(_message, error) {
      throw error;
    },
  });
  let frame: Uint8Array | undefined;
  const output: Output<Uint8Array> = { enqueue: (chunk) => frame = chunk, terminate() {} };
  stage.transform(message, output);
  stage.flush(output);
  return frame as Uint8Array;
}
