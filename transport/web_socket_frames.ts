/**
 * The frames of a WebSocket (RFC 6455, section 5): read from received bytes, and made of bytes to send.
 *
 * In: received bytes; payloads. Out: the bytes of messages, at the beginning of the same buffer and unmasked; pings; how
 * the peer has ended the WebSocket; frames. A length from the peer is only counted down, so it allocates no memory.
 * Refused, by an ending: text (1003) and protocol errors (1002).
 */

import { applyMask, MASK_BYTES, randomMask } from "./web_socket_mask.ts";

// The opcodes.
const CONTINUATION = 0;
const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
const PING = 9;
export const PONG = 10;

// The bits of the first two bytes.
const FINAL = 0x80;
const MASKED = 0x80;
const RESERVED = 0x70;
const OPCODE = 0x0f;
const MAX_CONTROL_BYTES = 125;

/** The longest head of a frame: two bytes, a length of eight, a mask. */
const MAX_HEAD_BYTES = 14;

/** The largest payload of a sent frame. Its length takes two bytes, and a slow peer is seen to make progress. */
export const MAX_SENT_BYTES = 65_535;

// The codes of a close frame.
export const NORMAL = 1000;
const PROTOCOL_ERROR = 1002;
export const TEXT_REFUSED = 1003;
const TOO_LARGE = 1009;

const REASON_DECODER = new TextDecoder("utf-8", { fatal: true });

/** What the codes of a close frame mean (RFC 6455, section 7.4.1). */
const CLOSE_CODES: Readonly<Record<number, string>> = {
  1001: "it is going away",
  1002: "protocol error",
  1003: "data of a kind that it does not take",
  1007: "data that is not valid",
  1008: "policy violation",
  1009: "a message is too large",
  1010: "an extension is missing",
  1011: "internal error",
  1012: "it restarts",
  1013: "try again later",
  1014: "a gateway got no valid answer",
};

/** Why there is nothing more to read. */
interface Ending {
  /** The code of the peer's close frame, or of the close frame to send. */
  readonly code: number;
  /** What the peer did wrong, or how it has closed the WebSocket, unless that was in order. */
  readonly fault?: string;
}

/** Extracts the bytes of messages from frames. */
export class FrameReader {
  /** The payload of the newest ping. */
  ping: Uint8Array | undefined;
  ending: Ending | undefined;
  readonly #isMasked: boolean;
  /** The head of the current frame, and how many of its bytes were received. */
  readonly #head = new Uint8Array(MAX_HEAD_BYTES);
  #headBytes = 0;
  readonly #mask = new Uint8Array(MASK_BYTES);
  #opcode = CONTINUATION;
  #payloadBytes = 0;
  /** How many bytes of the payload are missing. */
  #missingBytes = 0;
  /** The received part of a control frame's payload. */
  #control = new Uint8Array(0);
  /** Whether a message has begun and its last frame was not received yet. */
  #isInMessage = false;

  /** @param isMasked Whether the peer must mask its frames. */
  constructor(isMasked: boolean) {
    this.#isMasked = isMasked;
  }

