/**
 * Runs one connection of a server or a client: its transport, its pipeline, its output buffer and its timeouts.
 *
 * In: a transport, and the stages of one end. Out: a promise of the end, which never rejects. Refused: nothing. An error
 * ends only this connection; its dispatch stage gets the reason.
 */

import type { DecodeStage } from "../codec/decode.ts";
import { reuseSlab } from "../codec/frame.ts";
import type { Decoded } from "../codec/message.ts";
import type { Stage } from "../codec/stage.ts";
import type { Limits } from "../limits.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Clock } from "../transport/clock.ts";
import {
  callSafely,
  checkMoved,
  closeTransport,
  fills,
  FIRST_READ_BYTES,
  Probe,
  sizeAfter,
  type Transport,
  TransportMistake,
} from "../transport/transport.ts";
import { compose, type DirectPipeline, type Pipeline, type StreamPipeline } from "./pipeline.ts";
import { ProgressWatch } from "./deadlines.ts";
import type { TurnPace } from "./yield_budget.ts";

/**
 * After the end, up to this much input is read and dropped, because a close with unread input would reset the
 * connection and lose the last reply.
 */
const LINGER_BYTES = 64 * 1024;

/** The middle stage: what this end does with messages. */
export interface Dispatch<In, Out> extends Stage<Decoded<In>[], Out> {
  /** Whether nothing is in flight. */
  readonly idle: boolean;
  /** A frame arrives too slowly. */
  onSlowFrame(reason: string): void;
  /** A stage threw, or the transport made a mistake, which is a bug. The connection then ends. */
  onFailed(error: unknown): void;
  /** All output has been sent. */
  onDrained?(): void;
  /** The connection has ended. May be called again. */
  cancel(reason: unknown): void;
}

/** The stages of one end. */
interface Stages<In, Out> {
  readonly decode: DecodeStage<In>;
  readonly dispatch: Dispatch<In, Out>;
  readonly encode: Stage<Out, Uint8Array>;
}

/** Options of one end. */
interface ConnectionOptions {
  readonly clock: Clock;
  /** What joins the stages. */
  readonly Pipeline: typeof StreamPipeline | typeof DirectPipeline;
  /** The name of a peer whose transport gives no name. */
  readonly unnamedPeer: string;
  readonly limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs" | "maxQueuedBytes">;
  /** How long an ended connection waits for the peer to close its side. */
  readonly lingerMs: number;
  /** Shared counts of all connections. */
  readonly traffic: { bytesReceived: number; bytesSent: number };
  /** Limits the work before others get their turn; without it, each read is processed at once. */
  readonly pace?: TurnPace;
}

/** The part of a connection that its stages use. */
export interface ConnectionView {
  /** Whether messages are still accepted and sent. */
  readonly isOpen: boolean;
  /** Whether the peer's input is read. While it is not, what the peer has sent may wait. */
  readonly isReading: boolean;
  readonly output: OutputBuffer;
  /** The peer's name. */
  readonly peer: string;
  /** The peer's verified certificate, if one was requested. */
  readonly certificate: PeerCertificate | undefined;
  /** The headers of the request that opened the peer's WebSocket. */
  readonly headers: Headers | undefined;
  /** While a call is open, the peer has promised to send something at least this often; `Infinity` if it has not. */
  aliveMs: number;
  /** Accepts no more messages; sends the encoded output, then closes. */
  end(): void;
  /** Closes both directions immediately. */
  close(reason: unknown): void;
}

/** One connection. */
export class Connection<In, Out> implements ConnectionView {
  readonly output: OutputBuffer;
  /** Bytes received so far. */
  receivedBytes = 0;
  readonly #transport: Transport;
  readonly #options: ConnectionOptions;
  readonly #stages: Stages<In, Out>;
  readonly #pipeline: Pipeline;
  readonly #probe: Probe;
  readonly #watch: ProgressWatch;
  readonly #ended = Promise.withResolvers<void>();
  /** `ending`: encoded output is still sent, input is dropped. */
  #state: "open" | "ending" | "closed" = "open";
  /** Set only while output waits: a pending read of the pipeline costs 1 KiB, which idle connections save. */
  #sending: Promise<unknown> | undefined;
  #received: Promise<void> | undefined;

