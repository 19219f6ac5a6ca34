/**
 * Frames: finds them in bytes, writes their headers (PROTOCOL.md, "The frame"), and manages their buffers.
 *
 *     +---------+---------+---------------------+------+
 *     | n >> 8  | n & 255 |  n bytes of payload | 0x0A |      both header bytes + 32, modulo 256
 *     |   + 32  |   + 32  |  (MessagePack)      |      |
 *     +---------+---------+---------------------+------+
 *
 *     0x1F 0x1F, n as four bytes big-endian, payload, 0x0A      a long frame, for n >= 57,311
 *
 * In: bytes. Out: the bounds of a payload; the protocol of a broken frame's sender, if it is another one; slabs.
 * Refused: a length over the limit, a length in the wrong kind of frame, a byte other than 0x0A at the end. After any
 * of these the frame boundary is lost, so nothing more can be read.
 *
 * Only the length finds the end of a frame; the newline verifies it. Headers and payloads may contain 0x0A too.
 */

/** The last byte of a frame. */
export const TERMINATOR = 0x0a;

/** The largest payload of a short frame. The next header value marks a long frame (PROTOCOL.md, "The frame"). */
export const MAX_SHORT_PAYLOAD_BYTES = 57_310;

/** The header size of a short frame. */
export const SHORT_HEADER_BYTES = 2;

/** The header size of a long frame. */
export const LONG_HEADER_BYTES = 6;

/** Both bytes of the mark of a long frame: 0xFFFF in the arithmetic of the short header. */
const LONG_MARK = 0x1f;

/** The first byte of a TLS alert or handshake; the second byte is 3. No frame starts with these two bytes. */
const TLS_RECORDS: readonly number[] = [0x15, 0x16];

/** Finds the payload of a frame. */
export class FrameScanner {
  /** The first byte of the payload, if the header is complete; otherwise past the received bytes. */
  payloadStart = 0;
  /** One past the last byte of the payload; known with `payloadStart`. */
  payloadEnd = 0;
  /** Why the last scan returned -1. */
  reason = "";
  readonly #maxPayloadBytes: number;

  /** @param maxPayloadBytes Larger payloads are rejected as soon as their header is read. */
  constructor(maxPayloadBytes: number) {
    this.#maxPayloadBytes = maxPayloadBytes;
  }

  /**
   * Looks for one complete frame at `start`.
   *
   * @returns The length of the frame; 0 if more bytes are needed; -1 if it is broken ({@linkcode reason}).
   */
  scan(bytes: Uint8Array, start: number, end: number): number {
    this.payloadStart = end;
    this.payloadEnd = Infinity;
    if (end - start < SHORT_HEADER_BYTES) return 0;
    const high = bytes[start];
    const low = bytes[start + 1];
    let length = (((high - 32) & 255) << 8) | ((low - 32) & 255);
    let headerBytes = SHORT_HEADER_BYTES;
    if (length > MAX_SHORT_PAYLOAD_BYTES) {
      if (high !== LONG_MARK || low !== LONG_MARK) {
        const reason = `the header declares ${length} bytes, a short frame holds at most 57310`;
        return this.#refuse(low === 3 && TLS_RECORDS.includes(high) ? `${reason}; this looks like TLS` : reason);
      }
      if (end - start < LONG_HEADER_BYTES) return 0;
      headerBytes = LONG_HEADER_BYTES;
      // Unsigned: the first of the four bytes may be over 127.
      length = ((bytes[start + 2] << 24) | (bytes[start + 3] << 16) | (bytes[start + 4] << 8) | bytes[start + 5]) >>> 0;
      if (length <= MAX_SHORT_PAYLOAD_BYTES) {
        return this.#refuse(`a long frame declares ${length} bytes, which belong in a short one`);
      }
    }
    if (length > this.#maxPayloadBytes) {
      return this.#refuse(`the header declares ${length} bytes, the limit is ${this.#maxPayloadBytes}`);
    }
    const payloadStart = start + headerBytes;
    const payloadEnd = payloadStart + length;
    this.payloadStart = payloadStart;
    this.payloadEnd = payloadEnd;
    if (payloadEnd >= end) return 0;
    if (bytes[payloadEnd] !== TERMINATOR) {
      return this.#refuse(`the byte after the payload of ${length} bytes is not 0x0A`);
    }
    return payloadEnd + 1 - start;
  }

  #refuse(reason: string): -1 {
    this.reason = reason;
    return -1;
  }
}

/** Writes the header of a short frame at `at`. */
export function writeShortHeader(bytes: Uint8Array, at: number, payloadBytes: number): void {
  bytes[at] = ((payloadBytes >> 8) + 32) & 255;
  bytes[at + 1] = ((payloadBytes & 255) + 32) & 255;
}

/** Writes the header of a long frame at `at`. */
export function writeLongHeader(bytes: Uint8Array, at: number, payloadBytes: number): void {
  bytes[at] = LONG_MARK;
  bytes[at + 1] = LONG_MARK;
  bytes[at + 2] = payloadBytes >>> 24;
  bytes[at + 3] = payloadBytes >>> 16;
  bytes[at + 4] = payloadBytes >>> 8;
  bytes[at + 5] = payloadBytes;
}

