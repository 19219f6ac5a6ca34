/**
 * Stage 2: requests to replies. In: batches of messages, as they were decoded. Out: batches of replies.
 *
 * A request with `seq` runs at once, beside all others. Those without run one after another, and are
 * answered in their order (contract section 5). What a handler answers at once never leaves this turn of the event
 * loop; what it answers later is gathered, so that all that became ready together leaves together.
 *
 * Every request gets exactly one final reply, unless the connection ends first: see {@linkcode DispatchStage} `#settle`.
 *
 * Refused: what the contract's section 10 says, each with its code. A broken frame is answered last, behind all that
 * came before it, and ends the connection.
 */

import type { Output } from "../codec/decode.ts";
import { type EncodeOptions, PayloadTooLargeError } from "../codec/encode.ts";
import {
  BadFrame,
  type Control,
  type Decoded,
  type Fields,
  Malformed,
  Reply,
  Request,
  Truncated,
  writeReply,
} from "../codec/message.ts";
import type { Writer } from "../codec/writer.ts";
import { RpcError } from "../errors.ts";
import { SHORT_PAYLOAD_BYTES_END } from "../limits.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Outflow } from "../transport/outflow.ts";
import { TURN_MS } from "../transport/turn.ts";
import { Call, type CallOwner } from "./call.ts";
import type { ReplyFields, ServerView } from "./command.ts";
import { isAbort, isCodeAlone, isForCaller, reduced, unwritable } from "./failures.ts";
import { HeldRequests } from "./held_requests.ts";
import { isStream, type ItemOutput, sendItems } from "./item_sender.ts";
import { OrderedQueue } from "./ordered_queue.ts";
import type { Service } from "./service.ts";
import { Strikes } from "./strikes.ts";

/**
 * A draining connection is closed when it has been silent this long: whoever calls within this time is refused by name,
 * and can call elsewhere. A request that crosses the close on its way is lost, and the longer its caller had been silent, the
 * less likely it is to send one just then.
 */
const DRAIN_QUIET_MS = 1_000;

/** An output that was full is filled again below this share of its limit: at the brim, replies go one by one. */
const RESUME_SHARE = 0.5;

/** So many messages are taken between two looks at the clock. */
const MESSAGES_A_LOOK = 32;

// Made once: to make an error takes 2 µs, and one read of a peer's can hold sixteen thousand requests to refuse.
const CMD_NOT_FOUND = new RpcError("CMD_NOT_FOUND");
const OVERLOADED = new RpcError("OVERLOADED");
const SHUTTING_DOWN = new RpcError("SHUTTING_DOWN");

/**
 * The dispatch stage of one connection: give it to a `TransformStream`, or compose it with others. It also says how its
 * replies are encoded: give it to the encode stage.
 */
