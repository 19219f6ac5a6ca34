/**
 * Stage 3: encodes messages into frames.
 *
 * In: messages. Out: whole frames, each written in place: header, payload, newline. Refused: a message that MessagePack
 * cannot represent, that is over the size limit, or that takes more memory than its receiver allows. It leaves no
 * bytes; `onUnwritable` may return a replacement.
 *
 * A message is written at once, so the caller may then change it. The frames of one turn of the event loop leave
 * together, in one chunk: the frames of a batch, and the items of a stream, which come a few microtasks apart. The
 * pipeline flushes the stage as soon as it knows that no more frames come.
 */

import type { Output, Stage } from "./stage.ts";
import {
  holdSlab,
  LONG_HEADER_BYTES,
  MAX_SHORT_PAYLOAD_BYTES,
  newBuffer,
  reuseSlab,
  SHORT_HEADER_BYTES,
  TERMINATOR,
  writeLongHeader,
  writeShortHeader,
} from "./frame.ts";
import { PayloadTooLargeError } from "./errors.ts";
import { Writer } from "./writer.ts";

/** How to encode messages, and what to do with one that cannot be encoded. */
export interface Encoding<Message> {
  /** Writes one payload: `writeServerMessage` on a server, `writeRequest` on a client. */
  writeMessage(writer: Writer, message: Message): void;
  /** The largest payload of a message; called for each one, because a peer may raise its limit. */
  maxPayloadBytes(message: Message): number;
  /** Called with a message that could not be written, and the error. Its result is written instead. */
  onUnwritable(message: Message, error: unknown): Message | undefined;
}

/** Separate frames up to this total size are copied into one chunk, because a write costs more than the copy. */
const JOINED_BYTES = 64 * 1024;

/** Frames leave after this many rounds of microtasks without a new frame. Items of a stream are three or more apart. */
const QUIET_ROUNDS = 8;

// All stages of the process share one writer and its slab, so an idle connection holds no buffer. While a frame is
// written the writer is taken: a getter that sends a message then gets a new writer.
let idleWriter: Writer | undefined = new Writer();

/** The encode stage, for a `TransformStream` or for a pipeline of stages. */
export class EncodeStage<Message> implements Stage<Message, Uint8Array> {
  readonly #encoding: Encoding<Message>;
  readonly #counter: { add(bytes: number): void } | undefined;
  /** The frames that have not left: a range of the current slab, and earlier ones. */
  #slab: Uint8Array<ArrayBuffer> | undefined;
  #start = 0;
  #end = 0;
  #before: Uint8Array[] | undefined;
  /** Rounds until the frames leave. */
  #roundsLeft = 0;
  #isCounting = false;

  /**
   * @param encoding How to encode messages, and what to do with one that cannot be encoded.
   * @param counter Counts the bytes of each frame, as soon as it is written.
   */
  constructor(encoding: Encoding<Message>, counter?: { add(bytes: number): void }) {
    this.#encoding = encoding;
    this.#counter = counter;
  }

  transform(message: Message, output: Output<Uint8Array>): void {
    this.#write(message);
    if (this.#slab === undefined) return;
    this.#roundsLeft = QUIET_ROUNDS;
    if (this.#isCounting) return;
    this.#isCounting = true;
    const leave = () => {
      if (this.#slab !== undefined && --this.#roundsLeft > 0) return queueMicrotask(leave);
      this.#isCounting = false;
      try {
        this.flush(output);
      } catch {
        // The output has ended; the frames are dropped.
      }
    };
    queueMicrotask(leave);
  }

  /** Sends the written frames without waiting for the end of the turn. */
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

  /** Drops the written frames that have not left. */
  cancel(): void {
    this.#slab = undefined;
    this.#before = undefined;
  }

  #write(message: Message): void {
    const limitBytes = this.#encoding.maxPayloadBytes(message);
    const writer = idleWriter ?? new Writer();
    idleWriter = undefined;
    try {
      writer.begin(limitBytes);
      writer.reserve(LONG_HEADER_BYTES);
      writer.position += SHORT_HEADER_BYTES; // a long payload is moved
      this.#encoding.writeMessage(writer, message);
      this.#finishFrame(writer, limitBytes);
      this.#append(writer);
      idleWriter = writer;
    } catch (error) {
      writer.rewind(0);
      idleWriter = writer;
      const instead = this.#encoding.onUnwritable(message, error);
      if (instead !== undefined) this.#write(instead);
    }
  }

  /** Adds the writer's frame to the frames that leave at the end of the turn. */
  #append(writer: Writer): void {
    const { bytes, start, position } = writer;
    writer.finish();
    if (this.#slab !== bytes || this.#end !== start) {
      if (this.#slab !== undefined) (this.#before ??= []).push(this.#slab.subarray(this.#start, this.#end));
      this.#slab = bytes;
      this.#start = start;
      holdSlab(bytes);
    }
    this.#end = position;
    this.#counter?.add(position - start);
  }

  #finishFrame(writer: Writer, limitBytes: number): void {
    const payloadBytes = writer.position - writer.start - SHORT_HEADER_BYTES;
    if (payloadBytes > limitBytes) throw new PayloadTooLargeError(payloadBytes, limitBytes);
    writer.reserve(LONG_HEADER_BYTES - SHORT_HEADER_BYTES + 1);
    if (payloadBytes <= MAX_SHORT_PAYLOAD_BYTES) {
      writeShortHeader(writer.bytes, writer.start, payloadBytes);
    } else {
      writer.bytes.copyWithin(writer.start + LONG_HEADER_BYTES, writer.start + SHORT_HEADER_BYTES, writer.position);
      writer.position += LONG_HEADER_BYTES - SHORT_HEADER_BYTES;
      writeLongHeader(writer.bytes, writer.start, payloadBytes);
    }
    writer.bytes[writer.position++] = TERMINATOR;
  }
}

/** Joins chunks into one, if that costs less than separate writes. */
function joined(chunks: Uint8Array[]): Uint8Array[] {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  if (bytes > JOINED_BYTES) return chunks;
  const whole = newBuffer(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
    reuseSlab(chunk);
  }
  return [whole];
}

/**
 * Encodes one message as a frame, without a stage.
 *
 * @param message The message.
 * @param writeMessage Writes the payload.
 * @param maxPayloadBytes The largest payload.
 * @returns The frame, whole.
 * @throws {EncodeError} If it cannot be encoded; errors of the message's getters pass through.
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
