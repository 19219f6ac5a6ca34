/** Frames of WebSockets by hand, written anew from RFC 6455, so that nothing here shares a mistake with what it tests. */

import { assert } from "@std/assert";
import type { Transport } from "../../transport/transport.ts";
import { concat } from "./wire.ts";

/** The frames that exist. */
export const OPCODES = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** What a test says of a frame. */
export interface FrameOptions {
  /** Without it, the frame is not masked. */
  mask?: Uint8Array;
  /** Whether it is the last of its message; it is, unless said. */
  final?: boolean;
  /** The reserved bits, as in the first byte. */
  reserved?: number;
  /** How many bytes the length takes, in place of as few as it needs. */
  lengthBytes?: 0 | 2 | 8;
}

/** A frame. */
export function webSocketFrame(
  opcode: number,
  payload: Uint8Array,
  { mask, final = true, reserved = 0, lengthBytes }: FrameOptions = {},
): Uint8Array {
  const size = lengthBytes ?? (payload.length < 126 ? 0 : payload.length < 65_536 ? 2 : 8);
  const length = new DataView(new ArrayBuffer(8));
  length.setBigUint64(0, BigInt(payload.length));
  const short = size === 0 ? payload.length : size === 2 ? 126 : 127;
  return concat(
    Uint8Array.of((final ? 0x80 : 0) + reserved + opcode, (mask ? 0x80 : 0) + short),
    new Uint8Array(length.buffer).slice(8 - size),
    mask ?? new Uint8Array(),
    payload.map((byte, at) => mask === undefined ? byte : byte ^ mask[at % 4]),
  );
}

/** A close frame. */
export function closeFrame(code: number, options: FrameOptions = {}): Uint8Array {
  return webSocketFrame(OPCODES.close, Uint8Array.of(code >> 8, code & 255), options);
}

/** A frame that was sent. */
export interface SentFrame {
  opcode: number;
  payload: Uint8Array;
  mask: Uint8Array | undefined;
  final: boolean;
}

/** The frames in bytes; what is not whole is an error. */
export function webSocketFrames(bytes: Uint8Array): SentFrame[] {
  const found: SentFrame[] = [];
  for (let at = 0; at < bytes.length;) {
    const [first, second] = bytes.subarray(at);
    const view = new DataView(bytes.buffer, bytes.byteOffset + at);
    const short = second & 127;
    const length = short < 126 ? short : short === 126 ? view.getUint16(2) : Number(view.getBigUint64(2));
    at += short < 126 ? 2 : short === 126 ? 4 : 10;
    const mask = second >= 128 ? bytes.slice(at, at += 4) : undefined;
    const masked = bytes.slice(at, at += length);
    if (masked.length < length) throw new Error(`a frame of ${length} bytes is cut off after ${masked.length}`);
    const payload = masked.map((byte, index) => mask === undefined ? byte : byte ^ mask[index % 4]);
    found.push({ opcode: first & 15, payload, mask, final: first >= 128 });
  }
  return found;
}

/** A connection whose peer is a test: what it sends comes in the given pieces, and what it gets is kept. */
export class ScriptedTransport implements Transport {
  readonly peer = "script";
  readonly written: Uint8Array[] = [];
  closed = false;
  /** How many bytes one write takes at most. */
  mostWritten = Infinity;
  /** While it is set, no write ends before it resolves. */
  blocked: Promise<void> | undefined;
  readonly #pieces: Uint8Array[];
  #next = 0;
  #end: Promise<void>;

  /** @param pieces What comes. @param end When the peer's data ends, at once unless said. */
  constructor(pieces: Uint8Array[], end: Promise<void> = Promise.resolve()) {
    this.#pieces = [...pieces];
    this.#end = end;
  }

  async read(into: Uint8Array): Promise<number | null> {
    if (this.#next === this.#pieces.length) {
      await this.#end;
      return null;
    }
    const piece = this.#pieces[this.#next];
    const part = piece.subarray(0, into.length);
    if (part.length < piece.length) this.#pieces[this.#next] = piece.subarray(part.length);
    else this.#next++;
    into.set(part);
    return await Promise.resolve(part.length);
  }

  async write(bytes: Uint8Array): Promise<number> {
    const part = bytes.slice(0, this.mostWritten);
    this.written.push(part);
    await this.blocked;
    return part.length;
  }

  closeWrite(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    this.closed = true;
  }

  /** The frames that were written. */
  get frames(): SentFrame[] {
    return webSocketFrames(concat(...this.written));
  }
}

/** Text as bytes, a byte a character. */
export function latin1(words: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(words, (char) => char.charCodeAt(0));
}

/** Reads to the end, by reads of some size. */
export async function readAll(transport: Transport, sizes: () => number = () => 512): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  while (true) {
    const space = new Uint8Array(sizes());
    const bytes = await transport.read(space);
    if (bytes === null) return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
    assert(bytes > 0 && bytes <= space.length);
    parts.push(space.slice(0, bytes));
  }
}