// The first bytes of a connection, at least two, may show that its sender speaks another protocol.

/** The protocols that are recognized in place of packline. */
export type OtherProtocol = "HTTP" | "TLS" | "SSH" | "PROXY";

/** The beginning of each protocol; each character is one byte. */
const BEGINNINGS: readonly (readonly [string, OtherProtocol])[] = [
  ...["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ", "PRI * HTTP/2.0"].map(
    (method) => [method, "HTTP"] as const,
  ),
  ["HTTP/", "HTTP"], // an answer
  ["\x16\x03", "TLS"], // a handshake, or an alert
  ["\x15\x03", "TLS"],
  ["SSH-", "SSH"],
  ["PROXY ", "PROXY"],
  ["\r\n\r\n\0\r\nQUIT\n", "PROXY"],
];

/** The protocol of the sender of these bytes, if it is not packline. */
export function protocolOf(bytes: Uint8Array): OtherProtocol | undefined {
  return BEGINNINGS.find(([beginning]) => {
    const length = Math.min(beginning.length, bytes.length);
    return length > 1 && beginning.startsWith(String.fromCharCode(...bytes.subarray(0, length)));
  })?.[1];
}

// The buffers of frames. V8 collects young objects as soon as their space is full. The bytes of a buffer are outside
// that space, so many megabytes of them accumulate first, and then V8 collects all objects, which takes a hundred times
// as long. So each buffer comes with litter: an unused array inside that space.

/** Smaller buffers have no litter. */
const LEAST_LITTERED_BYTES = 4 * 1024;

/** Larger buffers have no litter either: after a few of them, V8 collects all objects in any case. */
const LARGEST_LITTERED_BYTES = 2 * 1024 * 1024;

/** The size of the litter, as a share of the buffer's size. */
const LITTER_SHARE = 1 / 4;

const ELEMENT_BYTES = 8;

/** Elements of one array of litter: V8 keeps larger arrays elsewhere. */
const LITTER_ELEMENTS = 8 * 1024;

/** The last litter. It is exported so that the compiler does not remove it. */
export let litter: unknown[] | undefined;

/** A new buffer. */
export function newBuffer(bytes: number): Uint8Array<ArrayBuffer> {
  if (bytes >= LEAST_LITTERED_BYTES && bytes <= LARGEST_LITTERED_BYTES) {
    for (let left = bytes * LITTER_SHARE / ELEMENT_BYTES; left >= 1; left -= LITTER_ELEMENTS) {
      litter = new Array(Math.floor(Math.min(left, LITTER_ELEMENTS)));
    }
  }
  return new Uint8Array(bytes);
}

// The slabs that frames are written into. New memory costs more than what is written into it, so a slab is used again
// after all its frames were sent: one of each size for the whole process. A slab of which a frame is lost is not.

/** The size of a slab that many frames share. */
export const SLAB_BYTES = 64 * 1024;

/** The slab before the first allocation. */
export const NO_SLAB = new Uint8Array(0);

/** Room after binary data, so that the few bytes that follow it do not make the slab grow again. */
export const ROOM_BEHIND_BYTES = 64;

/** A range of a buffer. A view would cost 100 bytes of memory, and more time than writing the bytes. */
export interface Span {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Larger slabs are not kept. */
const LARGEST_SPARE_BYTES = 2 * 1024 * 1024;

/** The last slab of a large frame that has been sent. */
let spareSlab: Uint8Array<ArrayBuffer> | undefined;

/** The last shared slab, and the one before it if its writer has left it, each with its chunks that are not sent. */
let last = { slab: NO_SLAB, chunks: 0 };
let before = last;

/** A slab of at least this size, and not much larger. */
export function slabOf(bytes: number): Uint8Array<ArrayBuffer> {
  const slab = spareSlab;
  const isFit = slab !== undefined && bytes > SLAB_BYTES && bytes <= slab.length && slab.length <= 2 * bytes;
  if (!isFit) return newBuffer(bytes);
  spareSlab = undefined;
  return slab;
}

/**
 * A slab that frames share.
 *
 * @param full The slab that its writer leaves. Another writer, for a getter that sends something, may use its own.
 */
export function sharedSlab(full: Uint8Array): Uint8Array<ArrayBuffer> {
  const isFree = before.slab !== NO_SLAB && before.chunks === 0;
  const next = isFree ? before : { slab: newBuffer(SLAB_BYTES), chunks: 0 };
  before = full === last.slab ? last : { slab: NO_SLAB, chunks: 0 };
  last = next;
  return next.slab;
}

/** A chunk of this slab will be sent. */
export function holdSlab(slab: Uint8Array): void {
  if (slab === last.slab) last.chunks++;
}

/**
 * A chunk was sent, or copied: its slab may be written again.
 *
 * @param chunk Nothing may read its bytes after this call.
 */
export function reuseSlab({ buffer }: Uint8Array): void {
  if (buffer === last.slab.buffer) {
    last.chunks--;
  } else if (buffer === before.slab.buffer) {
    before.chunks--;
  } else if (buffer.byteLength > SLAB_BYTES && buffer.byteLength <= LARGEST_SPARE_BYTES) {
    spareSlab = new Uint8Array(buffer as ArrayBuffer); // a large frame was alone in it
  }
}
