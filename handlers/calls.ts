/**
 * The calls of one connection: each from its request to its one final reply, and on to the end of its handler.
 *
 * In: requests. Out: replies, in the order in which they are given. Requests with `seq` run at once, beside all others;
 * those without run one after another.
 */

import { type Fields, Reply, type Request } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Clock } from "../transport/clock.ts";
import { inspect } from "../transport/runtime.ts";
import type { OutputBuffer } from "../session/output_buffer.ts";
import { Call, type CallHost } from "./call.ts";
import type { ReplyFields, ServerReport } from "./command.ts";
import type { RegisteredCommand } from "./registry.ts";
import { isAbort, isForCaller } from "./failures.ts";
import { HeldRequests } from "./held_requests.ts";
import { isStream, type ItemOutput, sendItems } from "./item_sender.ts";
import { OrderedQueue } from "./ordered_queue.ts";
import type { ServerState } from "./server_state.ts";

// Made once: to make an error takes 2 µs, and one read of a peer's can hold sixteen thousand requests to refuse.
const CMD_NOT_FOUND = new RpcError("CMD_NOT_FOUND");
const OVERLOADED = new RpcError("OVERLOADED");

/** Where replies go, and who is told of the ends of calls. */
export interface ReplyOutput {
  /** Whether the connection has ended. */
  readonly gone: boolean;
  /** Takes a reply; it is encoded when this returns. */
  push(reply: Reply<Call>): void;
  /** Told that a call has got its final reply, or that nobody wants it. */
  onSettled(): void;
  /** Told that a handler has ended, and its place is free. */
  onEnded(): void;
}

/** The calls of one connection. */
export class Calls implements CallHost {
  readonly peer: string;
  readonly certificate: PeerCertificate | undefined;
  /** Calls with `seq` that have no final reply yet. */
  readonly bySeq = new Map<number, Call>();
  /** Requests without `seq`, and replies to such, that wait for their turn: no more than `maxInFlight`. */
  readonly queue = new OrderedQueue();
  /** What their requests take in memory. */
  readonly held: HeldRequests;

  readonly #server: ServerState;
  readonly #host: ReplyOutput;
  readonly #items: ItemOutput;
  /** Calls that have got their final reply in this turn, and are not counted yet: one look at the clock for all. */
  #answered: Call[] = [];
  /** When the batch came that is being taken, whose successes are only numbered: a list of them would outlive them. */
  #batchArrivedMs = NaN;
  #batchEntries: RegisteredCommand[] = [];
  /** Handlers that run. */
  #running = 0;
  /** Handlers that were begun and have not answered at once, ever. */
  begun = 0;
  /** No more messages can come: what waits for one waits in vain. */
  #inputEnded = false;

