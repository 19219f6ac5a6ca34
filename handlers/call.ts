/**
 * One call at the server: from its request to its final reply and the end of its handler. All its state changes are in
 * this file.
 *
 *     new > waiting > running > streaming > settled      (a handler that answers at once settles a new call)
 *
 * In: a request and its command. Out: stream items, one final reply, a signal for the handler. Refused: requests beyond
 * `maxInFlightTotal`, and under overload those that have waited for most of their `ttl`. Costly parts are made on demand: most handlers answer at once.
 */

import { type Fields, ITEMS, Reply, type Request } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import type { Arrival } from "../session/arrival.ts";
import type { ConnectionView } from "../session/connection.ts";
import { CreditWindow } from "../session/item_sender.ts";
import { type CallSpan, serverTelemetry } from "../session/telemetry.ts";
import { type Expiring, UNWATCHED } from "../session/deadlines.ts";
import { abortedBy, abortSafely } from "./aborts.ts";
import { type ReplyFields, replyOf } from "./command.ts";
import type { CallerConnection } from "./caller_connection.ts";
import { CallerItems } from "./caller_items.ts";
import type { Invocation } from "./context.ts";
import type { HeldItems } from "./held_items.ts";
import { isAbort, isDrained, isForCaller, isTimeout, reported } from "./failures.ts";
import { Lasting } from "./lasting.ts";
import { isPending, isStream, sendItems, STREAM_AHEAD_BYTES, type StreamedCall } from "./item_sender.ts";
import { AT_LIMIT, tooLateAfter } from "./refusals.ts";
import { isStreaming, noteResult, type RegisteredCommand } from "./registry.ts";
import type { ServerState } from "./server_state.ts";
import { itemFields } from "./tracked.ts";

/** The share of its `ttl` that a request may wait for other work: the rest is for its handler and its reply. */
const WAIT_SHARE = 0.75;

/** A server counts as overloaded after this many `ttl`s of work without rest: one slow handler is not an overload. */
const OVERLOADED_TTLS = 2;
const CUT_SHORT = new RpcError("CANCELLED", "the caller's stream ended before its end");

/** The connection and the server, as a call sees them. */
export interface CallOwner {
  readonly server: ServerState;
  readonly connection: ConnectionView;
  /** The connection as the service sees it. */
  readonly caller: CallerConnection;
  readonly counter: { lookedMs: number; beginSpan(request: Request, arrival: Arrival): CallSpan | undefined };
  /** The memory of the items of callers' streams. */
  readonly heldItems: HeldItems;
  /** Whether no more credit can come. */
  readonly inputEnded: boolean;
  /** Why the connection should end soon, if it should. */
  readonly drainReason: RpcError | undefined;
  /** Whether the call gets no reply any more. After its connection has ended, this ends the call. */
  isOver(call: Call): boolean;
  /** Sends a reply, and encodes it before returning. */
  push(reply: Reply<Call>): void;
  /** Grants more items of the caller's stream. */
  grant(call: Call, items: number): void;
  /** The call was refused before it began: there is no room or no time for it. */
  onRefused(call: Call, reason: RpcError): void;
  /** The handler did not answer at once. Registers the call, with its `seq`, its deadline and its place. */
  onRunning(call: Call): void;
  /** The call has got its final reply. */
  onAnswered(call: Call): void;
  /** A running or waiting call was settled. */
  onSettled(call: Call, hasWaited: boolean): void;
  /** The call was answered by a middleware, and its handler still runs. */
  onOutlasting(call: Call): void;
  /** The handler of a running call has ended, and its place is free. */
  onEnded(call: Call): void;
}

/** One call. */
export class Call implements Expiring, StreamedCall, Invocation {
  state: "new" | "waiting" | "running" | "streaming" | "settled" = "new";
  /** When it times out, or `Infinity`. */
  deadlineMs = Infinity;
  slotPlace = UNWATCHED;
  /** The error code; `undefined` if it succeeded. */
  code: string | undefined = undefined;
  /** The parts that still run: the answer and, with middleware, each of them and the handler. */
  #parts = 1;
  #lastingOrNone: Lasting | undefined = undefined;