export class DispatchStage
  implements Transformer<Decoded<Request | Control>[], Reply<Call>>, EncodeOptions<Reply<Call>>, CallOwner {
  readonly peer: string;
  readonly certificate: PeerCertificate | undefined;

  readonly #service: Service;
  readonly #outflow: Outflow;
  readonly #items: ItemOutput;
  /** The largest payload that the peer takes: a short frame, until it has said otherwise. */
  #peerMaxBytes = SHORT_PAYLOAD_BYTES_END - 1;
  /** The same, or this server's own limit where that is lower. */
  #maxReplyBytes: number;
  #output: Output<Reply<Call>> | undefined;
  /** Calls that have got their final reply in this turn, and are not counted yet: one look at the clock for all. */
  #answered: Call[] = [];
  #accepting = false;

  /** Calls with `seq` that have no final reply yet. */
  readonly #bySeq = new Map<number, Call>();
  /** Requests without `seq`, and replies to such, that wait for their turn: no more than `maxInFlight`. */
  readonly #queue = new OrderedQueue();

  /** Handlers that run. */
  #running = 0;
  readonly #held: HeldRequests;
  readonly #strikes: Strikes;
  #arrivedMs = 0;
  /** No more messages can come: what waits for one waits in vain. */
  #inputEnded = false;
  /** The connection is gone. */
  #gone = false;
  #resume: (() => void) | undefined;
  #quietTimer: Timer | undefined;

  constructor(service: Service, outflow: Outflow, peer: string, certificate?: PeerCertificate) {
    this.#service = service;
    this.#outflow = outflow;
    this.peer = peer;
    this.#maxReplyBytes = Math.min(this.#peerMaxBytes, service.limits.maxPayloadBytes);
    this.certificate = certificate;
    this.#held = new HeldRequests(service);
    this.#strikes = new Strikes(service.limits);
    this.#items = {
      outflow,
      turn: service.turn,
      untilCredit: (call) => this.#untilCredit(call),
      sendItem: (call, item) => this.#push(new Reply<Call>(call.request.seq, { res: item }, true, call)),
    };
  }

  get clock(): Clock {
    return this.#service.clock;
  }

  get view(): ServerView {
    return this.#service;
  }

  /** Whether the connection has ended: no more is taken, and nothing put out. */
  get gone(): boolean {
    return this.#gone;
  }

  /** Whether all that has come is answered. A handler may still run, that goes on behind its cancel or its deadline. */
  get idle(): boolean {
    return this.#bySeq.size === 0 && !this.#queue.busy;
  }

  start(output: Output<Reply<Call>>): void {
    this.#output = output;
  }

  transform(batch: Decoded<Request | Control>[]): void | Promise<void> {
    this.#arrivedMs = this.clock.now();
    const next = this.#accept(batch, 0, this.#arrivedMs);
    if (next < batch.length) return this.#acceptLater(batch, next);
  }

  /** The peer sends no more: what it has sent is still answered. */
  async flush(): Promise<void> {
    this.#endInput();
    await this.#untilIdle();
  }

  /** The connection is gone: nobody wants an answer. */
  cancel(reason: unknown): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#stopQuietTimer();
    for (const waiting of this.#queue.takeAll()) if (!(waiting instanceof Reply)) this.#held.delete(waiting.request);
    this.#countAnswered();
    const error = reason instanceof RpcError
      ? reason
      : new RpcError("CONNECTION_LOST", "the caller is gone", { cause: reason });
    for (const call of this.#openCalls()) this.#abandon(call, error);
    this.#resume?.();
  }

  /** A shutdown has begun: what runs is answered, what comes is refused, and silence ends the connection. */
  drain(): void {
    if (this.idle && !this.#gone) this.#startQuietTimer();
  }

  /** The grace is over: whoever still waits is told so, and the connection ends. */
  cut(): void {
    const reason = new RpcError("CANCELLED", "the server has shut down");
    const calls = this.#openCalls();
    this.#service.cutCalls += calls.length;
    for (const waiting of this.#queue.takeAll()) {
      if (waiting instanceof Reply) {
        this.#queue.push(waiting);
      } else {
        this.#service.cutCalls++;
        this.#held.delete(waiting.request);
        this.#queue.push(new Reply<Call>(undefined, reason, false));
      }
    }
    for (const call of calls) {
      this.#answer(call, reason);
      call.abort(reason);
    }
    this.#end(reason);
  }

  // ---- what the encode stage asks

  writeMessage(writer: Writer, reply: Reply): void {
    writeReply(writer, reply);
  }

  maxPayloadBytes({ outcome, call }: Reply<Call>): number {
    if (outcome instanceof Error && isCodeAlone(outcome)) return Infinity;
    // What this server says of its own accord may be over its own limit, not over the peer's.
    return call === undefined ? this.#peerMaxBytes : this.#maxReplyBytes;
  }

  /** A reply could not be written: this is what its caller gets in its place. */
  onUnwritable(reply: Reply<Call>, error: unknown): Reply<Call> | undefined {
    const { call, outcome, seq } = reply;
    if (call === undefined) return new Reply(seq, reduced(outcome as RpcError), false);
    if (reply.more && call.settled) return undefined; // its final reply is on its way already
    // A caller that takes less than the server allows is told, and nobody else: that limit is its own.
    if (!(error instanceof PayloadTooLargeError && error.limitBytes < this.#service.limits.maxPayloadBytes)) {
      this.onError(call, error);
    }
    if (outcome instanceof Error) return new Reply(seq, reduced(outcome), false, call);
    const failure = unwritable(error);
    call.code = failure.code;
    if (reply.more) {
      this.#forget(call);
      this.#noteAnswered(call);
      call.abort(failure);
    }
    return new Reply(seq, failure, false, call);
  }

  onFrame(bytes: number): void {
    this.#outflow.add(bytes);
  }

  // ---- what a call asks

  sendItems(call: Call, items: AsyncIterable<unknown>): Promise<ReplyFields> {
    return sendItems(call, items, this.#items);
  }

  onExpired(call: Call): void {
    this.#fail(call, new RpcError("DEADLINE_EXCEEDED"));
  }

  onError(call: Call, error: unknown): void {
    this.#service.report(error, { peer: this.peer, command: call.command });
  }

  /** That the handler has stopped as told is no error, nor is what the caller would have been told. */
  onLateError(call: Call, error: unknown): void {
    if (!isForCaller(error) && !isAbort(error, call.abortReason)) this.onError(call, error);
  }

  // ---- what comes in

  /** Takes messages until one has to wait, for room or because they take long; answers with the index of that one. */
  #accept(batch: Decoded<Request | Control>[], from: number, startMs: number): number {
    this.#accepting = true;
    let index = from;
    for (; index < batch.length && !this.#gone; index++) {
      const taken = index - from;
      if (taken > 0 && taken % MESSAGES_A_LOOK === 0 && this.clock.now() - startMs >= TURN_MS) break;
      const message = batch[index];
      if (message instanceof Request) {
        if (this.#full) break;
        this.#request(message);
      } else if (message instanceof Malformed) {
        if (this.#full) break;
        this.#malformed(message);
      } else if (message instanceof BadFrame) {
        break;
      } else if (message instanceof Truncated) {
        this.#service.counts.truncatedStreams++;
      } else {
        this.#control(message);
      }
    }
    this.#accepting = false;
    this.#countAnswered();
    return index;
  }

  /** Takes the rest of a batch as there is room for it, in turn with all others; meanwhile nothing is read. */
  async #acceptLater(batch: Decoded<Request | Control>[], from: number): Promise<void> {
    const service = this.#service;
    for (let next = from; next < batch.length && !this.#gone;) {
      const message = batch[next];
      if (message instanceof BadFrame) {
        this.#endInput();
        await this.#untilIdle();
        return this.refuseFrame(message);
      }
      const unreadBytes = weightOf(batch, next);
      service.heldBytes += unreadBytes;
      await this.#untilRoom();
      while (service.turn.isOver) await service.turn.next();
      service.heldBytes -= unreadBytes;
      next = this.#accept(batch, next, this.clock.now());
    }
  }

  #request(request: Request): void {
    const { seq } = request;
    if (seq !== undefined && this.#bySeq.size > 0 && this.#bySeq.has(seq)) {
      this.#malformed(new Malformed("seq is in flight already"));
    } else if (this.#service.draining) {
      this.#startQuietTimer();
      this.#answerInTurn(new Reply(seq, SHUTTING_DOWN, false));
    } else if (this.#held.mustRefuse(request)) {
      this.#answerInTurn(new Reply<Call>(seq, OVERLOADED, false));
    } else if (seq === undefined && this.#queue.busy) {
      this.#held.add(request);
      this.#queue.push({ request, arrivedMs: this.#arrivedMs });
    } else {
      this.#begin(request, this.#arrivedMs);
    }
  }

  #malformed(message: Malformed): void {
    this.#service.counts.invalidMessages++;
    const seq = message.seq !== undefined && !this.#bySeq.has(message.seq) ? message.seq : undefined;
    this.#answerInTurn(new Reply(seq, new RpcError("INVALID_MESSAGE", message.reason), false));
    this.#strike();
  }

  #control(control: Control): void {
    if (control.max !== undefined) {
      this.#peerMaxBytes = control.max;
      this.#maxReplyBytes = Math.min(control.max, this.#service.limits.maxPayloadBytes);
      return;
    }
    // An unknown or finished call is no error: its reply may have crossed this message.
    const call = this.#bySeq.get(control.seq as number);
    if (call === undefined) return;
    if (control.cancel) {
      this.#fail(call, new RpcError("CANCELLED"));
    } else if (call.credit !== undefined) {
      call.credit += control.credit as number;
      call.wake?.();
    }
  }

  /** Answers a broken frame, or one that comes too slowly, and ends the connection. */
  refuseFrame(message: BadFrame): void {
    if (this.#gone) return;
    this.#service.counts.badFrames++;
    this.#push(new Reply(undefined, new RpcError("BAD_FRAME", message.damage), false));
    this.#end(new RpcError("BAD_FRAME", message.damage));
  }

  /** Too many strikes in one window, and the connection ends. */
  #strike(): void {
    if (this.#strikes.isOneTooMany(this.#arrivedMs)) {
      this.#end(new RpcError("INVALID_MESSAGE", "too many bad messages"));
    }
  }

  // ---- calls

  /** Starts a request, unless it must be refused. */
  #begin(request: Request, arrivedMs: number): void {
    const service = this.#service;
    const entry = service.registry.find(request.cmd);
    if (entry === undefined) {
      service.counts.unknownCommands++;
      return this.#push(new Reply<Call>(request.seq, CMD_NOT_FOUND, false));
    }
    if (service.inFlight >= service.limits.maxInFlightTotal && !entry.immediate) {
      return this.#push(new Reply<Call>(request.seq, OVERLOADED, false));
    }
    const deadlineMs = this.#deadlineOf(request, arrivedMs, entry.command.timeoutMs);
    const call = new Call(entry, request, arrivedMs, deadlineMs, this);
    entry.counts.inFlight++;
    if (deadlineMs !== Infinity && deadlineMs <= this.clock.now()) {
      return this.#fail(call, new RpcError("DEADLINE_EXCEEDED"));
    }
    let answer: unknown;
    try {
      answer = service.answer(call);
      // In here as well: a getter or a proxy may throw as soon as it is looked at. Fields first: they are what nearly every
      // handler gives that answers at once, and neither a promise nor a stream has them. Nothing can have settled it yet.
      if (isFields(answer)) return this.#settle(call, answer);
      if (!(answer instanceof Promise || isStream(answer))) return this.#succeed(call, answer);
    } catch (error) {
      return this.#fail(call, this.#failureOf(call, error));
    }
    void this.#follow(call, answer);
  }

  #deadlineOf({ ttl }: Request, arrivedMs: number, timeoutMs = this.#service.limits.handlerTimeoutMs): number {
    const callersMs = ttl === undefined ? Infinity : arrivedMs + ttl;
    return timeoutMs === Infinity ? callersMs : Math.min(callersMs, this.clock.now() + timeoutMs);
  }

  /** Stays with a handler that takes its time. Never rejects. */
  async #follow(call: Call, pending: unknown): Promise<void> {
    const { request } = call;
    this.#running++;
    this.#service.inFlight++;
    this.#held.add(request);
    if (request.seq === undefined) this.#queue.running = call;
    else this.#bySeq.set(request.seq, call);
    this.#service.deadlines.add(call);
    try {
      const answer = await pending;
      this.#succeed(call, isStream(answer) ? await this.sendItems(call, answer) : answer);
    } catch (error) {
      if (call.settled) this.onLateError(call, error);
      else this.#fail(call, this.#failureOf(call, error));
    }
    // Only now: a handler that goes on after a cancel, or after a middleware has answered, still takes up its place.
    if (call.handled !== undefined) await call.handled.catch(ignore);
    this.#running--;
    this.#service.inFlight--;
    this.#held.delete(request);
    this.#resume?.();
  }

  /** Waits until the caller takes more items, or the call has ended. */
  async #untilCredit(call: Call): Promise<void> {
    if (this.#inputEnded) this.#fail(call, new RpcError("CANCELLED", "no more credit can come"));
    else await new Promise<void>((resolve) => call.wake = resolve);
  }

  #succeed(call: Call, answer: unknown): void {
    if (call.settled) {
      this.#service.counts.lateReplies++;
    } else if (isFields(answer)) {
      this.#settle(call, answer);
    } else {
      const shown = Deno.inspect(answer, { depth: 0 });
      const error = new TypeError(`the handler returned ${shown}: return { res: value }, with null for nothing`);
      this.#fail(call, this.#failureOf(call, error));
    }
  }

  /** Ends a call without its handler's answer; a handler that still runs is told. */
  #fail(call: Call, reason: RpcError): void {
    if (call.settled) return;
    this.#settle(call, reason);
    call.abort(reason);
  }

  #settle(call: Call, outcome: Fields | RpcError): void {
    if (this.#service.stopping && !this.#gone) this.#service.finishedCalls++;
    this.#answer(call, outcome);
  }

  /** Gives the final reply: the only place that does, and only once a call. */
  #answer(call: Call, outcome: Fields | RpcError): void {
    call.settled = true;
    if (outcome instanceof Error) call.code = outcome.code;
    this.#push(new Reply<Call>(call.request.seq, outcome, false, call));
    this.#noteAnswered(call);
    this.#forget(call);
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
    this.#service.deadlines.delete(call);
    if (call.request.seq !== undefined && this.#bySeq.size > 0) this.#bySeq.delete(call.request.seq);
    if (this.#queue.running === call) {
      this.#queue.running = undefined;
      this.#runQueue();
    }
    if (this.#service.draining && !this.#gone && this.idle) this.#startQuietTimer();
    this.#resume?.();
  }

  /** What a handler threw, as its caller may see it. */
  #failureOf(call: Call, error: unknown): RpcError {
    if (isForCaller(error)) return error;
    this.onError(call, error);
    return new RpcError("INTERNAL");
  }

  #openCalls(): Call[] {
    const { running } = this.#queue;
    return running ? [...this.#bySeq.values(), running] : [...this.#bySeq.values()];
  }

  // ---- requests without seq

  #runQueue(): void {
    for (let next; (next = this.#queue.next()) !== undefined;) {
      if (next instanceof Reply) {
        this.#push(next);
      } else {
        this.#held.delete(next.request);
        this.#begin(next.request, next.arrivedMs);
      }
    }
  }

  /** Gives a reply to a request that was not begun: without `seq`, after those that came before it. */
  #answerInTurn(reply: Reply<Call>): void {
    if (reply.seq === undefined && this.#queue.busy) this.#queue.push(reply);
    else this.#push(reply);
  }

  // ---- patience

  get #full(): boolean {
    const { maxInFlight } = this.#service.limits;
    return this.#outflow.full || this.#running + this.#queue.length >= maxInFlight || this.#held.mustWait;
  }

  async #untilRoom(): Promise<void> {
    while (this.#full && !this.#gone) {
      if (this.#outflow.full) await this.#outflow.drained(this.#service.limits.maxQueuedBytes * RESUME_SHARE);
      else if (this.#held.mustWait) await this.#held.untilOneEnds(this.clock, (resume) => this.#resume = resume);
      else await new Promise<void>((resolve) => this.#resume = resolve);
    }
  }

  /** Nothing comes any more: a stream that has no credit gets none. */
  #endInput(): void {
    this.#inputEnded = true;
    for (const call of this.#openCalls()) call.wake?.();
  }

  async #untilIdle(): Promise<void> {
    while (!this.idle && !this.#gone) await new Promise<void>((resolve) => this.#resume = resolve);
  }

  // ---- what goes out

  #push(reply: Reply<Call>): void {
    if (!this.#gone) this.#output?.enqueue(reply);
  }

  /** Notes that a call has got its final reply. All of one turn are counted together. */
  #noteAnswered(call: Call): void {
    this.#answered.push(call);
    if (this.#accepting || this.#answered.length > 1) return;
    queueMicrotask(() => this.#countAnswered());
  }

  #countAnswered(): void {
    if (this.#answered.length === 0) return;
    const nowMs = this.clock.now();
    for (const { entry, arrivedMs, code } of this.#answered) entry.counts.answered(nowMs - arrivedMs, code);
    this.#answered = [];
  }

  /** Sends what is ready, and ends the connection. */
  #end(reason: RpcError): void {
    if (this.#gone) return;
    this.#output?.terminate();
    this.cancel(reason);
  }

  #startQuietTimer(): void {
    this.#stopQuietTimer();
    this.#quietTimer = this.clock.setTimer(
      () => {
        this.#quietTimer = undefined;
        if (this.idle) this.#end(SHUTTING_DOWN);
      },
      DRAIN_QUIET_MS,
      false,
    );
  }

  #stopQuietTimer(): void {
    if (this.#quietTimer !== undefined) this.clock.clearTimer(this.#quietTimer);
    this.#quietTimer = undefined;
  }
}

function isFields(answer: unknown): answer is Fields {
  return typeof answer === "object" && answer !== null && (answer as Fields).res !== undefined;
}

function weightOf(batch: Decoded<Request | Control>[], from: number): number {
  let bytes = 0;
  for (let index = from; index < batch.length; index++) {
    const message = batch[index];
    if (message instanceof Request) bytes += message.weightBytes;
  }
  return bytes;
}

function ignore(): void {}
