/**
 * The frame grammar (PROTOCOL.md, "The frame"), pure: bytes in, bounds of a payload out, and the reverse.
 *
 *     +---------+---------+---------------------+------+
 *     | n >> 8  | n & 255 |  n bytes of payload | 0x0A |      both header bytes + 32, modulo 256
 *     |   + 32  |   + 32  |  (MessagePack)      |      |
 *     +---------+---------+---------------------+------+
 *
 *     0x1F 0x1F, n as four bytes big-endian, payload, 0x0A      a long frame, for n >= 57,311
 *
 * The length decides and the newline only verifies: payloads and headers are full of 0x0A.
 *
 * Refused: a length over the limit, a length in the wrong kind of frame, a byte other than 0x0A at the end. All
 * three mean that the boundary between frames is lost, so nothing behind them can be read.
 */

/** What ends a frame. */
export const TERMINATOR = 0x0a;

/** The largest payload of a short frame: the header of the next size would be that of a long one (PROTOCOL.md, "The frame"). */
export const MAX_SHORT_PAYLOAD_BYTES = 57_310;

/** The bytes before the payload of a short frame. */
export const SHORT_HEADER_BYTES = 2;

/** The bytes before the payload of a long frame. */
export const LONG_HEADER_BYTES = 6;

/** Both bytes of the mark of a long frame: 0xFFFF in the arithmetic of the short header. */
const LONG_MARK = 0x1f;

/** With what TLS begins, before a 3: an alert, a handshake. No frame does, which helps whoever has mixed up the two. */
const TLS_RECORDS: readonly number[] = [0x15, 0x16];

/** Where the payload of the frame lies that {@linkcode FrameScanner.scan} was shown. */
export class FrameScanner {
  /** The first byte of the payload; known as soon as the header is whole, else one that has not come. */
  payloadStart = 0;
  /** One past the last byte of the payload, known with its first. */
  payloadEnd = 0;
  /** Why the last scan answered -1. */
  reason = "";
  readonly #maxPayloadBytes: number;

  /** @param maxPayloadBytes Payloads above it are refused as soon as their header is seen. */
  constructor(maxPayloadBytes: number) {
    this.#maxPayloadBytes = maxPayloadBytes;
  }

  /**
   * Looks for one whole frame at `start`.
   *
   * @returns The length of the whole frame; 0 if more bytes are needed; -1 if this is no frame ({@linkcode reason}).
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
        return this.#refuse(low === 3 && TLS_RECORDS.includes(high) ? `${reason}; so begins TLS` : reason);
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