  constructor(
    readonly entry: RegisteredCommand,
    readonly request: Request,
    readonly arrival: Arrival,
    readonly owner: CallOwner,
  ) {}

  /** The `seq`, for calls that have one. */
  get id(): number {
    return this.request.seq as number;
  }

  get isSettled(): boolean {
    return this.state === "settled";
  }

  /** No handler can start now: the call waits, registered by its `seq`. */
  wait(): void {
    const { ttl } = this.request;
    this.state = "waiting";
    this.deadlineMs = ttl === undefined ? Infinity : this.arrival.readMs + ttl;
    this.entry.counts.inFlight++;
  }

  /** Runs the handler. */
  begin(): void {
    const { entry, owner, request } = this;
    const { server } = owner;
    if (this.state === "waiting") {
      this.state = "new";
      entry.counts.inFlight--;
    }
    if (server.load.handlers >= server.limits.maxInFlightTotal && !entry.immediate) return this.#refuse(AT_LIMIT);
    this.deadlineMs = deadlineOf(this);
    entry.counts.inFlight++;
    if (this.deadlineMs !== Infinity) {
      const nowMs = owner.counter.lookedMs = server.clock.now();
      if (this.deadlineMs <= nowMs) return this.expire();
      const { ttl = Infinity } = request;
      const waitedMs = server.yieldBudget.arrivals.workAt(nowMs) - this.arrival.afterWorkMs;
      if (waitedMs >= WAIT_SHARE * ttl && this.#hasComputedFor(OVERLOADED_TTLS * ttl, nowMs)) {
        entry.counts.inFlight--;
        return this.#refuse(tooLateAfter(waitedMs));
      }
    }
    if (serverTelemetry === undefined) return this.#run();
    const span = owner.counter.beginSpan(request, this.arrival);
    this.#lasting.span = span;
    span?.run(() => this.#run());
  }

  #run(): void {
    let pending: Promise<unknown>;
    try {
      const answer = this.owner.server.middleware.answer(this);
      // Inside the `try` too: a proxy may throw when it is read.
      if (!isPending(answer)) return this.#answer(replyOf(answer));
      pending = Promise.resolve(answer);
    } catch (error) {
      return this.fail(this.#failureOf(error));
    }
    this.#follow(pending);
  }

  /** Whether the server has worked without rest for this long, and the command is not `immediate`. */
  #hasComputedFor(milliseconds: number, nowMs: number): boolean {
    const { entry, owner: { server } } = this;
    return nowMs - server.yieldBudget.arrivals.busySinceMs >= milliseconds && !entry.immediate;
  }

