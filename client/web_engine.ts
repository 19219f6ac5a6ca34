/**
 * The engine of a client in a browser: one server, one connection at a time, no sockets of its own. Calls are the same
 * as in every other client (`client_call.ts`). What a page cannot use is left out: several servers, a second copy of a
 * call, replies without `seq`, certificates, traces.
 *
 * In: calls. Out: their outcomes, each once. Refused: calls on a closed client.
 */

import { RpcError } from "../errors.ts";
import { ItemBudget } from "../session/item_queue.ts";
import type { Deadline } from "../session/deadlines.ts";
import type { WebTransport } from "../transport/browser_web_socket.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import type { CallOptions, MaybeItems, StreamOptions } from "./call_options.ts";
import { CallCounts, type ClientStatistics, type Watcher } from "./calls.ts";
import { type ClientCall, type Deadlines, NO_ATTEMPTS, UnaryCall } from "./client_call.ts";
import type { Engine } from "./client_face.ts";
import { compactEncoder } from "./compact_calls.ts";
import { IncomingStream, MAX_ITEM_BYTES, STREAM_ITEM_BYTES } from "./incoming_stream.ts";
import { orDrop } from "./outgoing_items.ts";
import type { ClientState } from "./rpc_client.ts";
import type { ServerStatus } from "./servers.ts";
import { Backoff, MAX_LOSSES, retryWaitMs } from "./retries.ts";
import { WaitingCalls } from "./waiting_calls.ts";
import { WebConnection, type WebConnectionOwner } from "./web_connection.ts";
import { WebLink, type WebLinkOwner, type WebSettings } from "./web_link.ts";

/** A page has few open calls, so each deadline has its own timer. */
class OwnTimers implements Deadlines {
  readonly #timers = new Map<Deadline, Timer>();

  constructor(readonly clock: Clock) {}

  add(deadline: Deadline): void {
    if (deadline.deadlineMs === Infinity || this.#timers.has(deadline)) return;
    this.#timers.set(
      deadline,
      this.clock.setTimer(() => deadline.expire(), deadline.deadlineMs - this.clock.now(), false),
    );
  }

  delete(deadline: Deadline): void {
    const timer = this.#timers.get(deadline);
    if (timer !== undefined) this.clock.clearTimer(timer);
    this.#timers.delete(deadline);
  }
}

/** The engine of one client. */
export class WebEngine implements Engine, WebConnectionOwner, WebLinkOwner {
  readonly deadlines: OwnTimers;
  /** Each call listens to its signal itself. */
  readonly signals: Watcher = {
    add: (signal, call) => signal.addEventListener("abort", call),
    delete: (signal, call) => signal.removeEventListener("abort", call),
  };
  readonly counts = new CallCounts();
  readonly encoder = compactEncoder;
  readonly itemBudget = new ItemBudget(MAX_ITEM_BYTES, STREAM_ITEM_BYTES);
  readonly #connections = new Set<WebConnection>();
  readonly #waiting: WaitingCalls;
  readonly #link: WebLink;
  #state: ClientState = "idle";
  #isWoken = false;
  #closed: Promise<void> | undefined;

  constructor(readonly settings: WebSettings) {
    const { clock, random } = settings;
    this.deadlines = new OwnTimers(clock);
    this.#waiting = new WaitingCalls(clock, () => this.wake());
    this.#link = new WebLink(this, new Backoff(random));
  }

