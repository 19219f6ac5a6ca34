/**
 * One connection of a server: source, decode, dispatch, encode, sink, and an eye on the time.
 *
 * In: a transport. Out: a promise of its end, which never rejects. What goes wrong on the way belongs to this
 * connection alone: it ends, and its handlers are told.
 */

import { DecodeStage } from "../codec/decode.ts";
import { EncodeStage } from "../codec/encode.ts";
import { BadFrame, type Control, type Request } from "../codec/message.ts";
import { readRequest } from "../codec/read_message.ts";
import { RpcError } from "../errors.ts";
import { compose } from "../session/pipeline.ts";
import { OutputBuffer } from "../session/output_buffer.ts";
import {
  bufferAfter,
  closeTransport,
  FIRST_READ_BYTES,
  LARGEST_READ_BYTES,
  type Transport,
} from "../transport/transport.ts";
import { READS_A_ROUND } from "../session/yield_budget.ts";
import { DispatchStage } from "./dispatch.ts";
import type { OpenConnection, ServerState } from "./server_state.ts";

/** A read that may hold work for long: with the next one, it may be another's turn. */
const LONG_READ_BYTES = 4 * 1024;

/**
 * After the last reply, what the peer still sends is read and dropped, so that the reply is not lost to a reset: up to
 * this much, this long.
 */
const LINGER_BYTES = 64 * 1024;
const LINGER_MS = 2_000;

/** A frame that comes at this rate is not slow, however long it takes. */
const LEAST_BYTES_PER_SECOND = 4 * 1024;

/** The queues of the stages are bounded elsewhere: each write is awaited, and dispatch asks the outflow for room. */
const UNBOUNDED: QueuingStrategy = { highWaterMark: Infinity };

/** A connection while it lasts. */
export class Connection implements OpenConnection {
  readonly #server: ServerState;
  readonly #transport: Transport;
  readonly #decode: DecodeStage<Request | Control>;
  readonly #dispatch: DispatchStage;
  readonly #outflow: OutputBuffer;
  readonly #requests: WritableStreamDefaultWriter<Uint8Array>;
  readonly #replies: ReadableStreamDefaultReader<Uint8Array>;
  /** Lasts while replies wait to be sent: a connection that is silent holds no read of them, which would cost it 1 KiB. */
  #sending: Promise<void> | undefined;
  #receivedBytes = 0;
  /** Whether the peer may send: not while what it has sent already waits for room. */
  #reading = false;
  #probing = false;
  #bytesAtOnce = LARGEST_READ_BYTES;
  readonly #ended = Promise.withResolvers<void>();
  #watched = { receivedBytes: 0, sentBytes: 0, frames: 0 };
  #silentSinceMs = Infinity;
  /** Since when, and from which byte on, the progress of a frame is watched. */
  #midFrameSinceMs = Infinity;
  #midFrameFromBytes = 0;
  #unsentSinceMs = Infinity;

