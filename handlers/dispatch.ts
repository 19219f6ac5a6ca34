/**
 * Stage 2: requests to replies. In: batches of messages, as they were decoded. Out: batches of replies.
 *
 * A request with `seq` runs at once, beside all others. Those without run in a lane, one behind the other, and are
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
import { EncodeError, type Writer } from "../codec/writer.ts";
import { RpcError } from "../errors.ts";
import { SHORT_PAYLOAD_BYTES_END } from "../limits.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import { Fifo } from "../transport/fifo.ts";
import type { Outflow } from "../transport/outflow.ts";
import { isReceived } from "../transport/received.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import { TURN_MS } from "../transport/turn.ts";
import { Call, type CallOwner } from "./call.ts";
import type { ServerView } from "./command.ts";
import type { Service } from "./service.ts";
import { Slice } from "./slice.ts";

/**
 * A draining connection is closed when it has been silent this long: whoever calls within this time is refused by name,
 * and can call elsewhere. A request that crosses the close on its way is lost, and the longer its caller had been silent, the
 * less likely it is to send one just then.
 */
const DRAIN_QUIET_MS = 1_000;

/** An output that was full is filled again below this share of its limit: at the brim, replies go one by one. */
const RESUME_SHARE = 0.5;

/** How far a stream may run ahead of its reader: a handler that never pauses would else keep all others waiting. */
const STREAM_AHEAD_BYTES = 64 * 1024;

/** Codes with which a call ends at its caller: they say nothing about this server, so a handler cannot answer them. */
const CALLERS_OWN: ReadonlySet<string> = new Set(["CONNECTION_LOST", "TIMEOUT", "CLOSED", "BAD_REPLY"]);

// Made once: to make an error takes 2 µs, and one read of a peer's can hold sixteen thousand requests to refuse.
const CMD_NOT_FOUND = new RpcError("CMD_NOT_FOUND");
const OVERLOADED = new RpcError("OVERLOADED");
const SHUTTING_DOWN = new RpcError("SHUTTING_DOWN");

/** A request that waits in the lane. */
interface Waiting {
  readonly request: Request;
  readonly arrivedMs: number;
}

/**
 * The dispatch stage of one connection: give it to a `TransformStream`, or compose it with others. It also says how its
 * replies are encoded: give it to the encode stage.
 */
