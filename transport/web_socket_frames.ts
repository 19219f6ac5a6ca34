/**
 * The frames of a WebSocket (RFC 6455) as a transport: the bytes in its messages, without their boundaries.
 *
 * In: a connection after its handshake. Out: a transport. Bytes are read into the reader's buffer and unmasked there. A
 * length from the peer is only counted down, so it allocates no memory. Refused: text (1003) and protocol errors
 * (1002).
 *
 * A close frame ends one direction, as a FIN does: earlier requests are answered before the peer gets a close frame in
 * return. A server that ends a connection at once sends one too (1001). A peer that closes with another code gets it
 * back, and a peer that breaks the protocol gets its code, behind the frame that is being sent, if it reads that within
 * a second.
 */

import type { PeerCertificate } from "./certificate.ts";
import { type Clock, systemClock, type Timer } from "./clock.ts";
import { fills, type Transport, writeAll } from "./transport.ts";
import { applyMask, MASK_BYTES, randomMask } from "./web_socket_mask.ts";

/** Which end of the connection this is. A client masks its output, and a server does not. */
export type WebSocketRole = "client" | "server";

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

const FINAL = 0x80;
const MASKED = 0x80;
const RESERVED = 0x70;
const OPCODE = 0x0f;
const MAX_CONTROL_BYTES = 125;

/** The longest head of a frame: two bytes, a length of eight, a mask. */
const MAX_HEAD_BYTES = 14;

/** The largest payload of a sent frame. Its length takes two bytes, and a slow peer is seen to make progress. */
const MAX_SENT_BYTES = 65_535;

const NORMAL = 1000;
const GOING_AWAY = 1001;
const PROTOCOL_ERROR = 1002;
const TEXT_REFUSED = 1003;
const TOO_LARGE = 1009;

/** How long a peer that ends the connection at once may take to read what comes before the close frame. */
const LAST_MS = 1_000;

/**
 * After this many bytes that belong to no message, in reads that fill their space, the rest waits for a moment. No pace
 * of a connection counts these bytes, and a peer that floods a server with pings would hold back all others.
 */
const MAX_OVERHEAD_BYTES = 16 * 1024;
const PAUSE_MS = 1;

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

/** Carries the bytes of one connection in the frames of a WebSocket. */
export class WebSocketTransport implements Transport {
  readonly headers: Headers | undefined;
  readonly releasesBytes = true; // the bytes are copied after the head of their frame
  readonly #below: Transport;
  readonly #masks: boolean;
  readonly #frames: FrameReader;
  readonly #clock: Clock;
  /** The frame that is being sent. Frames are sent one after another. */
  #sending: Promise<void> | undefined;
  #isAnswering = false;
  #isClosed = false;
  /** The bytes that belonged to no message, since the last pause or the last read that left space. */
  #overheadBytes = 0;

  /**
   * @param below The connection, after its handshake.
   * @param role Which end this is.
   * @param headers The headers of the request that opened it, for a server.
   * @param clock The clock for the limit of a last close frame.
   */
  constructor(below: Transport, role: WebSocketRole, headers?: Headers, clock: Clock = systemClock) {
    this.#clock = clock;
    this.#below = below;
    this.#masks = role === "client";
    this.#frames = new FrameReader(role === "server");
    this.headers = headers;
  }

  get peer(): string | undefined {
    return this.#below.peer;
  }

  get certificate(): PeerCertificate | undefined {
    return this.#below.certificate;
  }

  get broken(): Promise<void> | undefined {
    return this.#below.broken;
  }

