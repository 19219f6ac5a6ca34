/**
 * Manages the calls of one connection. Requests with `seq` run concurrently, others one at a time, in order.
 *
 * In: requests. Out: calls that begin in turn, and their replies. Refused: unknown commands, and requests beyond the
 * memory limits.
 */

import {
  type KnownControl,
  MESSAGE_WEIGHT,
  Reply,
  type Request,
  RequestCredit,
  type RequestEnd,
  type RequestItem,
  type Settings,
} from "../codec/message.ts";
import type { Output } from "../codec/stage.ts";
import { markReceived, RpcError } from "../errors.ts";
import type { Arrival } from "../session/arrival.ts";
import { CallTable } from "../session/collections.ts";
import type { ConnectionView } from "../session/connection.ts";
import { AnswerCounter, type RefusedRequest } from "./answer_counter.ts";
import { CallerConnection } from "./caller_connection.ts";
import { Call, type CallOwner } from "./call.ts";
import { NO_ROOM, NOT_WANTED } from "./caller_items.ts";
import { HeldItems } from "./held_items.ts";
import { HeldRequests } from "./held_requests.ts";
import { AT_LIMIT } from "./refusals.ts";
import type { ServerOutput } from "./reply_encoding.ts";
import { RequestQueue, type Waiting } from "./request_queue.ts";
import type { ServerState } from "./server_state.ts";

// Made once, as in refusals.ts.
const CMD_NOT_FOUND = new RpcError("CMD_NOT_FOUND");
const MAYBE_MISSED = new RpcError(
  "INVALID_MESSAGE",
  "a message on this connection could not be read, and may have been an item of this call",
);

/** How many calls begin or are abandoned between two readings of the clock. */
const CALLS_A_LOOK = 32;

/** A control message about one call. */
type CallControl = Exclude<KnownControl, Settings>;

/** Listens to the progress of calls. */
export interface CallListener {
  /** Why the connection has ended, if it has. */
  readonly endReason: RpcError | undefined;
  /**
   * There may be room, or nothing left to answer: a call got its final reply, a handler has ended or has taken an item,
   * or waiting requests have begun.
   */
  onProgress(): void;
}

/** The calls of one connection. */
export class Calls implements CallOwner {
  /** Running and waiting calls with `seq`. */
  readonly bySeq = new CallTable<Call>();
  /** Waiting requests, and refusals that wait for earlier replies. */
  readonly queue: RequestQueue;
  /** The memory of requests that wait or run. */
  readonly held: HeldRequests;
  readonly heldItems: HeldItems;
  readonly counter: AnswerCounter;
  readonly server: ServerState;
  readonly connection: ConnectionView;
  /** The connection as the service sees it. */
  readonly caller: CallerConnection;
  readonly #listener: CallListener;
  /** The output for replies; set when the stage starts. */
  output: Output<ServerOutput> | undefined;
  /** Whether no more messages can come, such as credit. */
  inputEnded = false;
  /** Why the connection should end soon, if it should. */
  drainReason: RpcError | undefined;

  constructor(server: ServerState, connection: ConnectionView, listener: CallListener) {
    this.server = server;
    this.connection = connection;
    this.caller = new CallerConnection(connection.peer, connection.certificate, connection.headers);
    this.#listener = listener;
    this.held = new HeldRequests(server);
    this.heldItems = new HeldItems(server, () => listener.onProgress());
    this.queue = new RequestQueue(server.limits.maxInFlight);
    this.counter = new AnswerCounter(server, connection);
  }

  /** Whether all requests are answered. A handler may still run after its cancel or its deadline. */
  get idle(): boolean {
    return this.bySeq.size === 0 && !this.queue.busy;
  }

  /**
   * Whether no more requests without `seq` may wait. Their refusals wait too, for the replies before them, so they can be
   * refused only up to this number once the memory is full.
   */
  get isLineFull(): boolean {
    return this.queue.lineLength >= this.server.limits.maxInFlight && this.held.full;
  }

  /** Takes a request. It begins now, or after earlier requests. */
  take(request: Request, arrival: Arrival): void {
    const entry = this.server.registry.find(request.cmd);
    if (entry === undefined) {
      this.server.counts.unknownCommands++;
      this.refuse(request, CMD_NOT_FOUND, arrival);
    } else if (this.held.full && !entry.immediate) {
      this.server.counts.overloaded++;
      this.refuse(request, AT_LIMIT, arrival);
    } else {
      const call = new Call(entry, request, arrival, this);
      const mustWait = this.queue.isFull && !entry.immediate || request.seq === undefined && this.queue.busy;
      if (mustWait) this.#queue(call);
      else call.begin();
    }
  }

