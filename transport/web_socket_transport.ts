/**
 * A WebSocket (RFC 6455) as a transport: the bytes in its messages, without their boundaries.
 *
 * In: a connection after its handshake. Out: a transport. Refused: what `web_socket_frames.ts` refuses.
 *
 * A close frame ends one direction, as a FIN does: earlier requests are answered before the peer gets a close frame in
 * return. A server that ends a connection at once sends one too (1001). A peer that closes with another code gets it
 * back, and a peer that breaks the protocol gets its code, behind the frame that is being sent, if it reads that within
 * a second.
 */

import { type Clock, systemClock, within } from "./clock.ts";
import { fills, type Transport, TransportAbove, writeAll } from "./transport.ts";
import { BINARY, CLOSE, frameOf, FrameReader, MAX_SENT_BYTES, NORMAL, PONG, reuse } from "./web_socket_frames.ts";

/** Which end of the connection this is. A client masks its output, and a server does not. */
export type WebSocketRole = "client" | "server";

/** The code of a close frame of a server that ends the connection. */
export const GOING_AWAY = 1001;

/** How long a peer that ends the connection at once may take to read what comes before the close frame. */
const LAST_MS = 1_000;

/**
 * After this many bytes that belong to no message, in reads that fill their space, the rest waits for a moment. No pace
 * of a connection counts these bytes, and a peer that floods a server with pings would hold back all others.
 */
const MAX_OVERHEAD_BYTES = 16 * 1024;
const PAUSE_MS = 1;

/** Carries the bytes of one connection in the frames of a WebSocket. */
export class WebSocketTransport extends TransportAbove implements Transport {
  readonly headers: Headers | undefined;
  readonly releasesBytes = true; // the bytes are copied after the head of their frame
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
    super(below);
    this.#clock = clock;
    this.#masks = role === "client";
    this.#frames = new FrameReader(role === "server");
    this.headers = headers;
  }

  async read(into: Uint8Array): Promise<number | null> {
    const frames = this.#frames;
    while (frames.ending === undefined) {
      if (this.#overheadBytes > MAX_OVERHEAD_BYTES) await this.#pause();
      const readBytes = await this.below.read(into);
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
    if (bytes.length === 0) return this.below.write(bytes); // a probe
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
    this.below.close();
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
    const late = () => new Error("the peer does not read");
    await within(this.#clock, LAST_MS, this.#close(code), late).catch(() => {}); // the fault says more than any error
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
    this.#sending = writeAll(this.below, frame);
    await this.#sending;
    this.#sending = undefined;
    if (this.below.releasesBytes) reuse(frame);
  }
}
