/**
 * Bytes and frames, for tests of the wire format.
 *
 * Frames are encoded and decoded here independently of `codec/frame.ts`, so that a mistake there shows. Values go
 * through `msgpack.ts`, which is tested against `@std/msgpack`.
 */

import { assertEquals } from "@std/assert";
import { decode, encode } from "./msgpack.ts";

/** A reply, or any other message, as its fields. */
export type Message = Record<string, unknown>;

/** Bytes as text: `20 26 81`. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** Text as bytes, blanks ignored. */
export function unhex(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replaceAll(/\s/g, "");
  return Uint8Array.from(
    { length: digits.length / 2 },
    (_, index) => parseInt(digits.slice(2 * index, 2 * index + 2), 16),
  );
}

/** Pieces as one. */
export function concat(...pieces: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** Bytes cut into pieces of one size. */
export function chunksOf(bytes: Uint8Array, size: number): Uint8Array[] {
  return Array.from(
    { length: Math.ceil(bytes.length / size) },
    (_, index) => bytes.slice(index * size, (index + 1) * size),
  );
}

/** A payload in its frame: short below 57,311 bytes, else long. */
export function frame(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const size = payload.length;
  const header = size < 57_311
    ? [((size >> 8) + 32) % 256, ((size % 256) + 32) % 256]
    : [0x1f, 0x1f, (size >> 24) & 255, (size >> 16) & 255, (size >> 8) & 255, size & 255];
  return concat(Uint8Array.from(header), payload, Uint8Array.of(0x0a));
}

/** A request, a control message or a reply as a frame: the fields in their order. */
export function message(fields: Message): Uint8Array<ArrayBuffer> {
  return frame(encode(fields));
}

/** A request as a frame. */
export const request = message;

/** A reply as a frame, as a scripted server sends it. */
export const reply = message;

/** Takes whole frames off the front of some bytes. */
export function takeFrames(bytes: Uint8Array): { payloads: Uint8Array[]; rest: Uint8Array } {
  const payloads: Uint8Array[] = [];
  let at = 0;
  while (bytes.length - at >= 2) {
    let size = ((bytes[at] + 224) % 256) * 256 + (bytes[at + 1] + 224) % 256;
    let header = 2;
    if (size === 0xffff) {
      if (bytes.length - at < 6) break;
      header = 6;
      size = new DataView(bytes.buffer, bytes.byteOffset + at + 2).getUint32(0);
    } else if (size >= 57_311) {
      throw new Error(`no frame begins with ${hex(bytes.subarray(at, at + 2))}`);
    }
    const end = at + header + size;
    if (end >= bytes.length) break;
    if (bytes[end] !== 0x0a) throw new Error(`a frame ends with ${hex(bytes.subarray(end, end + 1))}`);
    payloads.push(bytes.slice(at + header, end));
    at = end + 1;
  }
  return { payloads, rest: bytes.slice(at) };
}

/** Some bytes, which must be whole frames, as messages. */
export function messages(bytes: Uint8Array): Message[] {
  const { payloads, rest } = takeFrames(bytes);
  assertEquals(hex(rest), "", "bytes that are no whole frame");
  return payloads.map((payload) => decode(payload) as Message);
}