  /**
   * Takes bytes, and moves the bytes of messages to the beginning of the buffer.
   *
   * @param bytes The buffer.
   * @param end How many bytes of the buffer were received.
   * @returns How many bytes belong to messages.
   */
  take(bytes: Uint8Array, end: number): number {
    let messageBytes = 0;
    for (let start = 0; start < end && this.ending === undefined;) {
      if (this.#missingBytes === 0) {
        this.#takeOfHead(bytes[start++]);
        continue;
      }
      const partEnd = Math.min(end, start + this.#missingBytes);
      if (this.#isMasked) {
        applyMask(bytes, start, partEnd, this.#mask, this.#payloadBytes - this.#missingBytes);
      }
      if (this.#opcode >= CLOSE) {
        this.#control.set(bytes.subarray(start, partEnd), this.#payloadBytes - this.#missingBytes);
      } else {
        if (start > messageBytes) bytes.copyWithin(messageBytes, start, partEnd);
        messageBytes += partEnd - start;
      }
      this.#missingBytes -= partEnd - start;
      start = partEnd;
      if (this.#missingBytes === 0) this.#endFrame();
    }
    return messageBytes;
  }

  #takeOfHead(byte: number): void {
    const head = this.#head;
    head[this.#headBytes++] = byte;
    if (this.#headBytes < 2) return;
    if (this.#headBytes === 2) this.ending = this.#faultOf(head[0], head[1]);
    if (this.ending !== undefined) return;
    const short = head[1] & ~MASKED;
    const lengthEnd = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (this.#headBytes < lengthEnd + (this.#isMasked ? MASK_BYTES : 0)) return;
    const length = short < 126 ? short : lengthOf(head.subarray(2, lengthEnd));
    if (length < 126 && short >= 126 || length < 65_536 && short === 127) {
      this.ending = {
        code: PROTOCOL_ERROR,
        fault: `the peer has sent the length ${length} in more bytes than it takes`,
      };
    } else if (length > Number.MAX_SAFE_INTEGER) {
      this.ending = { code: TOO_LARGE, fault: "the peer has announced a message that never ends" };
    }
    if (this.ending !== undefined) return;
    this.#mask.set(head.subarray(lengthEnd, this.#headBytes));
    this.#headBytes = 0;
    this.#payloadBytes = this.#missingBytes = length;
    this.#opcode = head[0] & OPCODE;
    if (this.#opcode < CLOSE) this.#isInMessage = (head[0] & FINAL) === 0;
    else this.#control = new Uint8Array(length);
    if (length === 0) this.#endFrame();
  }

  /** What is wrong with a frame, by its first two bytes. */
  #faultOf(first: number, second: number): Ending | undefined {
    const opcode = first & OPCODE;
    const isControl = opcode >= CLOSE;
    if (opcode === TEXT) return { code: TEXT_REFUSED, fault: "the peer has sent text, and messages here are binary" };
    const fault = (first & RESERVED) !== 0
      ? "a reserved bit, which belongs to an extension"
      : opcode > BINARY && opcode < CLOSE || opcode > PONG
      ? `the unknown opcode ${opcode}`
      : isControl && (first & FINAL) === 0
      ? "a control frame in parts"
      : isControl && (second & ~MASKED) > MAX_CONTROL_BYTES
      ? `a control frame of more than ${MAX_CONTROL_BYTES} bytes`
      : opcode === CONTINUATION && !this.#isInMessage
      ? "the continuation of no message"
      : opcode === BINARY && this.#isInMessage
      ? "a message within another one"
      : (second & MASKED) !== (this.#isMasked ? MASKED : 0)
      ? `a frame ${this.#isMasked ? "without a mask, which a client must have" : "with a mask, which a server has not"}`
      : undefined;
    return fault === undefined ? undefined : { code: PROTOCOL_ERROR, fault: `the peer has sent ${fault}` };
  }

  #endFrame(): void {
    const payload = this.#control;
    if (this.#opcode === PING) this.ping = payload;
    if (this.#opcode !== CLOSE) return;
    const code = payload.length === 0 ? NORMAL : payload[0] << 8 | payload[1];
    const isKnown = code === NORMAL || code in CLOSE_CODES || code >= 3000 && code <= 4999;
    const wrong = payload.length === 1 || !isKnown
      ? "code is not valid"
      : isText(payload.subarray(2))
      ? undefined
      : "reason is not UTF-8";
    if (wrong !== undefined) {
      this.ending = { code: PROTOCOL_ERROR, fault: `the peer has sent a close frame whose ${wrong}` };
    } else if (code === NORMAL) {
      this.ending = { code };
    } else {
      const meaning = CLOSE_CODES[code] ?? "a code of its own";
      this.ending = { code, fault: `the peer has closed the WebSocket with ${code}, ${meaning}` };
    }
  }
}

function isText(bytes: Uint8Array): boolean {
  try {
    REASON_DECODER.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** The length of a payload in two or eight bytes. */
function lengthOf(bytes: Uint8Array): number {
  return bytes.reduce((length, byte) => 256 * length + byte, 0);
}

/** A frame in its own buffer, which nothing else uses. */
export function frameOf(opcode: number, payload: Uint8Array, masks: boolean): Uint8Array<ArrayBuffer> {
  const lengthEnd = payload.length < 126 ? 2 : 4;
  const start = lengthEnd + (masks ? MASK_BYTES : 0);
  const frame = spaceFor(start + payload.length);
  frame[0] = FINAL | opcode;
  frame[1] = (masks ? MASKED : 0) | (lengthEnd === 2 ? payload.length : 126);
  if (lengthEnd > 2) {
    frame[2] = payload.length >> 8;
    frame[3] = payload.length & 255;
  }
  frame.set(payload, start);
  if (!masks) return frame;
  const mask = randomMask();
  frame.set(mask, lengthEnd);
  applyMask(frame, start, frame.length, mask, 0);
  return frame;
}

/**
 * From this many bytes up, the buffer of a frame is reused. Otherwise garbage collection takes a quarter of the CPU
 * time of large payloads.
 */
const REUSED_FROM_BYTES = 8 * 1024;
const MAX_SPARE = 8;
const spare: Uint8Array<ArrayBuffer>[] = [];

function spaceFor(bytes: number): Uint8Array<ArrayBuffer> {
  if (bytes < REUSED_FROM_BYTES) return new Uint8Array(bytes);
  return (spare.pop() ?? new Uint8Array(MAX_HEAD_BYTES + MAX_SENT_BYTES)).subarray(0, bytes);
}

/** A frame is sent, and the transport below has released its bytes. */
export function reuse(frame: Uint8Array<ArrayBuffer>): void {
  if (frame.length >= REUSED_FROM_BYTES && spare.length < MAX_SPARE) spare.push(new Uint8Array(frame.buffer));
}