export class DispatchStage
  implements Transformer<Decoded<Request | Control>[], Reply[]>, EncodeOptions<Reply>, CallOwner {
  readonly peer: string;
  readonly certificate: PeerCertificate | undefined;

  readonly #service: Service;
  readonly #outflow: Outflow;
  /** The largest payload the peer takes: more than a short frame only when it has said so (contract section 1). */
  #maxReplyBytes: number;
  #output: Output<Reply[]> | undefined;
  #replies: Reply[] = [];
  readonly #slice = new Slice();
  #emitting = false;
  /** When replies were last put out: one look at the clock, for their durations and for the turn. */
  #emittedMs = 0;

  /** Calls with `seq` that have no final reply yet. */
  readonly #bySeq = new Map<number, Call>();
  /** Requests without `seq`, and replies to such, that wait for their turn: no more than `maxInFlight`. */
  readonly #lane = new Fifo<Waiting | Reply>();
  #laneCall: Call | undefined;

  /** Handlers that run. */
  #running = 0;
  #arrivedMs = 0;
  /** No more messages can come: what waits for one waits in vain. */
  #inputEnded = false;
  /** The connection is gone. */
  #gone = false;
  #resume: (() => void) | undefined;
  /** When the last strikes were: as many as are allowed in one window. */
  readonly #strikesMs: number[] = [];
  #quietTimer: Timer | undefined;

  constructor(service: Service, outflow: Outflow, peer: string, certificate?: PeerCertificate) {
    this.#service = service;
    this.#outflow = outflow;
    this.peer = peer;
    this.#maxReplyBytes = Math.min(SHORT_PAYLOAD_BYTES_END - 1, service.limits.maxPayloadBytes);
    this.certificate = certificate;
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
    return this.#bySeq.size === 0 && !this.#laneBusy;
  }

  start(output: Output<Reply[]>): void {
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
    this.#lane.takeAll();
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
    this.#service.finishedCalls -= calls.length; // what is settled here is not finished
    for (const waiting of this.#lane.takeAll()) {
      if (!(waiting instanceof Reply)) this.#service.cutCalls++;
      this.#lane.push(waiting instanceof Reply ? waiting : new Reply(undefined, reason, false));
    }
    for (const call of calls) this.#fail(call, reason);
    this.#end(reason);
  }

  // ---- what the encode stage asks

  writeMessage(writer: Writer, reply: Reply): void {
    writeReply(writer, reply);
  }

  /** What this server says of its own accord goes out, however low the limit is. */
  maxPayloadBytes(reply: Reply): number {
    return reply.call === undefined ? Infinity : this.#maxReplyBytes;
  }

  /** A reply could not be written: this is what its caller gets in its place. */
  onUnwritable(reply: Reply, error: unknown): Reply | undefined {
    const call = reply.call as Call | undefined;
    const failure = toFailure(error);
    // A peer that takes less than a short frame holds is told, and nobody else: it asked for that.
    const ownLimitBytes = Math.min(SHORT_PAYLOAD_BYTES_END - 1, this.#service.limits.maxPayloadBytes);
    if (!(error instanceof PayloadTooLargeError && error.limitBytes < ownLimitBytes)) {
      this.#service.report(error, { peer: this.peer, command: call?.command });
    }
    if (call && reply.more) {
      if (call.settled) return undefined; // its final reply is on its way already
      call.entry.counts.answered(this.clock.now() - call.arrivedMs, failure.code);
      this.#forget(call);
      call.abort(failure);
    } else {
      call?.entry.counts.failed(failure.code);
    }
    return new Reply(reply.seq, failure, false);
  }

  onChunk(bytes: number): void {
    this.#outflow.add(bytes);
  }

  onExpired(call: Call): void {
    this.#fail(call, new RpcError("DEADLINE_EXCEEDED"));
  }

  onError(call: Call, error: unknown): void {
    this.#service.report(error, { peer: this.peer, command: call.command });
  }

  // ---- what comes in

  /** Takes messages until one has to wait, for room or because they take long; answers with the index of that one. */
  #accept(batch: Decoded<Request | Control>[], from: number, startMs: number): number {
    this.#emitting = true; // one emission for all that is answered at once
    this.#beginSlice();
    let index = from;
    for (; index < batch.length && !this.#gone; index++) {
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
        if (message.max !== undefined) this.#beginSlice();
      }
      if (!this.#slice.isFull(this.#replies)) continue;
      this.#emit();
      if (this.#emittedMs - startMs >= TURN_MS) {
        index++;
        break;
      }
      this.#beginSlice();
    }
    this.#emitting = false; // what the emission sets off is another
    this.#emit();
    return index;
  }

  /** Takes the rest of a batch as there is room for it, in turn with all others; meanwhile nothing is read. */
  async #acceptLater(batch: Decoded<Request | Control>[], from: number): Promise<void> {
    const { turn } = this.#service;
    for (let next = from; next < batch.length && !this.#gone;) {
      const message = batch[next];
      if (message instanceof BadFrame) {
        this.#endInput();
        await this.#untilIdle();
        return this.#refuseFrame(message);
      }
      await this.#untilRoom();
      while (turn.isOver) await turn.next();
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
    } else if (seq === undefined && this.#laneBusy) {
      this.#lane.push({ request, arrivedMs: this.#arrivedMs });
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

  #refuseFrame(message: BadFrame): void {
    if (this.#gone) return;
    this.#service.counts.badFrames++;
    this.#push(new Reply(undefined, new RpcError("BAD_FRAME", message.damage), false));
    this.#end(new RpcError("BAD_FRAME", message.damage));
  }

  /** Too many strikes in one window, and the connection ends. */
  #strike(): void {
    const { maxStrikes, strikeWindowMs } = this.#service.limits;
    if (this.#strikesMs.push(this.#arrivedMs) <= maxStrikes) return;
    const oldestMs = this.#strikesMs.shift() as number;
    if (this.#arrivedMs - oldestMs <= strikeWindowMs) {
      this.#end(new RpcError("INVALID_MESSAGE", "too many bad messages"));
    }
  }

  // ---- calls

  /** Starts a request, unless it must be refused. */
  #begin(request: Request, arrivedMs: number): void {
    const service = this.#service;
    if (service.inFlight >= service.limits.maxInFlightTotal) {
      return this.#push(new Reply(request.seq, OVERLOADED, false));
    }
    const entry = service.registry.find(request.cmd);
    if (entry === undefined) {
      service.counts.unknownCommands++;
      return this.#push(new Reply(request.seq, CMD_NOT_FOUND, false));
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

  #deadlineOf(request: Request, arrivedMs: number, timeoutMs: number | undefined): number {
    const ownMs = timeoutMs ?? this.#service.limits.handlerTimeoutMs;
    if (ownMs === 0 && request.ttl === undefined) return Infinity;
    return Math.min(
      request.ttl === undefined ? Infinity : arrivedMs + request.ttl,
      ownMs === 0 ? Infinity : this.clock.now() + ownMs,
    );
  }

  /** Stays with a handler that takes its time. Never rejects. */
  async #follow(call: Call, pending: unknown): Promise<void> {
    const { seq } = call.request;
    this.#running++;
    this.#service.inFlight++;
    if (seq === undefined) this.#laneCall = call;
    else this.#bySeq.set(seq, call);
    this.#service.deadlines.add(call);
    try {
      const answer = await pending;
      if (isStream(answer)) await this.#stream(call, answer);
      else this.#succeed(call, answer);
    } catch (error) {
      if (call.settled) this.#dropError(call, error);
      else this.#fail(call, this.#failureOf(call, error));
    }
    // Only now: a handler that goes on after a cancel still takes up its place.
    this.#running--;
    this.#service.inFlight--;
    this.#resume?.();
  }

  /** Asks a handler for one item after the other, as long as the caller and the output take them, in turn with all others. */
  async #stream(call: Call, items: AsyncGenerator): Promise<void> {
    const { turn } = this.#service;
    while (!call.settled) {
      if (call.credit === 0) {
        if (this.#inputEnded) this.#fail(call, new RpcError("CANCELLED", "no more credit can come"));
        else await new Promise<void>((resolve) => call.wake = resolve);
        continue;
      }
      if (this.#outflow.queuedBytes >= STREAM_AHEAD_BYTES || this.#outflow.full) {
        await this.#outflow.drained(STREAM_AHEAD_BYTES);
        continue;
      }
      if (turn.isOver) {
        await turn.next();
        continue;
      }
      const { value, done } = await items.next();
      if (call.settled) break;
      if (done) return this.#succeed(call, { res: value ?? null });
      if (call.credit !== undefined) call.credit--;
      this.#push(new Reply(call.request.seq, { res: value ?? null }, true, call));
    }
    await items.return(undefined); // its `finally` runs
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

  /** Gives the final reply: the only place that does, and only once a call. */
  #settle(call: Call, outcome: Fields | RpcError): void {
    this.#push(new Reply(call.request.seq, outcome, false, call));
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
    if (this.#laneCall === call) {
      this.#laneCall = undefined;
      this.#runLane();
    }
    if (this.#service.stopping && !this.#gone) this.#service.finishedCalls++;
    if (this.#service.draining && !this.#gone && this.idle) this.#startQuietTimer();
    this.#resume?.();
  }

  /** What a handler threw, as its caller may see it. */
  #failureOf(call: Call, error: unknown): RpcError {
    if (holds(() => isForCaller(error))) return error as RpcError;
    this.onError(call, error);
    return new RpcError("INTERNAL");
  }

  /** What a handler threw when its caller had its answer already. That it stopped as told is no error. */
  #dropError(call: Call, error: unknown): void {
    const { aborted, reason } = call.signal;
    if (aborted && (error === reason || holds(() => isAbortOf(reason, error as Error)))) return;
    this.onError(call, error);
  }

  #openCalls(): Call[] {
    return this.#laneCall ? [...this.#bySeq.values(), this.#laneCall] : [...this.#bySeq.values()];
  }

  // ---- the lane

  get #laneWaits(): boolean {
    return this.#lane.length > 0;
  }

  get #laneBusy(): boolean {
    return this.#laneCall !== undefined || this.#laneWaits;
  }

  #runLane(): void {
    while (this.#laneCall === undefined && this.#laneWaits) {
      const next = this.#lane.shift() as Waiting | Reply;
      if (next instanceof Reply) this.#push(next);
      else this.#begin(next.request, next.arrivedMs);
    }
  }

  /** Gives a reply to a request that was not begun: without `seq`, behind those that came before it. */
  #answerInTurn(reply: Reply): void {
    if (reply.seq === undefined && this.#laneBusy) this.#lane.push(reply);
    else this.#push(reply);
  }

  // ---- patience

  get #full(): boolean {
    return this.#outflow.full ||
      this.#running + this.#lane.length >= this.#service.limits.maxInFlight;
  }

  #beginSlice(): void {
    this.#slice.begin(this.#outflow.roomBytes, this.#maxReplyBytes);
  }

  async #untilRoom(): Promise<void> {
    while (this.#full && !this.#gone) {
      if (this.#outflow.full) await this.#outflow.drained(this.#service.limits.maxQueuedBytes * RESUME_SHARE);
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

  #push(reply: Reply): void {
    this.#replies.push(reply);
    if (this.#emitting) return;
    this.#emitting = true;
    // All handlers that end in this turn leave in one write.
    queueMicrotask(() => {
      this.#emitting = false;
      this.#emit();
    });
  }

  #emit(): void {
    if (this.#replies.length === 0) return;
    const batch = this.#replies;
    this.#replies = [];
    if (this.#gone) {
      this.#service.counts.lateReplies += batch.length;
      for (const reply of batch) {
        if (!reply.more && reply.call) (reply.call as Call).entry.counts.inFlight--;
      }
      return;
    }
    this.#emittedMs = this.clock.now();
    for (const reply of batch) {
      const call = reply.call as Call | undefined;
      if (reply.more || call === undefined) continue;
      const code = reply.outcome instanceof RpcError ? reply.outcome.code : undefined;
      call.entry.counts.answered(this.#emittedMs - call.arrivedMs, code);
    }
    this.#output?.enqueue(batch);
  }

  /** Sends what is ready, and ends the connection. */
  #end(reason: RpcError): void {
    if (this.#gone) return;
    this.#emit();
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

/** What is said of something that anybody may have thrown: a getter or a proxy can make a mere look at it throw. */
function holds(said: () => boolean): boolean {
  try {
    return said();
  } catch {
    return false;
  }
}

/** Whether an error says that a signal ended something; where that was a call of another server, the reason is its cause. */
function isAbortOf(reason: unknown, { name, cause }: Error): boolean {
  return name === "AbortError" || cause === reason;
}

/** Whether it may be told as it is. That another server has not started a request says nothing of the one that it is for. */
function isForCaller(error: unknown): boolean {
  return error instanceof RpcError && !CALLERS_OWN.has(error.code) && !(error.retryable && isReceived(error));
}

function isFields(answer: unknown): answer is Fields {
  return typeof answer === "object" && answer !== null && (answer as Fields).res !== undefined;
}

function isStream(answer: unknown): answer is AsyncGenerator {
  return typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer && "next" in answer;
}

function toFailure(error: unknown): RpcError {
  if (error instanceof PayloadTooLargeError) return new RpcError("REPLY_TOO_LARGE", error.message);
  return new RpcError("REPLY_NOT_ENCODABLE", error instanceof EncodeError ? error.message : undefined);
}
