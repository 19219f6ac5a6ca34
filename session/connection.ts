/**
 * One connection, the same for both ends: a transport, the pipeline of its stages, one state, one output buffer, and an
 * eye on the time.
 *
 * In: a transport, and the stages of one end. Out: a promise of the end, which never rejects. What goes wrong on the way
 * belongs to this connection alone: it ends, and its dispatch stage is told why.
 */

import type { DecodeStage } from "../codec/decode.ts";
import type { Decoded } from "../codec/message.ts";
import type { Stage } from "../codec/stage.ts";
import type { Limits } from "../limits.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Clock } from "../transport/clock.ts";
import { Probe } from "../transport/probe.ts";
import { bufferAfter, closeTransport, FIRST_READ_BYTES, type Transport } from "../transport/transport.ts";
import { OutputBuffer } from "./output_buffer.ts";
import { compose, Pipeline } from "./pipeline.ts";
import { ProgressWatch } from "./progress.ts";
import type { ReadPace } from "./read_pace.ts";

/** After its end, what the peer still sends is read and dropped, so that the last reply is not lost to a reset: so much. */
const LINGER_BYTES = 64 * 1024;

/** The middle stage: what this end does with messages. */
export interface Dispatch<In, Out> extends Stage<Decoded<In>[], Out> {
  /** Whether nothing is in flight. */
  readonly idle: boolean;
  /** Told of a frame that comes too slowly. */
  onSlowFrame(reason: string): void;
  /** Told that a stage has failed, which is a defect; the connection ends by it. */
  onFailed(error: unknown): void;
  /** Told that all output has been sent. */
  onDrained?(): void;
  /** The connection has ended. May be called again. */
  cancel(reason: unknown): void;
}

/** The stages of one end. */
export interface Stages<In, Out> {
  readonly decode: DecodeStage<In>;
  readonly dispatch: Dispatch<In, Out>;
  readonly encode: Stage<Out, Uint8Array>;
}

/** What one end is given. */
export interface ConnectionOptions {
  readonly clock: Clock;
  /** What to call a peer whose transport has no name for it. */
  readonly unnamedPeer: string;
  readonly limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs" | "maxQueuedBytes">;
  /** How long after its end the connection waits for the peer to end it as well. */
  readonly lingerMs: number;
  /** Counts for all connections. */
  readonly traffic: { bytesReceived: number; bytesSent: number };
  /** How much to work on before it is another connection's turn; by default, on all that was read. */
  readonly pace?: ReadPace;
}

/** What stages see of their connection. */
export interface ConnectionView {
  /** Whether messages are taken and put out. */
  readonly isOpen: boolean;
  readonly output: OutputBuffer;
  /** Who is at the other end. */
  readonly peer: string;
  /** What the peer's certificate says, if one was asked for and has been checked. */
  readonly certificate: PeerCertificate | undefined;
  /** No more messages are taken: what is encoded is sent, then the connection closes. */
  end(): void;
}

/** A connection while it lasts. */
export class Connection<In, Out> implements ConnectionView {
  readonly output: OutputBuffer;
  /** Bytes that have come. */
  receivedBytes = 0;
  readonly #transport: Transport;
  readonly #options: ConnectionOptions;
  readonly #stages: Stages<In, Out>;
  readonly #pipeline: Pipeline;
  readonly #probe: Probe;
  readonly #watch: ProgressWatch;
  readonly #ended = Promise.withResolvers<void>();
  /** In `ending`, what is encoded is still sent, and what comes is dropped. */
  #state: "open" | "ending" | "closed" = "open";
  /** Lasts while output waits: a read of the pipeline costs 1 KiB, which a silent connection need not hold. */
  #sending: Promise<void> | undefined;
  #received: Promise<void> | undefined;

  /**
   * @param transport What carries the bytes; from now on, nobody else may use it.
   * @param options What this end is given.
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
    this.#pipeline = new Pipeline(compose(decode, dispatch, encode, () => this.#sending ??= this.#send()));
    this.#probe = new Probe(transport, (error) => this.close(error));
    this.#watch = new ProgressWatch(options.limits);
  }

  get peer(): string {
    return this.#transport.peer ?? this.#options.unnamedPeer;
  }

  get certificate(): PeerCertificate | undefined {
    return this.#transport.certificate;
  }

  get isOpen(): boolean {
    return this.#state === "open";
  }

  /** Resolves when both directions have ended. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Resolves when nothing is read any more. */
  get received(): Promise<void> | undefined {
    return this.#received;
  }

