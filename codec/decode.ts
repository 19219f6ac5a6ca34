/**
 * Stage 1: bytes to messages. In: chunks, cut anywhere. Out: batches, all messages that one chunk completed.
 *
 * The stage looks at frames where they lie. Only the tail of a chunk that ends inside a frame is copied, into a
 * buffer that doubles with the bytes that have come, never with a length that was declared. So a chunk may be
 * reused as soon as `transform` has returned, and a frame in single bytes costs no more than a frame at once.
 *
 * A server also wants the first message to be a map, as each is: HTTP and others begin with what could pass for a frame,
 * and a web page can make a browser send them, with frames of its own behind.
 *
 * Refused: a payload without a sound message becomes a `InvalidMessage` in its place; a broken frame becomes a
 * `BadFrame`, and the stage reads nothing behind it; a stream that ends inside a frame ends with a `Truncated`.
 */

import type { Limits } from "../limits.ts";
import { FrameScanner } from "./frame.ts";
import { BadFrame, type Decoded, InvalidMessage, Truncated } from "./message.ts";
import { DecodeError } from "./errors.ts";
import { Reader } from "./reader.ts";
import type { Output } from "./stage.ts";

/** What the tail of a chunk is copied into at first; a buffer that has grown beyond {@linkcode KEEP_BYTES} goes. */
const FIRST_HELD_BYTES = 256;
const KEEP_BYTES = 4 * 1024;

const NO_MAP = "the first message is not a map: its sender speaks another protocol";

/** The decode stage: give it to a `TransformStream`, or compose it with others. */
export class DecodeStage<Message> implements Transformer<Uint8Array, Decoded<Message>[]> {
  readonly #readMessage: (reader: Reader) => Message | InvalidMessage;
  readonly #reader: Reader;
  readonly #scanner: FrameScanner;
  readonly #checksFirst: boolean;
  /** How many frames have been read. */
  frames = 0;
  #held: Uint8Array = new Uint8Array(0);
  #heldBytes = 0;
  #broken = false;

  /**
   * @param readMessage What a payload is read as: `readRequest` on a server, `readReply` on a client.
   * @param limits How large, how deep and how heavy a message may be.
   * @param checksFirst Whether a first payload that is not a map is a broken frame, as it is on a server.
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

  /** Whether a frame has begun and not ended. */
  get midFrame(): boolean {
    return this.#heldBytes > 0;
  }

  transform(chunk: Uint8Array, output: Output<Decoded<Message>[]>): void {
    if (this.#broken || chunk.length === 0) return;
    let bytes = chunk;
    let end = chunk.length;
    if (this.#heldBytes > 0) {
      this.#hold(chunk, 0, chunk.length);
      bytes = this.#held;
      end = this.#heldBytes;
    }
    const batch: Decoded<Message>[] = [];
    let position = 0;
    while (position < end) {
      const frameBytes = this.#scanner.scan(bytes, position, end);
      const broken = frameBytes < 0 ? this.#scanner.reason : this.#firstFault(bytes, end);
      if (broken !== undefined) {
        batch.push(new BadFrame(broken));
        this.#broken = true;
        position = end;
        break;
      }
      if (frameBytes === 0) break;
      batch.push(this.#read(bytes));
      this.frames++;
      position += frameBytes;
    }
    this.#reader.release();
    this.#keepTail(bytes, position, end);
    if (batch.length > 0) output.enqueue(batch);
  }

  flush(output: Output<Decoded<Message>[]>): void {
    if (this.#heldBytes > 0) output.enqueue([new Truncated(this.#heldBytes)]);
  }

  /** What is wrong with the first message, as soon as its first byte shows it. */
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

  /** Copies bytes behind those that are held already. */
  #hold(bytes: Uint8Array, start: number, end: number): void {
    const needed = this.#heldBytes + end - start;
    if (needed > this.#held.length) {
      const grown = new Uint8Array(Math.max(FIRST_HELD_BYTES, 2 * this.#held.length, needed));
      grown.set(this.#held.subarray(0, this.#heldBytes));
      this.#held = grown;
    }
    this.#held.set(bytes.subarray(start, end), this.#heldBytes);
    this.#heldBytes = needed;
  }

  #keepTail(bytes: Uint8Array, start: number, end: number): void {
    if (bytes !== this.#held) {
      if (start < end) this.#hold(bytes, start, end);
      return;
    }
    if (start > 0) this.#held.copyWithin(0, start, end);
    this.#heldBytes = end - start;
    if (this.#heldBytes === 0 && this.#held.length > KEEP_BYTES) this.#held = new Uint8Array(0);
  }
}

/** Whether the bytes of a payload that have come show that it is not a map, nor the empty array that counts as one. */
function isNoMap(bytes: Uint8Array, start: number, end: number): boolean {
  if (start >= end) return false;
  const type = bytes[start];
  if (type >= 0x80 && type <= 0x90 || type === 0xde || type === 0xdf) return false;
  if (type !== 0xdc && type !== 0xdd) return true;
  const sizeEnd = Math.min(end, start + (type === 0xdc ? 3 : 5));
  return bytes.subarray(start + 1, sizeEnd).some((byte) => byte !== 0);
}