  constructor(
    server: ServerState,
    host: ReplyOutput,
    outflow: OutputBuffer,
    peer: string,
    certificate: PeerCertificate | undefined,
  ) {
    this.#server = server;
    this.#host = host;
    this.peer = peer;
    this.certificate = certificate;
    this.held = new HeldRequests(server);
    this.#items = {
      outflow,
      yieldBudget: server.yieldBudget,
      untilCredit: (call) => this.#untilCredit(call),
      sendItem: (call, item) => host.push(new Reply<Call>(call.request.seq, { res: item }, true, call)),
    };
  }

  get clock(): Clock {
    return this.#server.clock;
  }

  get view(): ServerReport {
    return this.#server;
  }

  /** Whether all that has come is answered. A handler may still run, that goes on after its cancel or its deadline. */
  get idle(): boolean {
    return this.bySeq.size === 0 && !this.queue.busy;
  }

  /** Places that are taken: handlers that run, and requests that wait for their turn. */
  get taken(): number {
    return this.#running + this.queue.length;
  }

  /** The connection has ended: nobody wants an answer. */
  abandonAll(reason: RpcError): void {
    for (const waiting of this.queue.takeAll()) if (!(waiting instanceof Reply)) this.held.delete(waiting.request);
    this.countAnswered();
    for (const call of this.openCalls()) this.#abandon(call, reason);
  }

  /** Ends all that wait and run, and tells their callers. */
  cutAll(reason: RpcError): void {
    const calls = this.openCalls();
    this.#server.cutCalls += calls.length;
    for (const waiting of this.queue.takeAll()) {
      if (waiting instanceof Reply) {
        this.queue.push(waiting);
      } else {
        this.#server.cutCalls++;
        this.held.delete(waiting.request);
        this.queue.push(new Reply<Call>(undefined, reason, false));
      }
    }
    for (const call of calls) {
      this.#answer(call, reason);
      this.#forget(call);
      call.abort(reason);
    }
  }

  /** Nothing comes any more: a stream that has no credit gets none. */
  endInput(): void {
    this.#inputEnded = true;
    for (const call of this.openCalls()) call.wake();
  }

  /** Takes a request: it begins now, or when those before it are answered. */
  take(request: Request, arrivedMs: number): void {
    if (this.held.mustRefuse(request)) {
      this.answerInTurn(new Reply<Call>(request.seq, OVERLOADED, false));
    } else if (request.seq === undefined && this.queue.busy) {
      this.held.add(request);
      this.queue.push({ request, arrivedMs });
    } else {
      this.#begin(request, arrivedMs);
    }
  }

  /** A stream ends by an item that could not be written. */
  endByItem(call: Call, failure: RpcError): void {
    this.#forget(call);
    this.#noteAnswered(call);
    call.abort(failure);
  }

  sendItems(call: Call, items: AsyncIterable<unknown>): Promise<ReplyFields> {
    return sendItems(call, items, this.#items);
  }

  onExpired(call: Call): void {
    this.fail(call, new RpcError("DEADLINE_EXCEEDED"));
  }

  onError(call: Call, error: unknown): void {
    this.#server.report(error, { peer: this.peer, command: call.command });
  }

  /** That the handler has stopped as told is no error, nor is what the caller would have been told. */
  onLateError(call: Call, error: unknown): void {
    if (!isForCaller(error) && !isAbort(error, call.abortReason)) this.onError(call, error);
  }

  /** Starts a request, unless it must be refused. */
  #begin(request: Request, arrivedMs: number): void {
    const server = this.#server;
    const entry = server.registry.find(request.cmd);
    if (entry === undefined) {
      server.counts.unknownCommands++;
      return this.#host.push(new Reply<Call>(request.seq, CMD_NOT_FOUND, false));
    }
    if (server.inFlight >= server.limits.maxInFlightTotal && !entry.immediate) {
      return this.#host.push(new Reply<Call>(request.seq, OVERLOADED, false));
    }
    const deadlineMs = this.#deadlineOf(request, arrivedMs, entry.command.timeoutMs);
    const call = new Call(entry, request, arrivedMs, deadlineMs, this);
    entry.counts.inFlight++;
    if (deadlineMs !== Infinity && deadlineMs <= this.clock.now()) {
      return this.fail(call, new RpcError("DEADLINE_EXCEEDED"));
    }
    let answer: unknown;
    try {
      answer = server.answer(call);
      // In here as well: a getter or a proxy may throw as soon as it is looked at. Fields first: they are what nearly every
      // handler gives that answers at once, and neither a promise nor a stream has them. Nothing can have settled it yet.
      if (isFields(answer)) return this.#finish(call, answer);
      if (!(answer instanceof Promise || isStream(answer))) return this.#succeed(call, answer);
    } catch (error) {
      return this.fail(call, this.#failureOf(call, error));
    }
    void this.#follow(call, answer);
  }

  #deadlineOf({ ttl }: Request, arrivedMs: number, timeoutMs = this.#server.limits.handlerTimeoutMs): number {
    const callersMs = ttl === undefined ? Infinity : arrivedMs + ttl;
    return timeoutMs === Infinity ? callersMs : Math.min(callersMs, this.clock.now() + timeoutMs);
  }

  /** Stays with a handler that takes its time. Never rejects. */
  async #follow(call: Call, pending: unknown): Promise<void> {
    const { request } = call;
    this.begun++;
    this.#running++;
    this.#server.inFlight++;
    this.held.add(request);
    if (request.seq === undefined) this.queue.running = call;
    else this.bySeq.set(request.seq, call);
    this.#server.deadlines.add(call);
    try {
      const answer = await pending;
      this.#succeed(call, isStream(answer) ? await this.sendItems(call, answer) : answer);
    } catch (error) {
      if (call.settled) this.onLateError(call, error);
      else this.fail(call, this.#failureOf(call, error));
    }
    // Only now: a handler that goes on after a cancel, or after a middleware has answered, still takes up its place.
    if (call.handled !== undefined) await call.handled.catch(ignore);
    this.#running--;
    this.#server.inFlight--;
    this.held.delete(request);
    this.#host.onEnded();
  }

  /** Waits until the caller takes more items, or the call has ended. */
  async #untilCredit(call: Call): Promise<void> {
    if (this.#inputEnded) this.fail(call, new RpcError("CANCELLED", "no more credit can come"));
    else await call.untilWoken();
  }

  #succeed(call: Call, answer: unknown): void {
    if (call.settled) {
      this.#server.counts.lateReplies++;
    } else if (isFields(answer)) {
      this.#settle(call, answer);
    } else {
      const shown = inspect(answer, 0);
      const error = new TypeError(`the handler returned ${shown}: return { res: value }, with null for nothing`);
      this.fail(call, this.#failureOf(call, error));
    }
  }

  /** Ends a call without its handler's answer; a handler that still runs is told. */
  fail(call: Call, reason: RpcError): void {
    if (call.settled) return;
    this.#settle(call, reason);
    call.abort(reason);
  }

  #settle(call: Call, outcome: Fields | RpcError): void {
    this.#finish(call, outcome);
    this.#forget(call);
  }

  /** Ends a call that was not cut; one that is answered at once is known to nobody who would have to forget it. */
  #finish(call: Call, outcome: Fields | RpcError): void {
    if (this.#server.stopping && !this.#host.gone) this.#server.finishedCalls++;
    this.#answer(call, outcome);
  }

  /** Gives the final reply: the only place that does, and only once a call. */
  #answer(call: Call, outcome: Fields | RpcError): void {
    call.settled = true;
    if (outcome instanceof Error) call.code = outcome.code;
    this.#host.push(new Reply<Call>(call.request.seq, outcome, false, call));
    this.#noteAnswered(call);
  }

  /** Ends a call whose caller is gone. */
  #abandon(call: Call, reason: RpcError): void {
    this.#forget(call);
    call.entry.counts.inFlight--;
    call.abort(reason);
  }

  /** Marks a call as settled, and makes way for the next. */
  #forget(call: Call): void {
    call.settled = true;
    this.#server.deadlines.delete(call);
    if (call.request.seq !== undefined && this.bySeq.size > 0) this.bySeq.delete(call.request.seq);
    if (this.queue.running === call) {
      this.queue.running = undefined;
      this.#runQueue();
    }
    this.#host.onSettled();
  }

  /** What a handler threw, as its caller may see it. */
  #failureOf(call: Call, error: unknown): RpcError {
    if (isForCaller(error)) return error;
    this.onError(call, error);
    return new RpcError("INTERNAL");
  }

  openCalls(): Call[] {
    const { running } = this.queue;
    return running ? [...this.bySeq.values(), running] : [...this.bySeq.values()];
  }

  // ---- requests without `seq`

  #runQueue(): void {
    for (let next; (next = this.queue.next()) !== undefined;) {
      if (next instanceof Reply) {
        this.#host.push(next);
      } else {
        this.held.delete(next.request);
        this.#begin(next.request, next.arrivedMs);
      }
    }
  }

  /** Gives a reply to a request that was not begun: without `seq`, after those that came before it. */
  answerInTurn(reply: Reply<Call>): void {
    if (reply.seq === undefined && this.queue.busy) this.queue.push(reply);
    else this.#host.push(reply);
  }

  /** A batch is taken: what it is answered with is counted at its end. */
  startCounting(arrivedMs: number): void {
    this.#batchArrivedMs = arrivedMs;
  }

  endCounting(): void {
    this.countAnswered();
    this.#batchArrivedMs = NaN;
  }

  #noteAnswered(call: Call): void {
    const { entry, arrivedMs, code } = call;
    if (arrivedMs === this.#batchArrivedMs && code === undefined) {
      if (entry.counts.uncounted++ === 0) this.#batchEntries.push(entry);
    } else {
      this.#answered.push(call);
      if (this.#answered.length === 1) queueMicrotask(() => this.countAnswered());
    }
  }

  countAnswered(): void {
    if (this.#answered.length === 0 && this.#batchEntries.length === 0) return;
    const nowMs = this.clock.now();
    for (const { entry, arrivedMs, code } of this.#answered) entry.counts.answered(nowMs - arrivedMs, code);
    this.#answered = [];
    for (const { counts } of this.#batchEntries) {
      counts.answered(nowMs - this.#batchArrivedMs, undefined, counts.uncounted);
      counts.uncounted = 0;
    }
    this.#batchEntries = [];
  }
}

function isFields(answer: unknown): answer is Fields {
  return typeof answer === "object" && answer !== null && (answer as Fields).res !== undefined;
}

function ignore(): void {}
