/**
 * Manages the calls of one connection. Requests with `seq` run concurrently; those without run one at a time, in order.
 *
 * In: requests. Out: calls that begin in turn, and their replies. Refused: unknown commands, and requests beyond the
 * memory limits.
 */

import { Reply, type Request } from "../codec/message.ts";
import type { Output } from "../codec/stage.ts";
import { RpcError } from "../errors.ts";
import type { Arrival } from "../session/arrival.ts";
import type { ConnectionView } from "../session/connection.ts";
import { AnswerCounter } from "./answer_counter.ts";
import { CallerConnection } from "./caller_connection.ts";
import { Call, type CallOwner } from "./call.ts";
import { HeldRequests } from "./held_requests.ts";
import { OrderedQueue } from "./ordered_queue.ts";
import { AT_LIMIT } from "./refusals.ts";
import type { ServerState } from "./server_state.ts";

// Made once, as in call.ts.
const CMD_NOT_FOUND = new RpcError("CMD_NOT_FOUND");

/** Receives the ends of calls. */
export interface CallListener {
  /** A call got its final reply, or nobody waits for it any more. */
  onSettled(): void;
  /** A handler has ended, and its place is free. */
  onEnded(): void;
}

/** The calls of one connection. */
export class Calls implements CallOwner {
  /** Calls with `seq` and without a final reply. */
  readonly bySeq = new Map<number, Call>();
  /** Waiting requests without `seq`, and replies to such requests; at most `maxInFlight`. */
  readonly queue = new OrderedQueue();
  /** The memory of their requests. */
  readonly held: HeldRequests;
  readonly counter: AnswerCounter;
  readonly server: ServerState;
  readonly connection: ConnectionView;
  /** The connection as the service sees it. */
  readonly caller: CallerConnection;
  readonly #listener: CallListener;
  /** The output for replies; set when the stage starts. */
  output: Output<Reply<Call>> | undefined;
  /** Running handlers. */
  #running = 0;
  /** The total number of handlers that did not answer at once. */
  begun = 0;
  /** No more messages can come, such as credit. */
  inputEnded = false;

  constructor(server: ServerState, connection: ConnectionView, listener: CallListener) {
    this.server = server;
    this.connection = connection;
    this.caller = new CallerConnection(connection.peer, connection.certificate);
    this.#listener = listener;
    this.held = new HeldRequests(server);
    this.counter = new AnswerCounter(server.clock);
  }

  /** Whether all requests are answered. A handler may still run after its cancel or its deadline. */
  get idle(): boolean {
    return this.bySeq.size === 0 && !this.queue.busy;
  }

  /** Used places: running handlers and waiting requests. */
  get taken(): number {
    return this.#running + this.queue.length;
  }

  /** Takes a request, which begins now or after the earlier ones. */
  take(request: Request, arrival: Arrival): void {
    const entry = this.server.registry.find(request.cmd);
    if (entry === undefined) {
      this.server.counts.unknownCommands++;
      this.answerInTurn(new Reply<Call>(request.seq, CMD_NOT_FOUND, false));
    } else if (this.held.full && !entry.immediate) {
      this.server.counts.overloaded++;
      this.answerInTurn(new Reply<Call>(request.seq, AT_LIMIT, false));
    } else {
      const call = new Call(entry, request, arrival, this);
      if (request.seq !== undefined || !this.queue.busy) return call.begin();
      this.held.add(request);
      this.queue.push(call);
    }
  }

  /** Replies to a request that was not started; without `seq`, after the earlier ones. */
  answerInTurn(reply: Reply<Call>): void {
    if (reply.seq === undefined && this.queue.busy) this.queue.push(reply);
    else this.push(reply);
  }

  /** No more input: streams without credit end. */
  endInput(): void {
    this.inputEnded = true;
    for (const call of this.#open()) call.wake();
  }

  /** Ends all calls after the connection has ended. */
  abandonAll(reason: RpcError): void {
    for (const waiting of this.queue.takeAll()) if (waiting instanceof Call) this.held.delete(waiting.request);
    this.counter.count();
    for (const call of this.#open()) call.abandon(reason);
  }

  /** Ends all waiting and running calls, and tells their callers. */
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

  /** Begins waiting requests until one does not answer at once. */
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
