/**
 * The client's engine: sends calls over one connection at a time, and reconnects when needed.
 *
 * A call waits in the queue until a connection takes it. After that, it may have been started: if the connection is
 * lost, only a call marked `idempotent` returns to the queue. Every call is settled exactly once: by its reply, its
 * timeout, its signal, the loss of its connection or the end of the client.
 *
 * In: calls. Out: their outcomes. Refused: calls on a closed client.
 */

import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { ClientConnection, type ConnectionOwner } from "./client_connection.ts";
import { Sweeper } from "../session/sweeper.ts";
import { TimerWheel } from "../session/timer_wheel.ts";
import type { Dial } from "../transport/dial.ts";
import { closeTransport } from "../transport/transport.ts";
import { Dialer } from "./dialer.ts";
import { IncomingStream, type StreamOptions } from "./incoming_stream.ts";
import { type CallOptions, CallQueue, type ClientCall, type ClientSettings, UnaryCall } from "./client_call.ts";
import type { InOrderMemory } from "./replies.ts";
import { markReceived } from "../session/received.ts";
import { Signals } from "./signals.ts";

/**
 * The state of a client: `connecting`, `open`, `waiting` before the next dial, `idle` without a connection until a call
 * needs one, or `closed`.
 */
export type ClientState = "connecting" | "open" | "waiting" | "idle" | "closed";

/** Options of the engine, all resolved. */
export interface RpcClientOptions extends ClientSettings {
  /** Makes a connection. */
  dial: Dial;
  /** The numbers of commands that have one. */
  numbers: ReadonlyMap<string, number>;
  onState: ((state: ClientState, error?: RpcError) => void) | undefined;
  random: () => number;
}

/** How often an idempotent call is sent: a call that crashes servers must not crash one after another. */
const MAX_SENDS = 3;

/** The engine of one client. */
export class RpcClient implements ConnectionOwner {
  readonly settings: RpcClientOptions;
  readonly deadlines: TimerWheel;
  readonly signals = new Signals();
  readonly queue = new CallQueue();
  readonly memory: InOrderMemory = { servesOnce: undefined };
  readonly received = { lateReplies: 0, heldBytes: 0 };
  readonly #dialer: Dialer;
  /** All connections, including old ones that still wait for replies. */
  readonly #connections = new Set<ClientConnection>();
  readonly #sweeper: Sweeper;
  /** The connection for new calls. */
  #connection: ClientConnection | undefined;
  #state: ClientState = "idle";
  #closed: Promise<void> | undefined;

  constructor(options: RpcClientOptions) {
    const { clock, sequenced, maxPayloadBytes } = options;
    this.settings = {
      ...options,
      // A server without seq has no long frames either.
      maxPayloadBytes: sequenced ? maxPayloadBytes : Math.min(maxPayloadBytes, MAX_SHORT_PAYLOAD_BYTES),
    };
    this.deadlines = new TimerWheel(clock);
    this.#dialer = new Dialer(options.dial, clock, options.random);
    this.#sweeper = new Sweeper(clock, this.#connections);
  }

