/**
 * Stage 1: decodes bytes into messages.
 *
 * In: chunks, cut anywhere. Out: batches of the messages that one chunk completed. Refused: an invalid payload becomes
 * an `InvalidMessage` in its place; a broken frame becomes a `BadFrame`, and nothing after it is read; a stream that
 * ends inside a frame gives a `Truncated`.
 *
 * A server reads a long payload in parts (`long_payload.ts`), and serves others between them.
 *
 * Frames are read in place, in a buffer that the stage lends for reads ({@linkcode DecodeStage.space}). A long frame
 * gets its own buffer of its exact size after a sixteenth of it has arrived, because a declared length is not trusted.
 * Its bytes may then be passed on without a copy (`reader.ts`). Other chunks are copied, so they may be reused after
 * `transform`.
 *
 * On a server the first message must be a map. HTTP can look like a frame, and a web page can make a browser send such
 * bytes with real frames after them.
 */

import type { Limits } from "../limits.ts";
import { FrameScanner, newBuffer, type OtherProtocol, protocolOf } from "./frame.ts";
import { BadFrame, type Decoded, InvalidMessage, Truncated } from "./message.ts";
import { DecodeError } from "./errors.ts";
import type { Payload } from "./read_message.ts";
import { Reader } from "./reader.ts";
import type { Output, Stage } from "./stage.ts";

/**
 * How far a declared length is trusted: a buffer is at most this many times as large as the received part of a frame.
 */
const BELIEVED_FOLD = 16;

/** The smallest buffer, for a frame of unknown size. */
const LEAST_SPACE_BYTES = 256;

/** The largest buffer that is allocated before a frame begins, in case the frame is as long as the last one. */
const LARGEST_GUESS_BYTES = 256 * 1024;

const NO_BYTES = new Uint8Array(0);

const NO_MAP = "the first message is not a map: its sender speaks another protocol";

/** From this size on, a server reads a payload in parts. A shorter payload takes about 3 ms at most. */
export const LONG_PAYLOAD_BYTES = 32 * 1024;

/** How a server reads. */
export interface ServerReading {
  /**
   * Reads a long payload in parts, between which others are served.
   *
   * @returns The payload; a promise if others are served first. The buffer must not change until it resolves.
   */
  readAhead(reader: Reader): Payload | Promise<Payload>;
}

/** The decode stage, for a `TransformStream` or for a pipeline of stages. */
export class DecodeStage<Message> implements Stage<Uint8Array, Decoded<Message>[]> {
  readonly #readMessage: (payload: Payload, frameBytes: number) => Message | InvalidMessage;
  readonly #reader: Reader;
  readonly #scanner: FrameScanner;
  readonly #server: ServerReading | undefined;
  /** The number of frames read. */
  frames = 0;
  /** The received bytes that are not read yet: a range of the buffer. */
  #bytes: Uint8Array<ArrayBuffer> = NO_BYTES;
  #start = 0;
  #end = 0;
  /** The size of the incomplete frame, or of the last one if none is incomplete; 0 if it is not known. */
  #frameBytes = 0;
  #broken = false;

  /**
   * @param readMessage Reads a payload: `readRequest` on a server, `readReply` on a client.
   * @param limits The limits on size, depth and memory of a message.
   * @param server Only for a server. A first payload that is not a map is then a broken frame.
   */
  constructor(
    readMessage: (payload: Payload, frameBytes: number) => Message | InvalidMessage,
    limits: Pick<Limits, "maxPayloadBytes" | "maxDepth" | "maxMessageBytes">,
    server?: ServerReading,
  ) {
    this.#readMessage = readMessage;
    this.#reader = new Reader(limits);
    this.#scanner = new FrameScanner(limits.maxPayloadBytes);
    this.#server = server;
  }

  /** Whether a frame is incomplete. */
  get midFrame(): boolean {
    return this.#end > this.#start;
  }

  /** How much of an incomplete frame has not arrived; 0 if that is not known. All but the last byte take no time. */
  get missingBytes(): number {
    return this.midFrame ? Math.max(0, this.#frameBytes - (this.#end - this.#start)) : 0;
  }

  /** How much of an incomplete frame has arrived, for people: a wrong length in its header shows at once. */
  get arrived(): string {
    const size = this.#frameBytes > 0 ? this.#frameBytes : "unknown number of";
    return `${this.#end - this.#start} of its ${size} bytes have arrived`;
  }

  /**
   * The buffer space for the next bytes. Bytes that are read into it are decoded without a copy.
   *
   * @param readBytes How much to read at once if no long frame is incomplete.
   */
  space(readBytes: number): Uint8Array {
    const size = this.#sizeOf(readBytes);
    const heldBytes = this.#end - this.#start;
    if (size !== this.#bytes.length) {
      const bytes = newBuffer(size);
      if (heldBytes > 0) bytes.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = bytes;
    } else if (heldBytes > 0 && this.#start > 0) {
      this.#bytes.copyWithin(0, this.#start, this.#end);
    }
    this.#start = 0;
    this.#end = heldBytes;
    return heldBytes === 0 ? this.#bytes : this.#bytes.subarray(heldBytes);
  }

  /** The size of the buffer for the next bytes and the held bytes. */
  #sizeOf(readBytes: number): number {
    const heldBytes = this.#end - this.#start;
    const frameBytes = this.#frameBytes;
    if (frameBytes === 0) return Math.max(readBytes, LEAST_SPACE_BYTES); // a part of a header may be held
    if (2 * frameBytes < readBytes) return readBytes;
    if (heldBytes === 0) {
      if (frameBytes <= LARGEST_GUESS_BYTES) return frameBytes;
      // Large enough that another frame of this size is trusted when this space is full.
      return Math.max(readBytes, Math.min(LARGEST_GUESS_BYTES, Math.ceil(frameBytes / BELIEVED_FOLD)));
    }
    const { length } = this.#bytes;
    if (length <= frameBytes && heldBytes < length) return length; // there is room left in its own buffer
    return Math.min(frameBytes, Math.max(readBytes, BELIEVED_FOLD * heldBytes));
  }

