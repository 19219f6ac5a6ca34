/**
 * Transports without a socket, to count the work of a call: one gives a server prepared requests, the other gives a
 * client its replies.
 *
 * In: requests. Out: the end of their replies. Refused: frames of 57,311 bytes and more, which no work here has.
 */

import type { Transport } from "../transport/transport.ts";
import { concat, frame, key, map } from "./wire.ts";

/** The position of a 32-bit `seq` in a reply: after the header, the map, its name and its type. */
const SEQ_AT = 8;

/** One end of a connection. This class is its peer. */
abstract class Feed implements Transport {
  readonly peer = "a transport without a socket";
  #bytes = new Uint8Array(0);
  #read = 0;
  #wake: (() => void) | undefined;

  /** Gives bytes to the reader. */
  protected feed(bytes: Uint8Array<ArrayBuffer>): void {
    this.#bytes = this.#read === this.#bytes.length ? bytes : concat([this.#bytes.subarray(this.#read), bytes]);
    this.#read = 0;
    this.#wake?.();
  }

  async read(into: Uint8Array): Promise<number> {
    while (this.#read === this.#bytes.length) await new Promise<void>((resolve) => this.#wake = resolve);
    const bytes = Math.min(into.length, this.#bytes.length - this.#read);
    into.set(this.#bytes.subarray(this.#read, this.#read + bytes));
    this.#read += bytes;
    return bytes;
  }

  write(bytes: Uint8Array): Promise<number> {
    let frames = 0;
    for (let at = 0; at < bytes.length; frames++) {
      at += ((((bytes[at] - 32) & 255) << 8) | ((bytes[at + 1] - 32) & 255)) + 3;
    }
    this.take(frames);
    return Promise.resolve(bytes.length);
  }

  /** Takes whole frames, and only counts them. */
  protected abstract take(frames: number): void;

  closeWrite(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {}
}

/** Sends requests to a server, and counts its replies. */
export class Prepared extends Feed {
  #left = 0;
  #onAnswered: () => void = () => {};

  /** Resolves when this many frames have come back. */
  send(requests: Uint8Array<ArrayBuffer>, replies: number): Promise<void> {
    this.#left = replies;
    this.feed(requests);
    return new Promise((resolve) => this.#onAnswered = resolve);
  }

  protected override take(frames: number): void {
    this.#left -= frames;
    if (this.#left === 0) this.#onAnswered();
  }
}

/** Answers each request of a client with the same text, in order. The client's first frame is its settings. */
export class Answering extends Feed {
  /** Consecutive replies. Only the `seq` is overwritten, so that a call needs no memory for them. */
  readonly #replies: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #replyBytes: number;
  #isGreeted = false;
  #nextSeq = 0;

  /**
   * @param result A text of 32 to 255 characters.
   * @param most The largest number of requests in one write.
   */
  constructor(result: string, most: number) {
    super();
    const fields = [[0xd9, result.length], new TextEncoder().encode(result)];
    const reply = frame(map(2), key("seq"), [0xce, 0, 0, 0, 0], key("res"), ...fields);
    this.#replyBytes = reply.length;
    this.#replies = concat(new Array(most).fill(reply));
    this.#view = new DataView(this.#replies.buffer);
  }

  protected override take(frames: number): void {
    const replies = this.#isGreeted ? frames : frames - 1;
    this.#isGreeted = true;
    for (let reply = 0; reply < replies; reply++) {
      this.#view.setUint32(reply * this.#replyBytes + SEQ_AT, this.#nextSeq++);
    }
    this.feed(this.#replies.subarray(0, replies * this.#replyBytes));
  }
}