  /** Makes the first connection. If the dial fails, closes the client and rejects. */
  async open(): Promise<void> {
    if (this.#isClosed) throw closed();
    try {
      await this.#dial();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** The current state. */
  get state(): ClientState {
    return this.#state;
  }

  /** See `Client.reply`. */
  call(name: string, params?: unknown, options: CallOptions = {}): Promise<Fields> {
    return this.#call(name, params, options, false) as Promise<Fields>;
  }

  /** See `Client.call`. Not by a step behind the other, which would cost each call another promise. */
  callForResult(name: string, params?: unknown, options: CallOptions = {}): Promise<unknown> {
    return this.#call(name, params, options, true);
  }

  #call(name: string, params: unknown, options: CallOptions, wantsResult: boolean): Promise<unknown> {
    return new Promise((resolve, reject) => {
      // An error thrown here rejects the promise.
      const call = new UnaryCall(this, name, params, options);
      call.wantsResult = wantsResult;
      call.resolve = resolve;
      call.reject = reject;
      this.begin(call);
    });
  }

  /** See `Client.stream`. */
  stream(name: string, params?: unknown, options: StreamOptions = {}): IncomingStream {
    // Without seq, a call cannot be cancelled and a stream cannot be granted credit.
    if (!this.settings.sequenced) throw new TypeError("Cannot stream on a client with sequenced: false");
    return new IncomingStream(this, name, params, options);
  }

  /** See `Client.lateReplies`. */
  get lateReplies(): number {
    return this.received.lateReplies;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get obstacle(): RpcError | undefined {
    return this.#dialer.lastError;
  }

  get unanswered(): number {
    return this.#connection?.unanswered ?? 0;
  }

  begin(call: ClientCall): void {
    if (this.#state === "closed") return call.end(closed());
    if (this.queue.full) return call.end(this.#overloaded());
    call.begin();
    if (call.isSettled) return;
    this.queue.push(call);
    this.#serveQueue();
  }

  giveUp(call: ClientCall, error: RpcError): void {
    const { connection } = call;
    if (connection === undefined) this.queue.forget(call);
    call.end(error);
    connection?.abandon(call);
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

  /** Marked as received: it says nothing about a request whose handler made this call. */
  #overloaded(): RpcError {
    const { lastError } = this.#dialer;
    const reason = lastError?.message ?? `${this.unanswered} earlier calls are unanswered`;
    const text = `too many calls are waiting to be sent: ${reason}`;
    return markReceived(new RpcError("OVERLOADED", text, { cause: lastError }));
  }

  onSent(): void {
    this.#sweeper.start();
  }

  /** A connection accepts no more calls. */
  #leave(connection: ClientConnection, reason: RpcError | undefined): void {
    if (this.#connection === connection) {
      this.#connection = undefined;
      this.#dialer.lost(reason, connection.answered);
      if (this.queue.empty) this.#setState("idle", reason);
    }
    this.#serveQueue();
  }

  #serveQueue(): void {
    if (this.queue.empty) return;
    if (this.#connection) this.#connection.wake();
    else if (this.#state !== "connecting" && this.#state !== "waiting") void this.#dialWhileNeeded();
  }

  /** Dials until there is a connection or none is needed. Never rejects. */
  async #dialWhileNeeded(): Promise<void> {
    while (!this.#isClosed && !this.#connection && !this.queue.empty) {
      try {
        if (this.#dialer.waitMs > 0) {
          this.#setState("waiting", this.#dialer.lastError);
          await this.#dialer.wait();
        } else {
          await this.#dial();
        }
      } catch {
        // The dialer stores the error; waiting calls report it if they time out.
      }
    }
    if (!this.#connection) this.#setState("idle", this.#dialer.lastError);
  }

  async #dial(): Promise<void> {
    this.#setState("connecting");
    const transport = await this.#dialer.dial();
    if (this.#isClosed) return closeTransport(transport);
    this.#connection = new ClientConnection(this, transport);
    this.#connections.add(this.#connection);
    this.#setState("open");
    this.#serveQueue();
  }

  get #isClosed(): boolean {
    return this.#state === "closed";
  }

  /** See `Client.close`. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#setState("closed");
    this.#dialer.abort(new RpcError("CLOSED", "the client was closed"));
    for (const call of this.queue.takeAll()) {
      const options = { retryable: !call.mayHaveStarted };
      call.end(new RpcError("CLOSED", "the client was closed while the call waited", options));
    }
    const error = new RpcError("CLOSED", "the client was closed before the reply came");
    await Promise.all([...this.#connections].map((connection) => connection.close(error)));
    this.deadlines.clear();
    this.#sweeper.stop();
  }

  #setState(state: ClientState, error?: RpcError): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    const { onState } = this.settings;
    // In a microtask, so the hook cannot interfere with this code.
    if (onState) queueMicrotask(() => onState(state, error));
  }

  cmdOf(name: string): number | string {
    return this.settings.numbers.get(name) ?? name;
  }
}

function closed(): RpcError {
  return new RpcError("CLOSED", "the client is closed", { retryable: true });
}