  transform(chunk: Uint8Array, output: Output<Decoded<Message>[]>): void | Promise<void> {
    const batch: Decoded<Message>[] = [];
    let pending: Promise<Message | InvalidMessage> | undefined;
    if (chunk.buffer === this.#bytes.buffer) {
      this.#end += chunk.length;
      pending = this.#readFrames(batch, this.#server);
    } else {
      this.#readCopy(chunk, batch);
    }
    if (batch.length > 0) output.enqueue(batch);
    if (pending !== undefined) return this.#readOn(pending, output);
  }

  flush(output: Output<Decoded<Message>[]>): void {
    if (this.midFrame) output.enqueue([new Truncated(this.#end - this.#start, this.#otherProtocol(this.#start))]);
  }

  /** Reads whole frames of a chunk that is not in the stage's buffer. */
  #readCopy(chunk: Uint8Array, batch: Decoded<Message>[]): void {
    for (let at = 0; at < chunk.length;) {
      const space = this.space(Math.max(LEAST_SPACE_BYTES, this.#end - this.#start + chunk.length - at));
      const part = chunk.subarray(at, at + space.length);
      space.set(part);
      at += part.length;
      this.#end += part.length;
      void this.#readFrames(batch, undefined);
    }
  }

  /** Waits for a long message, and reads the whole frames after it. */
  async #readOn(long: Promise<Message | InvalidMessage>, output: Output<Decoded<Message>[]>): Promise<void> {
    let pending: Promise<Message | InvalidMessage> | undefined = long;
    while (pending !== undefined) {
      const message: Message | InvalidMessage = await pending;
      if (message instanceof InvalidMessage) message.frameBytes = this.#frameBytes;
      const batch: Decoded<Message>[] = [message];
      this.frames++;
      this.#start += this.#frameBytes;
      pending = this.#readFrames(batch, this.#server);
      output.enqueue(batch);
    }
  }

  /**
   * Reads whole frames into a batch.
   *
   * @param server How to read long frames; `undefined` means at once.
   * @returns A promise of a long message, if others were served first. The frames after it are not read yet.
   */
  #readFrames(
    batch: Decoded<Message>[],
    server: ServerReading | undefined,
  ): Promise<Message | InvalidMessage> | undefined {
    const bytes = this.#bytes;
    const end = this.#end;
    let position = this.#start;
    let sizeBytes = this.#frameBytes;
    let pending: Promise<Message | InvalidMessage> | undefined;
    this.#reader.lastPayloadEnd = bytes.length - 1; // only a terminator follows
    while (position < end && !this.#broken) {
      const frameBytes = this.#scanner.scan(bytes, position, end);
      const broken = frameBytes < 0 ? this.#scanner.reason : this.#firstFault(bytes, end);
      if (broken !== undefined) {
        batch.push(new BadFrame(broken, this.#otherProtocol(position)));
        this.#broken = true;
      } else if (frameBytes === 0) {
        const { payloadEnd } = this.#scanner;
        sizeBytes = payloadEnd === Infinity ? 0 : payloadEnd + 1 - position;
        break;
      } else {
        sizeBytes = frameBytes;
        const message = this.#read(frameBytes, frameBytes >= LONG_PAYLOAD_BYTES ? server : undefined);
        if (message instanceof Promise) {
          pending = message;
          break;
        }
        if (message instanceof InvalidMessage) message.frameBytes = frameBytes;
        batch.push(message);
        this.frames++;
        position += frameBytes;
      }
    }
    this.#frameBytes = sizeBytes;
    this.#start = this.#broken ? end : position;
    if (pending === undefined) this.#release();
    return pending;
  }

  /** The protocol of the sender, if the first frame, which begins here, is one of another protocol. */
  #otherProtocol(start: number): OtherProtocol | undefined {
    return this.frames === 0 ? protocolOf(this.#bytes.subarray(start, this.#end)) : undefined;
  }

  /** Releases the buffer after all whole frames are read. */
  #release(): void {
    if (this.#reader.hasGivenAway) {
      this.#bytes = NO_BYTES;
      this.#start = this.#end = 0;
    }
    this.#reader.release();
  }

  /** The fault of the first message, as soon as a byte shows it. */
  #firstFault(bytes: Uint8Array, end: number): string | undefined {
    if (this.frames > 0 || this.#server === undefined) return;
    const { payloadStart, payloadEnd } = this.#scanner;
    if (payloadStart === payloadEnd || isNoMap(bytes, payloadStart, Math.min(payloadEnd, end))) return NO_MAP;
  }

  #read(
    frameBytes: number,
    server: ServerReading | undefined,
  ): Message | InvalidMessage | Promise<Message | InvalidMessage> {
    try {
      this.#reader.begin(this.#bytes, this.#scanner.payloadStart, this.#scanner.payloadEnd);
      if (server === undefined) return this.#readMessage(this.#reader, frameBytes);
      const payload = server.readAhead(this.#reader);
      if (!(payload instanceof Promise)) return this.#readMessage(payload, frameBytes);
      return payload.then((payload) => this.#readMessage(payload, frameBytes)).catch(invalidFor);
    } catch (error) {
      return invalidFor(error);
    }
  }
}

function invalidFor(error: unknown): InvalidMessage {
  if (!(error instanceof DecodeError)) throw error;
  return new InvalidMessage(error.message);
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