  /** Whether an item has to wait until a handler has taken another. */
  mustWait({ seq, weightBytes }: RequestItem): boolean {
    const { heldItems } = this;
    if (heldItems.mayKeep(weightBytes) || heldItems.patience.isOver) return false;
    return this.bySeq.get(seq)?.items?.mayKeep(weightBytes) === false;
  }

  /** Takes a message about one call. Returns whether its sender may send it. */
  control(control: CallControl): boolean {
    // An unknown or finished call is not an error: its reply may have crossed this message.
    const call = this.bySeq.get(control.seq);
    if (call === undefined) return true;
    if (control.kind === "cancel") call.fail(markReceived(new RpcError("CANCELLED"))); // not for another call's caller
    else if (control.kind === "credit") call.grant(control.items);
    else return this.#takeItem(call, control);
    return true;
  }

  /** Takes an item or the end of a caller's stream. If it is not allowed, the call fails. */
  #takeItem(call: Call, message: RequestItem | RequestEnd): boolean {
    const { items } = call;
    const refusal = items === undefined
      ? NOT_WANTED
      : message.kind === "request item"
      ? items.add(message.item, message.weightBytes, message.frameBytes)
      : items.end();
    if (refusal !== undefined) call.fail(refusal);
    return refusal === undefined || refusal === NO_ROOM;
  }

  #queue(call: Call): void {
    const { request } = call;
    this.held.add(request.weightBytes);
    call.wait();
    if (request.seq === undefined) return this.queue.push(call);
    this.#register(call);
    this.server.deadlines.add(call);
    this.queue.pushBeside(call);
  }

  #register(call: Call): void {
    this.bySeq.set(call);
    if (call.request.hasItems) this.heldItems.calls.add(call);
  }

  #unregister(call: Call): void {
    this.bySeq.delete(call.id);
    if (call.request.hasItems) this.heldItems.calls.delete(call);
  }

  /** Refuses a request before it starts. Without `seq`, the refusal comes after the replies to earlier requests. */
  refuse(request: RefusedRequest, reason: RpcError, arrival: Arrival): void {
    const reply = new Reply<Call>(request.seq, reason, false);
    if (reply.seq === undefined && this.queue.busy) {
      this.held.add(weightOf(reply));
      this.queue.push(reply);
    } else {
      this.push(reply);
    }
    this.counter.refused(request, reply, arrival);
  }

  /** No more input can come: ends streams that wait for credit, and calls whose own stream is incomplete. */
  endInput(): void {
    this.inputEnded = true;
    void this.#inTurns(this.#open(), (call) => call.endInput());
  }

  /** A message or a frame could not be read. It may have been an item, so calls with an incomplete stream fail. */
  missItem(reason = MAYBE_MISSED): void {
    for (const call of [...this.heldItems.calls]) call.failIncomplete(reason);
  }

  /** The connection should end soon: aborts the signal `draining` of each handler. */
  drain(reason: RpcError): void {
    this.drainReason = reason;
    for (const call of this.#open()) call.drain(reason);
    for (const call of this.queue.outlasting ?? []) call.drain(reason);
  }

  /** Does something with each open call, in turn with all other connections: there may be very many. */
  async #inTurns(calls: Call[], act: (call: Call) => void): Promise<void> {
    const { yieldBudget } = this.server;
    for (const [index, call] of calls.entries()) {
      if (index % CALLS_A_LOOK === CALLS_A_LOOK - 1 && yieldBudget.isExhausted) await yieldBudget.refilled();
      if (!call.isSettled) act(call);
    }
  }

  /** Ends all calls after the connection has ended. */
  abandonAll(reason: RpcError): void {
    this.counter.end();
    const calls = this.#open();
    for (const waiting of this.queue.takeAll()) {
      if (waiting instanceof Reply) this.held.delete(MESSAGE_WEIGHT);
      else if (waiting.request.seq === undefined) calls.push(waiting);
    }
    for (const call of this.queue.outlasting ?? []) call.fail(reason);
    void this.#inTurns(calls, (call) => this.#abandon(call, reason));
  }

  #abandon(call: Call, reason: RpcError): void {
    call.abandon(reason);
    this.counter.abandoned(call);
  }

  /** Ends all waiting and running calls, tells their callers, and returns how many there were. */
  cutAll(reason: RpcError): number {
    const all = this.queue.takeAll();
    const calls = this.#open();
    for (const call of calls) call.fail(reason);
    let cutCalls = calls.length;
    for (const waiting of all) {
      if (waiting instanceof Reply) {
        this.held.delete(MESSAGE_WEIGHT);
        this.push(waiting);
        continue;
      }
      if (waiting.request.seq !== undefined) continue; // it is one of the calls above
      waiting.fail(reason);
      cutCalls++;
    }
    return cutCalls;
  }

  #open(): Call[] {
    const { running } = this.queue;
    return running ? [...this.bySeq.values(), running] : this.bySeq.values();
  }

  // ---- for the calls

  /** The calls of a connection that has ended are abandoned in turns, and some handlers end before their turn. */
  isOver(call: Call): boolean {
    const { endReason } = this.#listener;
    if (endReason !== undefined && !call.isSettled) this.#abandon(call, endReason);
    return call.isSettled;
  }

  push(reply: Reply<Call>): void {
    if (this.connection.isOpen) this.output?.enqueue(reply);
  }

  grant({ request: { seq } }: Call, items: number): void {
    if (this.connection.isOpen) this.output?.enqueue(new RequestCredit(seq as number, items));
  }

  onRefused({ request, arrival }: Call, reason: RpcError): void {
    const reply = new Reply<Call>(request.seq, reason, false);
    this.server.counts.overloaded++;
    this.push(reply);
    this.counter.refused(request, reply, arrival);
  }

  onRunning(call: Call): void {
    const { request } = call;
    this.queue.handlers++;
    this.server.load.handlers++;
    if (!call.entry.givesPlain) this.server.load.starts.began(call, this.server.middleware.roundsOf(call.entry));
    this.held.add(request.weightBytes);
    if (request.seq === undefined) this.queue.running = call;
    else this.#register(call);
    this.server.deadlines.add(call);
  }

  onAnswered(call: Call): void {
    const { drain } = this.server;
    if (drain.isWaiting) drain.finishedCalls++;
    this.counter.add(call);
  }

  onSettled(call: Call, hasWaited: boolean): void {
    const { seq, weightBytes } = call.request;
    this.server.load.starts.passed(call);
    this.server.deadlines.delete(call);
    if (seq !== undefined) this.#unregister(call);
    if (hasWaited) {
      this.held.delete(weightBytes);
      if (seq !== undefined) this.queue.forget();
    }
    if (this.queue.running === call) {
      this.queue.running = undefined;
      this.#beginWaiting();
    }
    this.#listener.onProgress();
  }

  onOutlasting(call: Call): void {
    (this.queue.outlasting ??= new Set()).add(call);
    this.server.deadlines.add(call);
  }

  onEnded(call: Call): void {
    this.queue.handlers--;
    this.server.load.handlers--;
    this.held.delete(call.request.weightBytes);
    if (this.queue.outlasting?.delete(call)) this.server.deadlines.delete(call);
    if (this.queue.length > 0) this.#beginWaiting();
    this.#listener.onProgress();
  }

  /** Begins as many waiting calls as may begin, in turn with all other connections. */
  #beginWaiting(): void {
    const { queue, connection: { output }, server: { load, yieldBudget } } = this;
    for (let begun = 1; queue.length > 0 && !queue.isPaused; begun++) {
      if (load.starts.call !== undefined) return this.#pause(load.starts.over());
      const next = queue.next();
      if (next === undefined) return;
      this.held.delete(weightOf(next));
      if (next instanceof Call) this.#begin(next);
      else this.push(next);
      if (output.full) return this.#pause(output.drained());
      if (begun % CALLS_A_LOOK === 0 && yieldBudget.isExhausted) return this.#pause(yieldBudget.refilled());
    }
  }

  #pause(over: Promise<void>): void {
    this.queue.isPaused = true;
    void over.then(() => {
      this.queue.isPaused = false;
      this.#beginWaiting();
      this.#listener.onProgress();
    });
  }

  /** Begins a call that has waited. */
  #begin(call: Call): void {
    const { request: { seq } } = call;
    if (seq !== undefined) {
      this.server.deadlines.delete(call);
      this.#unregister(call);
    }
    call.begin();
  }
}

function weightOf(waiting: Waiting): number {
  return waiting instanceof Call ? waiting.request.weightBytes : MESSAGE_WEIGHT;
}