  #refuse(reason: RpcError): void {
    this.#lastingOrNone?.items?.cut(reason);
    this.owner.onRefused(this, reason);
  }

  /** Waits for a handler that did not answer at once. Not an async function, which would make more objects a call. */
  #follow(pending: Promise<unknown>): void {
    this.state = "running";
    const { credit } = this.request;
    if (credit !== undefined) this.#lasting.credit = new CreditWindow(credit);
    this.owner.onRunning(this);
    pending.then((answer) => this.#onReturned(answer), (error) => this.#onThrown(error));
  }

  #onReturned(answer: unknown): void {
    noteResult(this.entry, answer);
    try {
      if (isStream(answer)) {
        return void this.sendItems(answer).then((reply) => this.#onReply(reply), (error) => this.#onThrown(error));
      }
      this.#succeed(replyOf(answer));
    } catch (error) {
      return this.#onThrown(error);
    }
    this.endPart();
  }

  /** A stream is complete. */
  #onReply(reply: ReplyFields): void {
    this.#succeed(reply);
    this.endPart();
  }

  #onThrown(error: unknown): void {
    if (this.owner.isOver(this)) this.onLateError(error);
    else this.fail(this.#failureOf(error));
    this.endPart();
  }

  beginPart(): void {
    this.#parts++;
  }

  /** What continues after a cancel, or after a middleware has answered, keeps the place until its end. */
  endPart(): void {
    if (--this.#parts === 0) this.owner.onEnded(this);
  }

  /** Sends a stream. Resolves with the final reply; rejects with the reason if there is none. */
  sendItems(items: AsyncIterable<unknown>): Promise<ReplyFields> {
    if (this.state === "running") this.state = "streaming";
    return sendItems(this, items);
  }

  hold(): Promise<void> | undefined {
    const { connection: { output }, server: { yieldBudget } } = this.owner;
    if (this.#credit?.left === 0) return this.#untilCredit(this.#credit);
    if (output.queuedBytes >= STREAM_AHEAD_BYTES || output.full) return output.drained(STREAM_AHEAD_BYTES);
    if (yieldBudget.isExhausted) return yieldBudget.refilled();
  }

  sendItem(item: unknown): void {
    this.#credit?.use();
    this.owner.push(new Reply<Call>(this.request.seq, itemFields(item), true, this));
    this.#lasting.itemBytes += this.owner.connection.output.lastBytes;
  }

  #succeed(reply: ReplyFields): void {
    if (this.owner.isOver(this)) return void this.owner.server.counts.lateReplies++;
    this.#answer(this.#isEmptyStream && reply.res !== null ? { ...reply, [ITEMS]: 0 } : reply);
    if (this.#parts === 1) return; // else a middleware has answered, and the handler may still run
    this.#lastingOrNone?.endStream?.();
    this.#credit?.wake(); // a stream without `return()` ends only when it asks whether it may go on
    this.owner.onOutlasting(this);
  }

  // ---- the end

  /** Sends the final reply, once. Every answered call ends here. */
  #answer(outcome: Fields | RpcError): void {
    const { state } = this;
    this.state = "settled";
    if (outcome instanceof Error) this.code = outcome.code;
    else this.#lastingOrNone?.items?.cut();
    this.owner.push(new Reply<Call>(this.request.seq, outcome, false, this)); // sets the code if it cannot be encoded
    this.#lastingOrNone?.end?.resolve(this.code);
    this.owner.onAnswered(this);
    if (state !== "new") this.owner.onSettled(this, state === "waiting"); // else it was never registered
  }

  /** Ends the call with an error, unless it has its reply, and aborts the handler. */
  fail(reason: RpcError): void {
    if (!this.owner.isOver(this)) this.#answer(reason);
    this.#abort(reason);
  }

  expire(): void {
    this.fail(new RpcError("DEADLINE_EXCEEDED"));
  }

  /** Ends the call after its caller has disconnected. */
  abandon(reason: RpcError): void {
    const hasWaited = this.state === "waiting";
    this.state = "settled";
    this.code = reason.code;
    this.#lastingOrNone?.end?.resolve(this.code);
    this.owner.onSettled(this, hasWaited);
    this.entry.counts.inFlight--;
    this.#abort(reason);
  }

  get ended(): Promise<string | undefined> {
    if (this.isSettled) return Promise.resolve(this.code);
    return (this.#lasting.end ??= Promise.withResolvers()).promise;
  }

  /** A handler threw after its caller got an answer. An error caused by the abort is not reported. */
  onLateError(error: unknown): void {
    if (!isForCaller(error) && !isAbort(error, this.abortReason)) this.report(error);
  }

  /** Reports an error that is not sent to the caller. */
  report(error: unknown): void {
    const { server, connection } = this.owner;
    server.log.report(error, { peer: connection.peer, command: this.entry.name });
  }

  /** Converts what a handler threw to the error for its caller. */
  #failureOf(error: unknown): RpcError {
    if (isForCaller(error)) return error;
    const { drainReason: reason } = this.owner;
    if (reason !== undefined && isDrained(error, reason, this.#lastingOrNone?.drainController)) return reason;
    if (isTimeout(error) && this.deadlineMs <= this.owner.server.clock.now()) return new RpcError("DEADLINE_EXCEEDED");
    this.report(reported(error));
    return new RpcError("INTERNAL");
  }

  // ---- the stream of the handler

  get span(): CallSpan | undefined {
    return this.#lastingOrNone?.span;
  }

  get itemBytes(): number {
    return this.#lastingOrNone?.itemBytes ?? 0;
  }

  /** Whether its last reply needs a mark, for a caller that grants credit: it could be that of a call without a stream. */
  get #isEmptyStream(): boolean {
    if (this.#credit === undefined || this.itemBytes > 0) return false;
    return this.state === "streaming" || isStreaming(this.entry.command); // a middleware may have answered it
  }

  get #credit(): CreditWindow | undefined {
    return this.#lastingOrNone?.credit;
  }

  /** The caller takes more items. */
  grant(items: number): void {
    if (this.state === "waiting" && this.request.credit !== undefined) this.request.credit += items;
    this.#credit?.grant(items);
  }

  /** Waits until the caller takes more items or the call has ended. */
  #untilCredit(credit: CreditWindow): Promise<void> {
    if (!this.owner.inputEnded) return credit.granted();
    this.fail(new RpcError("CANCELLED", "no more credit can come"));
    return Promise.resolve();
  }

  /** No more credit and no more items can come. */
  endInput(): void {
    this.failIncomplete(CUT_SHORT);
    this.#credit?.wake();
  }

  // ---- the caller's stream

  /** Fails the call if the caller's stream is incomplete: the rest cannot come, or a part may be missing. */
  failIncomplete(reason: RpcError): void {
    if (this.request.hasItems && !this.#lastingOrNone?.items?.isComplete) this.fail(reason);
  }

  get items(): CallerItems | undefined {
    return this.request.hasItems ? this.#lasting.items ??= this.#openItems() : undefined;
  }

  #openItems(): CallerItems {
    const { heldItems: held, server: { limits } } = this.owner;
    const items = new CallerItems({
      held,
      maxItemBytes: limits.maxPayloadBytes,
      schema: this.entry.command.items,
      grant: (items) => this.owner.grant(this, items),
      rest: () => this.owner.server.yieldBudget.isExhausted ? this.owner.server.yieldBudget.refilled() : undefined,
    });
    if (this.isSettled) items.cut(this.abortReason);
    return items;
  }

  // ---- signals for the handler

  get signal(): AbortSignal {
    return (this.#lasting.abortController ??= abortedBy(this.abortReason)).signal;
  }

  get draining(): AbortSignal {
    return (this.#lasting.drainController ??= abortedBy(this.owner.drainReason)).signal;
  }

  /** The connection should end soon. */
  drain(reason: RpcError): void {
    const controller = this.#lastingOrNone?.drainController;
    if (controller) abortSafely(controller, reason, (error) => this.report(error));
  }

  /** The reason why the call was aborted. */
  get abortReason(): RpcError | undefined {
    return this.#lastingOrNone?.abortReason;
  }

  /** Sets a callback that ends the stream of the handler, once the call is over. */
  onOver(endStream: () => void): void {
    this.#lasting.endStream = endStream;
  }

  #abort(reason: RpcError): void {
    const lasting = this.#lasting;
    if (lasting.abortReason !== undefined) return;
    lasting.abortReason = reason;
    if (lasting.abortController) abortSafely(lasting.abortController, reason, (error) => this.report(error));
    lasting.items?.cut(reason);
    lasting.endStream?.();
    lasting.credit?.wake();
  }

  get #lasting(): Lasting {
    return this.#lastingOrNone ??= new Lasting();
  }
}

function deadlineOf({ arrival, entry, owner, request: { ttl } }: Call): number {
  const { limits, clock } = owner.server;
  const { timeoutMs = limits.handlerTimeoutMs } = entry.command;
  const callersMs = ttl === undefined ? Infinity : arrival.readMs + ttl;
  return timeoutMs === Infinity ? callersMs : Math.min(callersMs, clock.now() + timeoutMs);
}