  async read(into: Uint8Array): Promise<number | null> {
    const frames = this.#frames;
    while (frames.ending === undefined) {
      if (this.#overheadBytes > MAX_OVERHEAD_BYTES) await this.#pause();
      const readBytes = await this.#below.read(into);
      if (readBytes === null) throw new Error("the peer has ended the connection without a close frame");
      const bytes = frames.take(into, readBytes);
      this.#overheadBytes = fills(into.length, readBytes) ? this.#overheadBytes + readBytes - bytes : 0;
      if (frames.ping !== undefined) void this.#answerPings();
      if (bytes > 0) return bytes;
    }
    const { code, fault } = frames.ending;
    if (fault === undefined) return null;
    await this.#closeInTime(code);
    throw new Error(fault);
  }

  async write(bytes: Uint8Array): Promise<number> {
    if (bytes.length === 0) return this.#below.write(bytes); // a probe
    const part = bytes.length <= MAX_SENT_BYTES ? bytes : bytes.subarray(0, MAX_SENT_BYTES);
    await this.#send(BINARY, part);
    return part.length;
  }

  closeWrite(): Promise<void> {
    return this.#close(NORMAL);
  }

  /** A server sends a close frame if it can leave at once. Otherwise a page sees 1006, as after a failure. */
  close(): void {
    if (!this.#masks && this.#sending === undefined) {
      this.#close(this.#frames.ending?.code ?? GOING_AWAY).catch(() => {}); // the peer has left already
    }
    this.#isClosed = true;
    this.#below.close();
  }

  look(): void {
    this.#below.look?.();
  }

  ref(): void {
    this.#below.ref?.();
  }

  unref(): void {
    this.#below.unref?.();
  }

  async #pause(): Promise<void> {
    this.#overheadBytes = 0;
    await new Promise<void>((resolve) => this.#clock.setTimer(resolve, PAUSE_MS, true));
  }

  async #close(code: number): Promise<void> {
    if (this.#isClosed) return;
    const sent = this.#send(CLOSE, Uint8Array.of(code >> 8, code & 255));
    this.#isClosed = true;
    await sent;
  }

  /** Sends a close frame behind the frame that is being sent, but does not wait long for a peer that may not read. */
  async #closeInTime(code: number): Promise<void> {
    let timer: Timer | undefined;
    const late = new Promise<void>((resolve) => timer = this.#clock.setTimer(resolve, LAST_MS, false));
    await Promise.race([this.#close(code), late]).catch(() => {}); // the fault says more than a broken connection
    this.#clock.clearTimer(timer as Timer);
  }

  /** Answers the newest ping. Earlier pings that arrived while an answer waited get no answer, as the RFC allows. */
  async #answerPings(): Promise<void> {
    if (this.#isAnswering) return;
    this.#isAnswering = true;
    try {
      while (this.#frames.ping !== undefined && !this.#isClosed) {
        await this.#sending;
        const { ping } = this.#frames;
        this.#frames.ping = undefined;
        await this.#send(PONG, ping as Uint8Array);
      }
    } catch {
      // The next read or write gets the same error.
    }
    this.#isAnswering = false;
  }

  async #send(opcode: number, payload: Uint8Array): Promise<void> {
    while (this.#sending !== undefined) await this.#sending;
    if (this.#isClosed && opcode !== CLOSE) throw new Error(this.#frames.ending?.fault ?? "the WebSocket is closed");
    const frame = frameOf(opcode, payload, this.#masks);
    this.#sending = writeAll(this.#below, frame);
    await this.#sending;
    this.#sending = undefined;
    if (this.#below.releasesBytes) reuse(frame);
  }
}

/** Why there is nothing more to read. */
interface Ending {
  /** The code of the peer's close frame, or of the close frame to send. */
  readonly code: number;
  /** What the peer did wrong, or how it has closed the WebSocket, unless that was in order. */
  readonly fault?: string;
}

/** Extracts the bytes of messages from frames. */
class FrameReader {
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
function frameOf(opcode: number, payload: Uint8Array, masks: boolean): Uint8Array<ArrayBuffer> {
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

function reuse(frame: Uint8Array<ArrayBuffer>): void {
  if (frame.length >= REUSED_FROM_BYTES && spare.length < MAX_SPARE) spare.push(new Uint8Array(frame.buffer));
}
