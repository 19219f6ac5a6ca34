/**
 * Finds frames in bytes and writes their headers (PROTOCOL.md, "The frame").
 *
 *     +---------+---------+---------------------+------+
 *     | n >> 8  | n & 255 |  n bytes of payload | 0x0A |      both header bytes + 32, modulo 256
 *     |   + 32  |   + 32  |  (MessagePack)      |      |
 *     +---------+---------+---------------------+------+
 *
 *     0x1F 0x1F, n as four bytes big-endian, payload, 0x0A      a long frame, for n >= 57,311
 *
 * In: bytes. Out: the bounds of a payload. Refused: a length over the limit, a length in the wrong kind of frame, a
 * byte other than 0x0A at the end. After any of these the frame boundary is lost, so nothing more can be read.
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
  /** The first byte of the payload, once the header is complete; otherwise past the received bytes. */
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
    if (bytes[payloadEnd] !== TERMINATOR) return this.#refuse("the byte after the payload is not 0x0A");
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