  /**
   * @param transport Carries the bytes; owned by the connection from now on.
   * @param options Options of this end.
   * @param stagesOf Makes the stages of this end.
   */
  constructor(
    transport: Transport,
    options: ConnectionOptions,
    stagesOf: (connection: Connection<In, Out>) => Stages<In, Out>,
  ) {
    this.#transport = transport;
    this.#options = options;
    this.output = new OutputBuffer(options.limits.maxQueuedBytes);
    this.#stages = stagesOf(this);
    const { decode, dispatch, encode } = this.#stages;
    this.#pipeline = new options.Pipeline(compose(decode, dispatch, encode, () => this.#sending ??= this.#send()));
    this.#probe = new Probe(transport, (error) => this.close(error));
    this.#watch = new ProgressWatch(options.limits);
  }

  get peer(): string {
    return this.#transport.peer ?? this.#options.unnamedPeer;
  }

  get certificate(): PeerCertificate | undefined {
    return this.#transport.certificate;
  }

  get headers(): Headers | undefined {
    return this.#transport.headers;
  }

  get isOpen(): boolean {
    return this.#state === "open";
  }

  get isReading(): boolean {
    return this.#watch.isReading;
  }

  get aliveMs(): number {
    return this.#watch.aliveMs;
  }

  set aliveMs(ms: number) {
    this.#watch.aliveMs = ms;
  }

  /** Resolves when both directions have ended. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Resolves when reading has stopped. */
  get received(): Promise<void> | undefined {
    return this.#received;
  }

  /** Complete frames received. */
  get receivedFrames(): number {
    return this.#stages.decode.frames;
  }

  /** Sets whether a pending read keeps the program alive. It does by default. */
  keepAlive(keeps: boolean): void {
    const transport = this.#transport;
    callSafely(() => keeps ? transport.ref?.() : transport.unref?.(), (error) => this.close(error));
  }

  /** Runs until both directions have ended or the connection is closed. */
  run(): Promise<void> {
    this.#run().catch((error) => this.#fail(error));
    return this.ended;
  }

