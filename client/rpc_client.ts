/**
 * The client's engine: distributes calls to the connections of its servers.
 *
 * A call waits in the queue until the end of the turn, or until a connection can take it. After that, it may have been
 * started: if the connection is lost, only a call marked `idempotent` returns to the queue. Every call is settled
 * exactly once: by its reply, its timeout, its signal, the loss of its connection or the end of the client.
 *
 * In: calls. Out: their outcomes. Refused: calls on a closed client.
 */

import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import type { Fields } from "../codec/message.ts";
import { copyOf, isReceived, markReceived, rejectTraced, RpcError } from "../errors.ts";
import { ClientConnection, type ConnectionOwner } from "./client_connection.ts";
import { ItemBudget } from "../session/item_queue.ts";
import { clientTelemetry } from "../session/telemetry.ts";
import type { TurnPace } from "../session/yield_budget.ts";
import { TimerWheel } from "../session/deadlines.ts";
import type { Transport } from "../transport/transport.ts";
import type { CallEncoder, CallOptions, MaybeItems, StreamOptions } from "./call_options.ts";
import { CallCounts, CallQueue, type ClientStatistics, signals } from "./calls.ts";
import { type CallConnection, type ClientCall, type ClientSettings, NO_ATTEMPTS, UnaryCall } from "./client_call.ts";
import { Connections, elsewhere, type LateCall, Servers, type ServersOptions, type ServerStatus } from "./servers.ts";
import { CALL_OPTIONS, callEncoder, checkCallOptions, encodeCall, setSpan, spanOf, STREAM_OPTIONS } from "./sender.ts";
import { orDrop } from "./outgoing_items.ts";
import { IncomingStream, MAX_ITEM_BYTES, STREAM_ITEM_BYTES } from "./incoming_stream.ts";
import { HedgedCall, type HedgeOwner } from "./hedge.ts";
import type { Link, LinkOwner } from "./link.ts";
import { MAX_LOSSES, type RetryBudget, retryWaitMs } from "./retries.ts";

/**
 * The state of a client: `open` if a server takes calls. Otherwise it is `connecting`, `waiting` before the next
 * attempt to connect, or `idle` without a connection until a call needs one. At the end it is `closed`.
 */
export type ClientState = "connecting" | "open" | "waiting" | "idle" | "closed";

/** Options of the engine, all resolved. */
export interface RpcClientOptions extends ClientSettings, ServersOptions {
  /** The numbers of commands that have one. */
  numbers: ReadonlyMap<string, number>;
  /** The budget for all retries together. */
  retryBudget: RetryBudget;
  onState: ((state: ClientState, error?: RpcError) => void) | undefined;
}