  constructor(server: ServerState, transport: Transport) {
    const { limits } = server;
    this.#server = server;
    this.#transport = transport;
    this.#outflow = new OutputBuffer(limits.maxQueuedBytes, () => this.#sending ??= this.#send());
    this.#decode = new DecodeStage(readRequest, limits, true);
    this.#dispatch = new DispatchStage(server, this.#outflow, transport.peer ?? "unknown peer", transport.certificate);
    const stages = compose(this.#decode, this.#dispatch, new EncodeStage(this.#dispatch));
    const { writable, readable } = new TransformStream(stages, UNBOUNDED, UNBOUNDED);
    this.#requests = writable.getWriter();
    this.#replies = readable.getReader();
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Serves until both directions have ended, or until it is closed. */
  run(): Promise<void> {
    this.#server.connections.add(this);
    this.#server.counts.connectionsAccepted++;
    this.#transport.broken?.catch((error) => this.close(error));
    void this.#serve();
    return this.ended;
  }

  /** Both directions, to their end. */
  async #serve(): Promise<void> {
    const received = this.#receive();
    try {
      await this.#replies.closed;
    } catch (error) {
      // An error of this code, unless the stages were ended on purpose.
      if (!this.#dispatch.gone) this.#server.report(error, { peer: this.#dispatch.peer });
      this.close(error);
    }
    await this.#sending;
    await this.#transport.closeWrite().catch((error) => this.close(error));
    const linger = this.#server.clock.setTimer(() => this.close(), LINGER_MS, false);
    await received;
    this.#server.clock.clearTimer(linger);
    this.close();
  }

  drain(): void {
    this.#dispatch.drain();
  }

  cut(): void {
    this.#dispatch.cut();
  }

  /** Ends both directions now, whatever is under way. */
  close(reason: unknown = new Error("the connection was closed")): void {
    this.#dispatch.cancel(reason);
    this.#outflow.close();
    closeTransport(this.#transport);
    // A stream whose peer does not read cannot always be made to give up a write: the end does not wait for it.
    this.#server.connections.delete(this);
    this.#ended.resolve();
  }

  /**
   * Looks for a frame, a silence or a write that takes too long. Called now and then; costs nothing in between.
   *
   * @param isBehind The server has not looked for longer than usual: a connection that seems late has until the next look.
   */
  sweep(nowMs: number, isBehind: boolean): void {
    const { frameTimeoutMs, idleTimeoutMs, writeTimeoutMs } = this.#server.limits;
    const seen = {
      receivedBytes: this.#receivedBytes,
      sentBytes: this.#outflow.sentBytes,
      frames: this.#decode.frames,
    };
    const before = this.#watched;
    this.#watched = seen;

    // Where it is this end that does not read, the peer is not late.
    const sameFrame = this.#reading && this.#decode.midFrame && seen.frames === before.frames;
    if (!sameFrame || this.#midFrameSinceMs === Infinity) {
      this.#midFrameSinceMs = sameFrame ? nowMs : Infinity;
      this.#midFrameFromBytes = seen.receivedBytes;
    }

    const unsent = this.#outflow.queuedBytes > 0 && seen.sentBytes === before.sentBytes;
    this.#unsentSinceMs = unsent ? Math.min(this.#unsentSinceMs, nowMs) : Infinity;

    const silent = this.#reading && this.#dispatch.idle && !this.#decode.midFrame && this.#outflow.queuedBytes === 0 &&
      seen.receivedBytes === before.receivedBytes;
    this.#silentSinceMs = silent ? Math.min(this.#silentSinceMs, nowMs) : Infinity;

    if (isBehind) return;
    const midFrameMs = nowMs - this.#midFrameSinceMs;
    if (midFrameMs >= frameTimeoutMs && !this.#dispatch.gone) {
      const frameBytes = seen.receivedBytes - this.#midFrameFromBytes;
      if (1000 * frameBytes < LEAST_BYTES_PER_SECOND * midFrameMs) this.#refuseSlowFrame(frameBytes, midFrameMs);
      this.#midFrameSinceMs = Infinity;
    } else if (nowMs - this.#unsentSinceMs >= writeTimeoutMs) {
      this.close(new Error("the peer does not read"));
    } else if (nowMs - this.#silentSinceMs >= idleTimeoutMs) {
      this.close(new Error("the connection was idle"));
    } else if (!this.#reading) {
      this.#probe();
    }
  }

  #refuseSlowFrame(frameBytes: number, frameMs: number): void {
    const reason = `a frame comes too slowly: ${frameBytes} bytes in ${(frameMs / 1000).toFixed(1)} s; at least ` +
      `${LEAST_BYTES_PER_SECOND} bytes a second are expected`;
    this.#server.report(new RpcError("BAD_FRAME", reason), { peer: this.#dispatch.peer });
    this.#dispatch.refuseFrame(new BadFrame(reason));
  }

  /** Finds out whether the peer has reset the connection: a read would, but there is none, and an empty write does too. */
  #probe(): void {
    if (this.#transport.broken !== undefined) return this.#transport.look?.();
    if (this.#probing || this.#outflow.queuedBytes > 0) return;
    this.#probing = true;
    this.#transport.write(new Uint8Array(0)).then(() => this.#probing = false, (error) => this.close(error));
  }

  async #receive(): Promise<void> {
    let buffer: Uint8Array = new Uint8Array(FIRST_READ_BYTES);
    let lingerBytes = 0;
    try {
      while (true) {
        this.#reading = true;
        const readBytes = await this.#transport.read(buffer);
        this.#reading = false;
        if (readBytes === null) break;
        this.#receivedBytes += readBytes;
        this.#server.counts.bytesReceived += readBytes;
        if (this.#dispatch.gone) {
          lingerBytes += readBytes;
          if (lingerBytes > LINGER_BYTES) return;
        } else {
          await this.#take(buffer.subarray(0, readBytes));
        }
        buffer = bufferAfter(buffer, readBytes);
      }
      await this.#requests.close();
    } catch (error) {
      // The peer is gone, or the stages have ended: on purpose, or by an error that the end of their output tells.
      this.#requests.abort(error).catch(ignore);
    }
  }

  /** Works on what has come, in turn with all others: as much at once as has not taken longer than a turn lately. */
  async #take(bytes: Uint8Array): Promise<void> {
    const { connections, yieldBudget } = this.#server;
    const isOneOfMany = connections.size > READS_A_ROUND;
    if (isOneOfMany) yieldBudget.countRead();
    const mayLast = isOneOfMany || bytes.length >= LONG_READ_BYTES;
    for (let start = 0; start < bytes.length && !this.#dispatch.gone;) {
      const end = Math.min(bytes.length, start + this.#bytesAtOnce);
      await this.#requests.write(bytes.subarray(start, end));
      start = end;
      this.#reading = true; // to wait for a turn takes milliseconds, and gives a slow peer no time
      const wasLong = mayLast && yieldBudget.isExhausted;
      this.#bytesAtOnce = wasLong
        ? Math.max(LONG_READ_BYTES, this.#bytesAtOnce / 4)
        : Math.min(LARGEST_READ_BYTES, 2 * this.#bytesAtOnce);
      if (wasLong) { while (yieldBudget.isExhausted) await yieldBudget.refilled(); }
    }
  }

  /** Sends what the stages have put out, until nothing is left. Never rejects. */
  async #send(): Promise<void> {
    try {
      while (this.#outflow.queuedBytes > 0) {
        const { done, value } = await this.#replies.read();
        if (done) break;
        for (let start = 0; start < value.length;) {
          const sentBytes = await this.#transport.write(start === 0 ? value : value.subarray(start));
          start += sentBytes;
          this.#outflow.sent(sentBytes);
          this.#server.counts.bytesSent += sentBytes;
        }
      }
    } catch (error) {
      // The peer does not take its replies: nothing else it has asked for is of use to it.
      this.close(error);
    }
    this.#sending = undefined;
  }
}

function ignore(): void {}
