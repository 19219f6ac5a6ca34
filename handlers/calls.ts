/**
 * The calls of one connection: by `seq`, or one after another in the order in which they came.
 *
 * In: requests. Out: calls that begin when it is their turn, and their replies. Requests with `seq` run at once, beside all
 * others; those without run one at a time.
 */

import { Reply, type Request } from "../codec/message.ts";
import type { Output } from "../codec/stage.ts";
import { RpcError } from "../errors.ts";
import type { ConnectionView } from "../session/connection.ts";
import { AnswerCounter } from "./answer_counter.ts";
import { Call, type CallOwner } from "./call.ts";
import { HeldRequests } from "./held_requests.ts";
import type { ItemTurns } from "./item_sender.ts";
import { OrderedQueue } from "./ordered_queue.ts";
import type { ServerState } from "./server_state.ts";

// Made once, as in call.ts.
const CMD_NOT_FOUND = new RpcError("CMD_NOT_FOUND");
const OVERLOADED = new RpcError("OVERLOADED");

/** Who is told of the ends of calls. */
export interface CallListener {
  /** Told that a call has got its final reply, or that nobody wants it. */
  onSettled(): void;
  /** Told that a handler has ended, and its place is free. */
  onEnded(): void;
}

/** The calls of one connection. */
export class Calls implements CallOwner {
  /** Calls with `seq` that have no final reply yet. */
  readonly bySeq = new Map<number, Call>();
  /** Requests without `seq`, and replies to such, that wait for their turn: no more than `maxInFlight`. */
  readonly queue = new OrderedQueue();
  /** What their requests take in memory. */
  readonly held: HeldRequests;
  readonly counter: AnswerCounter;
  readonly itemTurns: ItemTurns;
  readonly server: ServerState;
  readonly connection: ConnectionView;
  readonly #listener: CallListener;
  /** Where replies go; set when the stage starts. */
  output: Output<Reply<Call>> | undefined;
  /** Handlers that run. */
  #running = 0;
  /** Handlers that were begun and have not answered at once, ever. */
  begun = 0;
  /** No more messages can come: what waits for one waits in vain. */
  inputEnded = false;

  constructor(server: ServerState, connection: ConnectionView, listener: CallListener) {
    this.server = server;
    this.connection = connection;
    this.#listener = listener;
    this.held = new HeldRequests(server);
    this.counter = new AnswerCounter(server.clock);
    this.itemTurns = { output: connection.output, yieldBudget: server.yieldBudget };
  }

  /** Whether all that has come is answered. A handler may still run, that goes on after its cancel or its deadline. */
  get idle(): boolean {
    return this.bySeq.size === 0 && !this.queue.busy;
  }

  /** Places that are taken: handlers that run, and requests that wait for their turn. */
  get taken(): number {
    return this.#running + this.queue.length;
  }

  /** Takes a request: it begins now, or when those before it are answered. */
  take(request: Request, arrivedMs: number): void {
    const entry = this.server.registry.find(request.cmd);
    if (entry === undefined) {
      this.server.counts.unknownCommands++;
      this.answerInTurn(new Reply<Call>(request.seq, CMD_NOT_FOUND, false));
    } else if (this.held.full && !entry.immediate) {
      this.answerInTurn(new Reply<Call>(request.seq, OVERLOADED, false));
    } else {
      const call = new Call(entry, request, arrivedMs, this);
      if (request.seq !== undefined || !this.queue.busy) return call.begin();
      this.held.add(request);
      this.queue.push(call);
    }
  }

  /** Gives a reply to a request that was not begun: without `seq`, after those that came before it. */
  answerInTurn(reply: Reply<Call>): void {
    if (reply.seq === undefined && this.queue.busy) this.queue.push(reply);
    else this.push(reply);
  }

  /** Nothing comes any more: a stream that has no credit gets none. */
  endInput(): void {
    this.inputEnded = true;
    for (const call of this.#open()) call.wake();
  }

  /** The connection has ended: nobody wants an answer. */
  abandonAll(reason: RpcError): void {
    for (const waiting of this.queue.takeAll()) if (waiting instanceof Call) this.held.delete(waiting.request);
    this.counter.count();
    for (const call of this.#open()) call.abandon(reason);
  }

  /** Ends all that wait and run, and tells their callers. */
  cutAll(reason: RpcError): void {
    const { drain } = this.server;
    const calls = this.#open();
    for (const waiting of this.queue.takeAll()) {
      if (waiting instanceof Call) {
        drain.cutCalls++;
        this.held.delete(waiting.request);
      }
      this.queue.push(waiting instanceof Call ? new Reply<Call>(undefined, reason, false) : waiting);
    }
    drain.cutCalls += calls.length;
    for (const call of calls) call.fail(reason);
  }

  #open(): Call[] {
    const { running } = this.queue;
    return running ? [...this.bySeq.values(), running] : [...this.bySeq.values()];
  }

  // ---- what a call asks and tells

  push(reply: Reply<Call>): void {
    if (this.connection.isOpen) this.output?.enqueue(reply);
  }

  onRunning(call: Call): void {
    const { request } = call;
    this.begun++;
    this.#running++;
    this.server.load.handlers++;
    this.held.add(request);
    if (request.seq === undefined) this.queue.running = call;
    else this.bySeq.set(request.seq, call);
    this.server.deadlines.add(call);
  }

  onAnswered(call: Call): void {
    const { drain } = this.server;
    if (drain.isWaiting) drain.finishedCalls++;
    this.counter.add(call);
  }

  onSettled(call: Call): void {
    this.server.deadlines.delete(call);
    if (call.request.seq !== undefined) this.bySeq.delete(call.request.seq);
    if (this.queue.running === call) {
      this.queue.running = undefined;
      this.#runQueue();
    }
    this.#listener.onSettled();
  }

  onEnded({ request }: Call): void {
    this.#running--;
    this.server.load.handlers--;
    this.held.delete(request);
    this.#listener.onEnded();
  }

  /** Begins what waits, until one takes its time. */
  #runQueue(): void {
    for (let next; (next = this.queue.next()) !== undefined;) {
      if (next instanceof Call) {
        this.held.delete(next.request);
        next.begin();
      } else {
        this.push(next);
      }
    }
  }
}