/** The engine of one client. */
export class RpcClient implements ConnectionOwner, HedgeOwner, LinkOwner {
  readonly settings: RpcClientOptions;
  readonly deadlines: TimerWheel;
  readonly signals = signals;
  readonly counts = new CallCounts();
  readonly itemBudget = new ItemBudget(MAX_ITEM_BYTES, STREAM_ITEM_BYTES);
  /** Whether a new connection must answer a PING before it takes calls: each one after the first, if there is `seq`. */
  mustProve = false;
  readonly #queue: CallQueue<ClientCall>;
  readonly #servers: Servers;
  readonly #connections: Connections;
  #isWoken = false;
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
    this.#queue = new CallQueue<ClientCall>(clock, () => this.#onDue());
    this.#servers = new Servers(options, this);
    this.#connections = new Connections(clock);
  }

  /** Makes the first connection. If no server can be reached, closes the client and rejects. */
  async open(): Promise<void> {
    if (this.#isClosed) throw closed();
    try {
      await this.#servers.open();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** The current state. */
  get state(): ClientState {
    return this.#state;
  }

  /** See `Client.reply` and `Client.call`. Two methods would cost each call another promise. */
  call(name: string, params?: unknown, options: MaybeItems<CallOptions> = {}, wantsResult = false): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = this.#newCall(name, params, options); // an error thrown here rejects the promise
      call.wantsResult = wantsResult;
      call.resolve = resolve;
      call.reject = reject; // an error that is made here has the stack of the caller
      this.begin(call);
      this.counts.begun++; // unless it has thrown, for a signal that is none
      call.reject = rejectTraced;
    });
  }

  #newCall(name: string, params: unknown, given: MaybeItems<CallOptions>): UnaryCall {
    return orDrop(given, () => {
      const whole = checkCallOptions(given, CALL_OPTIONS).items === undefined ? given : this.#withItems(given);
      const span = clientTelemetry?.begin(name, given.meta);
      const options = span === undefined ? whole : span.joined(whole);
      const request = encodeCall(this, name, params, options);
      const call = options.hedgeAfterMs === undefined
        ? new UnaryCall(this, name, request, options)
        : new HedgedCall(this, name, request, options);
      setSpan(call, span);
      return call;
    });
  }

  /** An upload has no timeout by default. As for a stream, its start has the timeout of a call. */
  #withItems(options: MaybeItems<CallOptions>): MaybeItems<CallOptions> {
    // Without seq, there is no control message that could carry an item.
    if (!this.settings.sequenced) throw new TypeError("Cannot send items on a client with sequenced: false");
    return { ...options, timeoutMs: options.timeoutMs ?? Infinity };
  }

  /** See `Client.stream`. */
  stream(name: string, params?: unknown, options: MaybeItems<StreamOptions> = {}): IncomingStream {
    return orDrop(options, () => {
      // Without seq, a call cannot be cancelled and a stream cannot be granted credit.
      if (!this.settings.sequenced) throw new TypeError("Cannot stream on a client with sequenced: false");
      const { meta } = checkCallOptions(options, STREAM_OPTIONS);
      const span = clientTelemetry?.begin(name, meta);
      const stream = new IncomingStream(this, name, params, span === undefined ? options : span.joined(options));
      setSpan(stream, span);
      return stream;
    });
  }

  /** See `Client.statistics`. */
  statistics(): ClientStatistics {
    return this.counts.snapshot(this.#queue.length);
  }

  /** See `Client.servers`. */
  get servers(): readonly ServerStatus[] {
    return this.#servers.status(this.#connections);
  }

  get encoder(): CallEncoder {
    return callEncoder;
  }

  onAnswered(call: ClientCall): void {
    this.counts.answered++;
    spanOf(call)?.end();
  }

  onRejected(call: ClientCall, error: Error): void {
    this.counts.failed(error);
    spanOf(call)?.fail(error);
  }

  get obstacle(): RpcError | undefined {
    return this.#servers.obstacle;
  }

  get unanswered(): number {
    return this.#connections.unanswered;
  }

  get traffic(): { bytesReceived: number; bytesSent: number } {
    return this.#connections.traffic;
  }

  get pace(): TurnPace {
    return this.#connections.pace;
  }

  get hasWaiting(): boolean {
    return !this.#queue.empty || this.#connections.late.size > 0;
  }

  get isOpen(): boolean {
    return this.#servers.isOpen;
  }

  get isStranded(): boolean {
    return !this.#queue.empty && this.#servers.state !== "open";
  }

  begin(call: ClientCall): void {
    if (this.#isClosed) return call.end(closed());
    if (this.#queue.full) return call.end(this.#overloaded());
    try {
      call.begin();
    } catch (error) {
      call.items?.end();
      throw error; // its signal is none
    }
    if (call.isSettled) return;
    if (this.#state === "waiting" && !call.policy.waitForReady) return call.end(this.#notReady());
    this.#queue.begin(call);
    this.#serveQueue();
  }

  giveUp(call: ClientCall, outcome: Error | Fields): void {
    if (call.isSettled) return; // the caller's code may have ended it, such as a getter of an item
    const { connection } = call;
    this.#unqueue(call);
    if (outcome instanceof Error) call.end(outcome);
    else call.settle(outcome);
    connection?.abandon(call);
    this.#servers.keepAlive(); // it may have been the last one that waits
  }

  /** Only a waiting call is in the queue: one that has just lost its connection has none either, but is not. */
  #unqueue(call: ClientCall): void {
    if (call.state === "waiting") this.#queue.forget(call);
  }

  onRefused(call: ClientCall, error: RpcError): void {
    const waitMs = retryWaitMs(error, call.attempts.refusals, this.settings.random());
    const leftMs = Math.min(call.leftMs, call.patienceMs);
    if (waitMs < leftMs && call.isRepeatable && this.#mayRetry()) this.#queueAgain(call, false, waitMs);
    else call.settle(error);
  }

  /** Takes a retry out of the budget. */
  #mayRetry(): boolean {
    const { clock, retryBudget } = this.settings;
    return retryBudget.take(clock.now());
  }

  mayHedge(call: LateCall, connection: CallConnection): boolean {
    if (this.#connections.beside(connection).length === 0 || !this.#mayRetry()) return false;
    this.#connections.late.add(call);
    this.wake();
    return true;
  }

  onEnded(connection: ClientConnection, error: RpcError, unanswered: ClientCall[]): void {
    this.#connections.delete(connection);
    connection.place.calls.lost += unanswered.length;
    for (const call of unanswered) {
      if (error.retryable && !connection.answered) this.onRefused(call, copyOf(error)); // the server had no room for it
      else this.onFailed(call, copyOf(error));
    }
    connection.place.onLeft(connection, error);
    this.wake();
  }

  onFailed(call: ClientCall, error: RpcError): void {
    if (!call.outlives(error)) call.settle(error);
    else if (call.attempts.losses === MAX_LOSSES - 1) call.settle(lostTooOften(call, error));
    else if (this.#mayRetry()) this.#queueAgain(call, true, 0);
    else call.settle(error);
  }

  #queueAgain(call: ClientCall, wasLost: boolean, waitMs: number): void {
    this.counts.retried++;
    call.waitAgain(wasLost);
    this.#queue.pushLater(call, waitMs);
  }

  /** A delayed call is due. */
  #onDue(): void {
    if (this.#state === "waiting") this.#failImpatient();
    this.#serveQueue();
  }

  /** A call may be sent. */
  #serveQueue(): void {
    if (this.#state !== "open") this.onLinkState();
    this.wake();
  }

  /** Marked as received, because it says nothing about a request whose handler made this call. */
  #overloaded(): RpcError {
    const { obstacle } = this;
    const reason = obstacle?.message ?? `${this.unanswered} earlier calls are unanswered`;
    const text = `too many calls are waiting to be sent: ${reason}`;
    return markReceived(new RpcError("OVERLOADED", text, { cause: obstacle }));
  }

  onBusy(): void {
    this.#connections.watch();
  }

  attach(link: Link, transport: Transport): ClientConnection {
    const connection = new ClientConnection(this, link, transport);
    this.#connections.add(connection);
    this.mustProve = this.settings.sequenced;
    return connection;
  }

  wake(): void {
    if (this.#isWoken) return;
    this.#isWoken = true;
    queueMicrotask(() => this.#deal());
  }

  /** Sends all messages of a turn at its end, in one write. Each call goes to the better of two connections. */
  #deal(): void {
    this.#isWoken = false;
    const { clock, retryBudget } = this.settings;
    const nowMs = clock.now();
    this.#queue.startTimeouts(nowMs);
    let ready = this.#connections.prepare(nowMs, this.#servers.isOpen);
    if (!this.hasWaiting) return;
    let calls = 0;
    while (ready !== undefined && ready.length > 0) {
      const call = this.#queue.shift();
      if (call === undefined) break;
      const { attempts } = call;
      if (attempts === NO_ATTEMPTS) calls++;
      const connection = this.#servers.better(attempts.connection ? elsewhere(ready, attempts.connection) : ready);
      connection.send(call, nowMs);
      if (!connection.hasRoom) ready = ready.filter((other) => other !== connection);
    }
    if (ready !== undefined) this.#connections.sendSecond(ready, nowMs, (some) => this.#servers.better(some));
    retryBudget.called(nowMs, calls);
    this.#servers.seek();
  }

  onLinkState(error?: RpcError): void {
    if (this.#isClosed) return;
    if (error !== undefined) this.#servers.isStale = true;
    if (this.hasWaiting) this.#servers.seek();
    const { state } = this.#servers;
    if (state === "open" && this.hasWaiting) this.wake();
    const isNew = state !== this.#state;
    this.#setState(state, error);
    if (isNew && state === "waiting") this.#failImpatient();
    this.#servers.keepAlive();
  }

  #failImpatient(): void {
    for (const call of this.#queue.impatient()) {
      this.#unqueue(call);
      call.settle(this.#notReady()); // not `end()`: a reader gets the received items first
    }
  }

  #notReady(): RpcError {
    const { obstacle } = this;
    const text = `no server can be reached, and waitForReady is false: ${obstacle?.toJSON().msg ?? "none is known"}`;
    return new RpcError("CONNECTION_LOST", text, { retryable: true, cause: obstacle });
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
    this.#servers.close(new RpcError("CLOSED", "the client was closed"));
    for (const call of this.#queue.all()) {
      this.giveUp(call, new RpcError("CLOSED", "the client was closed while the call waited", { retryable: true }));
    }
    await this.#connections.close(new RpcError("CLOSED", "the client was closed before the reply came"));
    this.deadlines.clear();
  }

  #setState(state: ClientState, error?: RpcError): void {
    if (this.#state === state || this.#isClosed) return;
    this.#state = state;
    const { onState } = this.settings;
    // In a microtask, so the hook cannot interfere with this code.
    if (onState) queueMicrotask(() => onState(state, error));
  }

  cmdOf(name: string): number | string {
    return this.settings.numbers.get(name) ?? name;
  }
}

function lostTooOften(call: ClientCall, error: RpcError): RpcError {
  const since = call instanceof IncomingStream ? " without a new item" : "";
  const { msg } = (error.cause instanceof RpcError ? error.cause : error).toJSON(); // of a cut, what the server said
  const last = new RpcError(error.code, `sent ${MAX_LOSSES} times${since}: ${msg}`, { cause: error });
  return isReceived(error) ? markReceived(last) : last;
}

function closed(): RpcError {
  return new RpcError("CLOSED", "the client is closed", { retryable: true });
}
