/**
 * The client's engine: calls in, their outcomes out, over one connection at a time, which is made again when it is lost
 * and needed.
 *
 * A call waits in the queue until a connection takes it. From there on it has been written, and may have been started:
 * if the connection is lost then, only a call that its caller marked `idempotent` goes back into the queue. Every call
 * is settled exactly once, by its reply, its time, its signal, its connection or the end of the client.
 *
 * Refused: calls on a client that is closed.
 */

import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { ClientConnection, type ConnectionOwner } from "./client_connection.ts";
import { type Clock, sleep } from "../transport/clock.ts";
import { TimerWheel } from "../session/timer_wheel.ts";
import { type Dial, dialInTime, unreachable } from "../transport/dial.ts";
import { isDenied } from "../transport/runtime.ts";
import { closeTransport } from "../transport/transport.ts";
import { Backoff } from "./backoff.ts";
import { IncomingStream, type StreamOptions } from "./incoming_stream.ts";
import { type CallOptions, CallQueue, type ClientCall, UnaryCall } from "./client_call.ts";
import { markReceived } from "../session/received.ts";
import { Signals } from "./signals.ts";

/**
 * What a client is doing: `connecting`, `open`, `waiting` before it dials again, `idle` without a connection until a
 * call needs one, or `closed`.
 */
export type ClientState = "connecting" | "open" | "waiting" | "idle" | "closed";

/** What the engine is given, complete. */
export interface RpcClientOptions {
  /** Makes a connection. */
  dial: Dial;
  /** Numbers of commands that go by number. */
  numbers: ReadonlyMap<string, number>;
  sequenced: boolean;
  timeoutMs: number;
  maxInFlight: number;
  maxPayloadBytes: number;
  onState: ((state: ClientState, error?: RpcError) => void) | undefined;
  clock: Clock;
  random: () => number;
}

/** How often an idempotent call is sent: what ends its server each time must not end one after the other. */
const MAX_SENDS = 3;

/** The engine of one client. */
export class RpcClient implements ConnectionOwner {
  readonly clock: Clock;
  readonly deadlines: TimerWheel;
  readonly signals = new Signals();
  readonly queue = new CallQueue();
  readonly sequenced: boolean;
  readonly timeoutMs: number;
  readonly maxInFlight: number;
  readonly maxPayloadBytes: number;
  servesOnce: boolean | undefined = undefined;
  lateReplies = 0;
  heldBytes = 0;

