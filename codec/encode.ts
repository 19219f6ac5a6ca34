/**
 * Stage 3: messages to bytes. In: batches of messages. Out: one chunk a batch, whole frames one behind another,
 * each written in place: header, payload and newline, so that a batch leaves in one write.
 *
 * Refused: a message that MessagePack cannot hold, that is over the size limit, or that takes more memory than its
 * reader grants. It leaves no byte; whoever made the stage is told, and may answer with another message in its place.
 */

import { messageBytesFor, SHORT_PAYLOAD_BYTES_END } from "../limits.ts";
import type { Output } from "./decode.ts";
import { LONG_HEADER_BYTES, SHORT_HEADER_BYTES, TERMINATOR, writeLongHeader, writeShortHeader } from "./frame.ts";
import { EncodeError, TooHeavyError, Writer } from "./writer.ts";

/** A message whose payload is over the limit. */
export class PayloadTooLargeError extends EncodeError {
  /**
   * @param payloadBytes The size it would have; `Infinity` where it was given up before that was known.
   * @param limitBytes The size it may have.
   */
  constructor(readonly payloadBytes: number, readonly limitBytes: number) {
    const size = payloadBytes === Infinity ? "far above the limit, which is" : `${payloadBytes} bytes, the limit is`;
    super(`the payload is ${size} ${limitBytes}`);
  }
}

/** How a message becomes bytes, and what becomes of one that cannot. */
export interface EncodeOptions<Message> {
  /** Writes one payload: `writeReply` on a server, `writeRequest` on a client. */
  writeMessage(writer: Writer, message: Message): void;
  /** The largest payload of a message; asked for each, since a peer may raise what it takes. */
  maxPayloadBytes(message: Message): number;
  /** Told of a message that could not be written, and why; what it returns is written instead. */
  onUnwritable(message: Message, error: unknown): Message | undefined;
  /** Told how many bytes each chunk has that is put out. */
  onChunk(bytes: number): void;
}

// One writer for all connections of the process: batches are written without a pause in between, so they can lie
// one behind another in the same slab, and an idle connection holds no buffer. While a batch is being written it is
// taken: a getter or a hook that sends something on another connection meanwhile gets a writer of its own.
let idleWriter: Writer | undefined = new Writer();

/** The encode stage: give it to a `TransformStream`, or compose it with others. */
export class EncodeStage<Message> implements Transformer<Message[], Uint8Array> {
  readonly #options: EncodeOptions<Message>;

  /** @param options How a message becomes bytes, and what becomes of one that cannot. */
  constructor(options: EncodeOptions<Message>) {
    this.#options = options;
  }

  transform(batch: Message[], output: Output<Uint8Array>): void {
    const writer = idleWriter ?? new Writer();
    idleWriter = undefined;
    let chunk: Uint8Array;
    try {
      for (const message of batch) this.#write(writer, message);
      chunk = writer.take();
    } finally {
      writer.rewind(0); // nothing of a batch that failed may stand before another's
      idleWriter = writer;
    }
    if (chunk.length === 0) return;
    this.#options.onChunk(chunk.length);
    output.enqueue(chunk);
  }

  #write(writer: Writer, message: Message): void {
    try {
      this.#writeFrame(writer, message, this.#options.maxPayloadBytes(message));
    } catch (error) {
      const instead = this.#options.onUnwritable(message, error);
      // However low the limit is, the news that something is over it goes out.
      if (instead !== undefined) this.#writeFrame(writer, instead, Infinity);
    }
  }

  #writeFrame(writer: Writer, message: Message, limitBytes: number): void {
    // Relative to the batch, because the writer moves the batch when it grows.
    const frameStart = writer.position - writer.start;
    try {
      writer.begin(messageBytesFor(limitBytes));
      writer.reserve(SHORT_HEADER_BYTES);
      writer.position += SHORT_HEADER_BYTES;
      this.#options.writeMessage(writer, message);
      this.#finishFrame(writer, frameStart, limitBytes);
    } catch (error) {
      const writtenBytes = writer.position - writer.start - frameStart;
      writer.rewind(frameStart);
      const isTooLarge = error instanceof TooHeavyError && writtenBytes > limitBytes;
      throw isTooLarge ? new PayloadTooLargeError(Infinity, limitBytes) : error;
    }
  }

  #finishFrame(writer: Writer, frameStart: number, limitBytes: number): void {
    const payloadBytes = writer.position - writer.start - frameStart - SHORT_HEADER_BYTES;
    if (payloadBytes > limitBytes) throw new PayloadTooLargeError(payloadBytes, limitBytes);
    writer.reserve(LONG_HEADER_BYTES - SHORT_HEADER_BYTES + 1);
    const at = writer.start + frameStart;
    if (payloadBytes < SHORT_PAYLOAD_BYTES_END) {
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
    onChunk() {},
  });
  let frame: Uint8Array | undefined;
  stage.transform([message], { enqueue: (chunk) => frame = chunk, terminate() {} });
  return frame as Uint8Array;
}