  /** Makes the first connection. If the server cannot be reached, closes the client and rejects. */
  async open(): Promise<void> {
    if (this.#state === "closed") throw closed(true);
    try {
      await this.#link.dial();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** The network may be back, or the page was asleep. */
  hurry(): void {
    this.#link.hurry();
  }

  get state(): ClientState {
    return this.#state;
  }

  get servers(): readonly ServerStatus[] {
    const { state, waitMs, lastError: error, calls } = this.#link;
    return [{ address: this.settings.server, state, inFlight: this.unanswered, waitMs, error, ...calls }];
  }

  statistics(): ClientStatistics {
    return this.counts.snapshot(this.#waiting.length);
  }

  call(name: string, params: unknown, given: MaybeItems<CallOptions>, wantsResult = false): Promise<unknown> {
    return new Promise((resolve, reject) =>
      orDrop(given, () => {
        const options = given.items ? { ...given, timeoutMs: given.timeoutMs ?? Infinity } : given;
        const call = new UnaryCall(this, name, this.encoder.encodeCall(this, name, params, options), options);
        Object.assign(call, { resolve, reject, wantsResult });
        this.begin(call);
        this.counts.begun++; // unless it has thrown, for a signal that is none
      })
    );
  }

  stream(name: string, params: unknown, options: MaybeItems<StreamOptions>): IncomingStream {
    return orDrop(options, () => new IncomingStream(this, name, params, options));
  }

  cmdOf(name: string): number | string {
    return this.settings.commands[name]?.number ?? name;
  }

  get obstacle(): RpcError | undefined {
    return this.#link.lastError;
  }

  get unanswered(): number {
    let calls = 0;
    for (const { unanswered } of this.#connections) calls += unanswered;
    return calls;
  }

  get hasWaiting(): boolean {
    return this.#waiting.ready.size > 0;
  }

  onAnswered(): void {
    this.counts.answered++;
  }

  onRejected(_call: ClientCall, error: Error): void {
    this.counts.failed(error);
  }

  // ---- calls

  begin(call: ClientCall): void {
    if (this.#state === "closed") return call.end(closed(true));
    if (this.#waiting.full) return call.end(new RpcError("OVERLOADED", "too many calls wait"));
    call.begin();
    if (call.isSettled) return;
    this.#waiting.add(call);
    this.wake();
  }

  giveUp(call: ClientCall, error: Error): void {
    if (call.isSettled) return; // the caller's code may have ended it, such as a getter of an item
    const { connection } = call;
    if (!connection) this.#waiting.remove(call);
    call.end(error);
    connection?.abandon(call);
  }

  onRefused(call: ClientCall, error: RpcError): void {
    this.#link.calls.refused++;
    const waitMs = retryWaitMs(error, call.attempts.refusals, this.settings.random());
    if (waitMs < call.leftMs && call.isRepeatable && this.#mayRetry()) this.#queueAgain(call, false, waitMs);
    else call.settle(error);
  }

  onFailed(call: ClientCall, error: RpcError): void {
    if (!call.outlives(error)) return call.settle(error);
    if (call.attempts.losses === MAX_LOSSES - 1) {
      return call.settle(new RpcError(error.code, `sent ${MAX_LOSSES} times: ${error.message}`, { cause: error }));
    }
    if (this.#mayRetry()) this.#queueAgain(call, true, 0);
    else call.settle(error);
  }

  #mayRetry(): boolean {
    return this.settings.retryBudget.take(this.settings.clock.now());
  }

  #queueAgain(call: ClientCall, wasLost: boolean, waitMs: number): void {
    this.counts.retried++;
    call.waitAgain(wasLost);
    this.#waiting.add(call, waitMs);
    this.wake();
  }

  // ---- connections

  attach(transport: WebTransport): WebConnection {
    const connection = new WebConnection(this, transport, this.settings.server);
    this.#connections.add(connection);
    return connection;
  }

  onGoing(connection: WebConnection, ms: number): void {
    connection.retire();
    this.#link.onGoing(connection, ms);
  }

  onLeft(connection: WebConnection, reason: RpcError): void {
    this.#link.onLeft(connection, reason);
  }

  onEnded(connection: WebConnection, error: RpcError, unanswered: readonly ClientCall[]): void {
    this.#connections.delete(connection);
    this.#link.calls.lost += unanswered.length;
    for (const call of unanswered) {
      if (error.retryable && !connection.answered) this.onRefused(call, error); // the server had no room for it
      else this.onFailed(call, error);
    }
    this.#link.onLeft(connection, error);
    this.wake();
  }

  onLinkState(error?: RpcError): void {
    this.#setState(this.#link.state, error);
    this.wake();
  }

  wake(): void {
    if (this.#isWoken) return;
    this.#isWoken = true;
    queueMicrotask(() => this.#deal());
  }

  /** Runs at the end of a turn, so that all messages of the turn leave in one write. */
  #deal(): void {
    this.#isWoken = false;
    if (!this.hasWaiting || this.#state === "closed") return;
    const { clock, retryBudget } = this.settings;
    const nowMs = clock.now();
    const { connection, lastError: cause } = this.#link;
    for (const call of this.#waiting.ready) {
      call.startTimeout(nowMs);
      if (this.#state === "waiting" && !call.policy.waitForReady) {
        const text = `waitForReady is false: ${cause?.message}`;
        this.giveUp(call, new RpcError("CONNECTION_LOST", text, { retryable: true, cause }));
      }
    }
    for (const call of this.#waiting.ready) {
      if (!connection?.hasRoom) break;
      this.#waiting.remove(call);
      if (call.attempts === NO_ATTEMPTS) retryBudget.called(nowMs, 1);
      this.#link.calls.sent++;
      connection.send(call, nowMs);
    }
    void this.#link.seek();
  }

  // ---- the end

  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#setState("closed");
    this.#link.close(closed());
    for (const call of this.#waiting.takeAll()) {
      call.end(closed(true));
    }
    await Promise.all([...this.#connections].map((connection) => connection.close(closed())));
  }

  #setState(state: ClientState, error?: RpcError): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    const { onState } = this.settings;
    if (onState) queueMicrotask(() => onState(state, error)); // so that the hook cannot interfere
  }
}

function closed(retryable = false): RpcError {
  return new RpcError("CLOSED", "the client was closed", { retryable });
}