  /** Frames that were read to their end. */
  get receivedFrames(): number {
    return this.#stages.decode.frames;
  }

  /** Whether a read that waits keeps the program alive, as it does from the beginning. */
  keepAlive(keeps: boolean): void {
    if (keeps) this.#transport.ref?.();
    else this.#transport.unref?.();
  }

  /** Works until both directions have ended, or until it is closed. */
  run(): Promise<void> {
    void this.#run();
    return this.ended;
  }

  async #run(): Promise<void> {
    const { clock, lingerMs } = this.#options;
    this.#received = this.#receive();
    try {
      await this.#pipeline.closed;
    } catch (error) {
      if (this.isOpen) this.#stages.dispatch.onFailed(error);
      this.close(error);
    }
    this.end();
    await this.#sending;
    if (this.#state === "closed") return;
    await this.#transport.closeWrite().catch((error) => this.close(error));
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

  /** Ends both directions now, whatever is under way. */
  close(reason: unknown = new Error("the connection was closed")): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#stages.dispatch.cancel(reason);
    this.#pipeline.abort(reason);
    this.output.close();
    closeTransport(this.#transport);
    // A stream whose peer does not read cannot always be made to give up a write: the end does not wait for it.
    this.#ended.resolve();
  }

  /** Looks for a frame, a silence or a write that takes too long. */
  sweep(nowMs: number, isBehind: boolean): void {
    const { decode, dispatch } = this.#stages;
    const progress = {
      receivedBytes: this.receivedBytes,
      sentBytes: this.output.sentBytes,
      frames: decode.frames,
      midFrame: decode.midFrame,
      sending: this.output.queuedBytes > 0,
      busy: !dispatch.idle,
    };
    const late = this.#watch.look(progress, nowMs, isBehind);
    if (late?.kind === "frame") {
      if (this.isOpen) dispatch.onSlowFrame(late.reason);
    } else if (late !== undefined) {
      this.close(new Error(late.kind === "write" ? "the peer does not read" : "the connection was idle"));
    } else if (!isBehind && !this.#watch.isReading) {
      this.#probe.look(progress.sending);
    }
  }

  async #receive(): Promise<void> {
    let buffer: Uint8Array = new Uint8Array(FIRST_READ_BYTES);
    let lingerBytes = 0;
    while (true) {
      const readBytes = await this.#read(buffer);
      if (readBytes === null) break;
      try {
        if (this.isOpen) await this.#take(buffer.subarray(0, readBytes));
        else if ((lingerBytes += readBytes) > LINGER_BYTES) return;
      } catch {
        return; // a stage has failed, as the end of the pipeline tells
      }
      buffer = bufferAfter(buffer, readBytes);
    }
    await this.#pipeline.end();
  }

  async #read(buffer: Uint8Array): Promise<number | null> {
    this.#watch.isReading = true;
    try {
      const readBytes = await this.#transport.read(buffer);
      this.receivedBytes += readBytes ?? 0;
      this.#options.traffic.bytesReceived += readBytes ?? 0;
      return readBytes;
    } catch (error) {
      this.close(error);
      return null;
    } finally {
      this.#watch.isReading = false;
    }
  }

  /** Hands bytes to the stages, in turn with all other connections. */
  async #take(bytes: Uint8Array): Promise<void> {
    const { pace } = this.#options;
    pace?.countRead();
    for (let start = 0; start < bytes.length && this.isOpen;) {
      const end = pace === undefined ? bytes.length : Math.min(bytes.length, start + pace.bytesAtOnce);
      await this.#pipeline.write(bytes.subarray(start, end));
      start = end;
      this.#watch.isReading = true; // to wait for a turn takes milliseconds, and gives a slow peer no time
      await pace?.rest(bytes.length);
      this.#watch.isReading = false;
    }
  }

  /** Sends what the stages have put out, until nothing is left. Never rejects. */
  async #send(): Promise<void> {
    try {
      while (this.output.queuedBytes > 0) {
        const chunk = await this.#pipeline.read();
        if (chunk === undefined) break;
        for (let start = 0; start < chunk.length;) {
          const sentBytes = await this.#transport.write(start === 0 ? chunk : chunk.subarray(start));
          start += sentBytes;
          this.output.sent(sentBytes);
          this.#options.traffic.bytesSent += sentBytes;
        }
      }
    } catch (error) {
      // The peer does not take its output: nothing else it has asked for is of use to it.
      this.close(error);
    }
    this.#sending = undefined;
    if (this.isOpen) this.#stages.dispatch.onDrained?.();
  }
}