  async #run(): Promise<void> {
    const { clock, lingerMs } = this.#options;
    this.#received = this.#receive();
    try {
      await this.#pipeline.closed;
    } catch (error) {
      this.#fail(error);
    }
    this.end();
    await this.#sending;
    if (this.#state === "closed") return;
    // A peer that does not read may hold this up too, so `writeTimeoutMs` applies.
    await (this.#sending = callSafely(() => this.#transport.closeWrite(), (error) => this.close(error)));
    this.#sending = undefined;
    if (lingerMs > 0) {
      const linger = clock.setTimer(() => this.close(), lingerMs, false);
      await Promise.race([this.#received, this.ended]);
      clock.clearTimer(linger);
    }
    this.close();
  }

  end(): void {
    if (this.isOpen) this.#state = "ending";
  }

  /** Closes both directions immediately. */
  close(reason: unknown = new Error("the connection was closed")): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#stages.dispatch.cancel(reason);
    this.#pipeline.abort(reason);
    this.output.close();
    closeTransport(this.#transport);
    // Do not wait: not every stream can abort a write to a peer that does not read.
    this.#ended.resolve();
  }

  /** A stage or the clock threw an error, or the transport made a mistake. */
  #fail(error: unknown): void {
    if (this.isOpen) this.#stages.dispatch.onFailed(error);
    this.close(error);
  }

  /** Checks the timeouts for frames, silence and writes. */
  sweep(nowMs: number, isBehind: boolean): void {
    const { decode, dispatch } = this.#stages;
    const progress = {
      receivedBytes: this.receivedBytes,
      sentBytes: this.output.sentBytes,
      frames: decode.frames,
      midFrame: decode.midFrame,
      sending: this.output.queuedBytes > 0 || !this.isOpen && this.#sending !== undefined,
      busy: !dispatch.idle,
    };
    const isResting = this.#watch.isReading && this.#sending === undefined && !progress.sending;
    if (isResting && this.isOpen && !this.#watch.hasMoved(progress)) this.#pipeline.rest?.();
    const late = this.#watch.look(progress, nowMs, isBehind);
    if (late?.kind === "frame") {
      if (this.isOpen) dispatch.onSlowFrame(`${late.reason}; ${decode.arrived}`);
    } else if (late !== undefined) {
      this.close(new Error(late.reason));
    } else if (!isBehind && !this.#watch.isReading) {
      this.#probe.look(progress.sending);
    }
  }

  async #receive(): Promise<void> {
    const { pace } = this.#options;
    let size = FIRST_READ_BYTES;
    let lingerBytes = 0;
    while (true) {
      try {
        const space = this.#stages.decode.space(size);
        const readBytes = await this.#read(space);
        if (readBytes === null) break;
        size = sizeAfter(size, space.length, readBytes);
        if (!this.isOpen && (lingerBytes += readBytes) > LINGER_BYTES) return;
        // Pauses between the parts of a long read if other connections are due.
        for (let start = 0; start < readBytes && this.isOpen;) {
          const bytesAtOnce = Math.max(pace?.bytesAtOnce ?? readBytes, this.#stages.decode.missingBytes);
          const end = Math.min(readBytes, start + bytesAtOnce);
          const taken = this.#pipeline.write(space.subarray(start, end));
          if (taken !== undefined) await taken;
          const rest = pace?.rest(readBytes, end - start);
          start = end;
          if (rest === undefined) continue;
          this.#watch.isReading = true; // a pause takes milliseconds and must not give a slow peer more time
          await rest;
          this.#watch.isReading = false;
        }
      } catch (error) {
        if (this.isOpen) this.#fail(error); // else the stages have ended, and take no more
        return;
      }
    }
    await this.#pipeline.end();
  }

  async #read(buffer: Uint8Array): Promise<number | null> {
    const { pace } = this.#options;
    let readBytes: number | null;
    pace?.beginRead();
    this.#watch.isReading = true;
    try {
      readBytes = await this.#transport.read(buffer);
      if (readBytes !== null) checkMoved("read", readBytes, buffer.length);
    } catch (error) {
      this.#lose(error);
      return null;
    } finally {
      this.#watch.isReading = false;
    }
    // Here, because all reads of a round come here before any is processed: `await` on this function takes longer.
    pace?.endRead(readBytes !== null && fills(buffer.length, readBytes));
    this.receivedBytes += readBytes ?? 0;
    this.#options.traffic.bytesReceived += readBytes ?? 0;
    return readBytes;
  }

  /** A mistake in the transport's code is reported like one in a stage. */
  #lose(error: unknown): void {
    if (error instanceof TransportMistake) this.#fail(error);
    else this.close(error);
  }

  /** Sends the output of the stages until none is left. Never rejects. */
  async #send(): Promise<void> {
    try {
      while (this.output.queuedBytes > 0) {
        const next = this.#pipeline.read();
        const chunk = next instanceof Promise ? await next : next;
        if (chunk === undefined) break;
        for (let start = 0; start < chunk.length;) {
          const sentBytes = await this.#transport.write(start === 0 ? chunk : chunk.subarray(start));
          checkMoved("write", sentBytes, chunk.length - start);
          start += sentBytes;
          this.output.sent(sentBytes);
          this.#options.traffic.bytesSent += sentBytes;
        }
        if (this.#transport.releasesBytes) reuseSlab(chunk);
      }
    } catch (error) {
      // The peer cannot receive replies, so its other requests are pointless too.
      this.#lose(error);
    }
    this.#sending = undefined;
    if (this.isOpen) this.#stages.dispatch.onDrained?.();
  }
}

/**
 * Counts the unsent output of one connection. It is the only backpressure: every producer of output asks it for room.
 */
export class OutputBuffer {
  /** Bytes encoded but not yet sent. */
  queuedBytes = 0;
  /** Total bytes sent. It does not change while the peer does not read. */
  sentBytes = 0;
  /** The size of the last encoded frame. */
  lastBytes = 0;
  readonly #limitBytes: number;
  #closed = false;
  #waiting: { readonly belowBytes: number; readonly wake: () => void }[] = [];

  /** @param limitBytes The size at which the buffer is full. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** Whether encoding should pause. */
  get full(): boolean {
    return this.queuedBytes >= this.#limitBytes && !this.#closed;
  }

  /** A frame was encoded. */
  add(bytes: number): void {
    this.lastBytes = bytes;
    this.queuedBytes += bytes;
  }

  /** Bytes were sent. */
  sent(bytes: number): void {
    this.queuedBytes -= bytes;
    this.sentBytes += bytes;
    if (this.#waiting.length > 0) this.#wakeUp();
  }

  /**
   * Resolves when fewer than `belowBytes` are queued, or when closed.
   *
   * @param belowBytes A threshold; default and maximum: the limit.
   */
  drained(belowBytes = this.#limitBytes): Promise<void> {
    return new Promise((wake) => {
      this.#waiting.push({ belowBytes: Math.min(belowBytes, this.#limitBytes), wake });
      this.#wakeUp();
    });
  }

  /** Nothing more will be sent; wakes all waiters. */
  close(): void {
    this.#closed = true;
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#waiting = this.#waiting.filter(({ belowBytes, wake }) => {
      const waits = this.queuedBytes >= belowBytes && !this.#closed;
      if (!waits) wake();
      return waits;
    });
  }
}
