/**
 * Stage 1: decodes bytes into messages.
 *
 * In: chunks, cut anywhere. Out: batches of the messages that one chunk completed. Refused: an invalid payload becomes
 * an `InvalidMessage` in its place; a broken frame becomes a `BadFrame`, and nothing after it is read; a stream that
 * ends inside a frame gives a `Truncated`.
 *
 * Frames are read in place. Only a frame that is cut is copied, into a buffer that grows with the received bytes, not the
 * declared length. So a chunk may be reused after `transform`, and single bytes stay cheap.
 *
 * On a server the first message must be a map. HTTP can look like a frame, and a web page can make a browser send such
 * bytes with real frames after them.
 */

import type { Limits } from "../limits.ts";
import { FrameScanner, LONG_HEADER_BYTES, MAX_SHORT_PAYLOAD_BYTES } from "./frame.ts";
import { BadFrame, type Decoded, InvalidMessage, Truncated } from "./message.ts";
import { DecodeError } from "./errors.ts";
import { protocolOf } from "./other_protocols.ts";
import { Reader } from "./reader.ts";
import type { Output } from "./stage.ts";

/** The first size of the copy buffer; a buffer larger than {@linkcode KEEP_BYTES} is released when it is empty. */
const FIRST_HELD_BYTES = 256;
const KEEP_BYTES = 4 * 1024;

/** The copy buffer when nothing is held. */
const NO_BYTES = new Uint8Array(0);

const NO_MAP = "the first message is not a map: its sender speaks another protocol";

/** The decode stage, for a `TransformStream` or for a pipeline of stages. */
export class DecodeStage<Message> implements Transformer<Uint8Array, Decoded<Message>[]> {
  readonly #readMessage: (reader: Reader) => Message | InvalidMessage;
  readonly #reader: Reader;
  readonly #scanner: FrameScanner;
  readonly #checksFirst: boolean;
  /** The number of frames read. */
  frames = 0;
  #held: Uint8Array = NO_BYTES;
  #heldBytes = 0;
  /** What the frame that is held lacks: no more than that is copied. */
  #lackingBytes = 0;
  #broken = false;

  /**
   * @param readMessage Reads a payload: `readRequest` on a server, `readReply` on a client.
   * @param limits The limits on size, depth and memory of a message.
   * @param checksFirst Whether a first payload that is not a map is a broken frame, as on a server.
   */
  constructor(
    readMessage: (reader: Reader) => Message | InvalidMessage,
    limits: Pick<Limits, "maxPayloadBytes" | "maxDepth" | "maxMessageBytes">,
    checksFirst = false,
  ) {
    this.#readMessage = readMessage;
    this.#reader = new Reader(limits);
    this.#scanner = new FrameScanner(limits.maxPayloadBytes);
    this.#checksFirst = checksFirst;
  }

  /** Whether a frame is incomplete. */
  get midFrame(): boolean {
    return this.#heldBytes > 0;
  }

  /** Whether the incomplete frame is a long one. */
  get midLongFrame(): boolean {
    return this.midFrame && this.#lackingBytes + this.#heldBytes > MAX_SHORT_PAYLOAD_BYTES;
  }

  transform(chunk: Uint8Array, output: Output<Decoded<Message>[]>): void {
    const batch: Decoded<Message>[] = [];
    let start = 0;
    while (this.#heldBytes > 0 && start < chunk.length) {
      const end = Math.min(chunk.length, start + this.#lackingBytes);
      this.#hold(chunk, start, end, this.#heldBytes + this.#lackingBytes);
      start = end;
      this.#drop(this.#readFrames(this.#held, 0, this.#heldBytes, batch));
    }
    start = this.#readFrames(chunk, start, chunk.length, batch);
    if (start < chunk.length) this.#hold(chunk, start, chunk.length, chunk.length - start + this.#lackingBytes);
    else if (this.#heldBytes === 0 && this.#held.length > KEEP_BYTES) this.#held = NO_BYTES;
    this.#reader.release();
    if (batch.length > 0) output.enqueue(batch);
  }

  flush(output: Output<Decoded<Message>[]>): void {
    if (this.#heldBytes > 0) output.enqueue([new Truncated(this.#heldBytes)]);
  }

  /** Reads whole frames into a batch. Returns where the first incomplete one begins. */
  #readFrames(bytes: Uint8Array, start: number, end: number, batch: Decoded<Message>[]): number {
    let position = start;
    while (position < end && !this.#broken) {
      const frameBytes = this.#scanner.scan(bytes, position, end);
      const broken = frameBytes < 0 ? this.#scanner.reason : this.#firstFault(bytes, end);
      if (broken !== undefined) {
        batch.push(new BadFrame(broken, this.frames === 0 ? protocolOf(bytes.subarray(position, end)) : undefined));
        this.#broken = true;
      } else if (frameBytes === 0) {
        const { payloadEnd } = this.#scanner;
        this.#lackingBytes = payloadEnd === Infinity ? LONG_HEADER_BYTES : payloadEnd + 1 - end;
        return position;
      } else {
        batch.push(this.#read(bytes));
        this.frames++;
        position += frameBytes;
      }
    }
    return end;
  }

  /** The fault of the first message, as soon as a byte shows it. */
  #firstFault(bytes: Uint8Array, end: number): string | undefined {
    if (this.frames > 0 || !this.#checksFirst) return;
    const { payloadStart, payloadEnd } = this.#scanner;
    if (payloadStart === payloadEnd || isNoMap(bytes, payloadStart, Math.min(payloadEnd, end))) return NO_MAP;
  }

  #read(bytes: Uint8Array): Message | InvalidMessage {
    try {
      this.#reader.begin(bytes, this.#scanner.payloadStart, this.#scanner.payloadEnd);
      return this.#readMessage(this.#reader);
    } catch (error) {
      if (error instanceof DecodeError) return new InvalidMessage(error.message);
      throw error;
    }
  }

  /** Appends bytes to the held ones, which begin a frame of `frameBytes`. */
  #hold(bytes: Uint8Array, start: number, end: number, frameBytes: number): void {
    const needed = this.#heldBytes + end - start;
    if (needed > this.#held.length) {
      const grown = new Uint8Array(Math.max(FIRST_HELD_BYTES, needed, Math.min(2 * needed, frameBytes)));
      grown.set(this.#held.subarray(0, this.#heldBytes));
      this.#held = grown;
    }
    this.#held.set(bytes.subarray(start, end), this.#heldBytes);
    this.#heldBytes = needed;
  }

  /** Removes the first of the held bytes. */
  #drop(bytes: number): void {
    if (bytes > 0 && bytes < this.#heldBytes) this.#held.copyWithin(0, bytes, this.#heldBytes);
    this.#heldBytes -= bytes;
  }
}

/** Whether the received bytes of a payload show that it is neither a map nor the empty array that counts as one. */
function isNoMap(bytes: Uint8Array, start: number, end: number): boolean {
  if (start >= end) return false;
  const type = bytes[start];
  if (type >= 0x80 && type <= 0x90 || type === 0xde || type === 0xdf) return false;
  if (type !== 0xdc && type !== 0xdd) return true;
  const sizeEnd = Math.min(end, start + (type === 0xdc ? 3 : 5));
  return bytes.subarray(start + 1, sizeEnd).some((byte) => byte !== 0);
}