  readonly #options: RpcClientOptions;
  readonly #backoff: Backoff;
  /** All connections, also those that take no more calls. */
  readonly #connections = new Set<ClientConnection>();
  /** The connection that takes calls. */
  #connection: ClientConnection | undefined;
  #dialing = false;
  /** Ends a dial, and the wait before it. */
  #attempt = new AbortController();
  #state: ClientState = "idle";
  /** Why there is no connection. */
  #lastError: RpcError | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: RpcClientOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.deadlines = new TimerWheel(options.clock);
    this.sequenced = options.sequenced;
    this.timeoutMs = options.timeoutMs;
    this.maxInFlight = options.maxInFlight;
    // A server that knows no seq knows no long frames either.
    this.maxPayloadBytes = options.sequenced
      ? options.maxPayloadBytes
      : Math.min(options.maxPayloadBytes, MAX_SHORT_PAYLOAD_BYTES);
    this.#backoff = new Backoff(options.random);
  }

  /** Makes the first connection. A client whose first dial fails is none. */
  async open(): Promise<void> {
    try {
      await this.#dial();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** What the client is doing. */
  get state(): ClientState {
    return this.#state;
  }

  /** See `Client.call`. */
  call(name: string, params?: unknown, options: CallOptions = {}): Promise<Fields> {
    return new Promise((resolve, reject) => {
      // What is thrown in here rejects.
      const call = new UnaryCall(this, name, params, options);
      call.resolve = resolve;
      call.reject = reject;
      this.begin(call);
    });
  }

  /** See `Client.stream`. */
  stream(name: string, params?: unknown, options: StreamOptions = {}): IncomingStream {
    // A request without seq cannot be told from the next, and so neither cancelled nor granted more items.
    if (!this.sequenced) throw new TypeError("Cannot stream on a client with sequenced: false");
    return new IncomingStream(this, name, params, options);
  }

  /** See `Client.close`. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get obstacle(): RpcError | undefined {
    return this.#lastError;
  }

  get unanswered(): number {
    return this.#connection?.unanswered ?? 0;
  }

  begin(call: ClientCall): void {
    if (this.#state === "closed") return call.end(new RpcError("CLOSED", "the client is closed", { retryable: true }));
    if (this.queue.full) return call.end(this.#overloaded());
    call.begin();
    if (call.settled) return;
    this.queue.push(call);
    this.#serveQueue();
  }

  giveUp(call: ClientCall, error: RpcError): void {
    call.end(error);
    if (call.connection) call.connection.abandon(call);
    else this.queue.forget(call);
  }

  onRetired(connection: ClientConnection, reason: RpcError | undefined, refused: ClientCall | undefined): void {
    if (refused) this.#queueAgain(refused, false);
    this.#leave(connection, reason);
  }

  onEnded(connection: ClientConnection, error: RpcError, unanswered: ClientCall[]): void {
    this.#connections.delete(connection);
    for (const call of unanswered) {
      if (!call.idempotent || error.code !== "CONNECTION_LOST") call.settle(error);
      else if (call.losses < MAX_SENDS - 1) this.#queueAgain(call, true);
      else call.settle(new RpcError(error.code, `sent ${MAX_SENDS} times: ${error.toJSON().msg}`, { cause: error }));
    }
    this.#leave(connection, error);
  }

  #queueAgain(call: ClientCall, wasLost: boolean): void {
    call.waitAgain(wasLost);
    this.queue.push(call);
  }

  /** Marked as a server's word is: it is not about the request in whose handler the call was made. */
  #overloaded(): RpcError {
    const reason = this.#lastError?.message ?? `${this.unanswered} before them are unanswered`;
    const text = `too many calls wait to be sent: ${reason}`;
    return markReceived(new RpcError("OVERLOADED", text, { cause: this.#lastError }));
  }

  /** A connection takes no more calls. */
  #leave(connection: ClientConnection, reason: RpcError | undefined): void {
    if (this.#connection === connection) {
      this.#connection = undefined;
      this.#lastError = reason;
      // One that never answered is no better than one that could not be made.
      if (reason && connection.answered) this.#backoff.lost(this.clock.now());
      else if (reason) this.#backoff.failed(this.clock.now());
      if (this.queue.empty) this.#setState("idle", reason);
    }
    this.#serveQueue();
  }

  #serveQueue(): void {
    if (this.queue.empty) return;
    if (this.#connection) this.#connection.wake();
    else if (!this.#dialing) void this.#dialWhileNeeded();
  }

  /** Dials until there is a connection, or nobody needs one any more. Never rejects. */
  async #dialWhileNeeded(): Promise<void> {
    this.#dialing = true;
    while (this.#state !== "closed" && !this.#connection && !this.queue.empty) {
      this.#attempt = new AbortController();
      const waitMs = this.#backoff.waitMs(this.clock.now());
      try {
        if (waitMs === 0) {
          await this.#dial();
        } else {
          this.#setState("waiting", this.#lastError);
          await sleep(this.clock, waitMs, this.#attempt.signal);
        }
      } catch {
        // Kept as the last error: those who wait are told if their time runs out.
      }
    }
    this.#dialing = false;
    if (!this.#connection) this.#setState("idle", this.#lastError);
  }

  async #dial(): Promise<void> {
    this.#setState("connecting");
    try {
      const transport = await dialInTime(this.#options.dial, this.clock, this.#attempt);
      // The client may have been closed just now.
      if (this.#attempt.signal.aborted) {
        closeTransport(transport);
        throw this.#attempt.signal.reason;
      }
      this.#connection = new ClientConnection(this, transport);
    } catch (error) {
      this.#lastError = error instanceof RpcError ? error : unreachable("the server", error);
      this.#backoff.failed(this.clock.now());
      throw isDenied(error) ? error : this.#lastError;
    }
    this.#connections.add(this.#connection);
    this.#lastError = undefined;
    this.#setState("open");
    this.#serveQueue();
  }

  async #close(): Promise<void> {
    this.#setState("closed");
    this.#attempt.abort(new RpcError("CLOSED", "the client was closed"));
    for (const call of this.queue.takeAll()) {
      call.end(new RpcError("CLOSED", "the client was closed while the call waited", { retryable: !call.sent }));
    }
    const error = new RpcError("CLOSED", "the client was closed before the reply came");
    await Promise.all([...this.#connections].map((connection) => connection.close(error)));
    this.deadlines.clear();
  }

  #setState(state: ClientState, error?: RpcError): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    const { onState } = this.#options;
    // In a turn of its own: what the hook does or throws cannot come between here.
    if (onState) queueMicrotask(() => onState(state, error));
  }

  cmdOf(name: string): number | string {
    return this.#options.numbers.get(name) ?? name;
  }
}
