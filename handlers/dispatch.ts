/**
 * Stage 2: requests to replies. In: batches of messages, as they were decoded. Out: batches of replies.
 *
 * A request with `seq` runs at once, beside all others. Those without run one after another, and are
 * answered in their order (PROTOCOL.md, "Order"). What a handler answers at once never leaves this turn of the event
 * loop; what it answers later is gathered, so that all that became ready together leaves together.
 *
 * Every request gets exactly one final reply, unless the connection ends first: see {@linkcode DispatchStage} `#settle`.
 *
 * Refused: what PROTOCOL.md says under "What goes wrong", each with its code. A broken frame is answered last, behind all that
 * came before it, and ends the connection.
 */

import type { Output } from "../codec/stage.ts";
import type { EncodeOptions } from "../codec/encode.ts";
import { PayloadTooLargeError } from "../codec/errors.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { BadFrame, type Control, type Decoded, InvalidMessage, Reply, Request, Truncated } from "../codec/message.ts";
import { writeReply } from "../codec/write_message.ts";
import type { Writer } from "../codec/writer.ts";
import { RpcError } from "../errors.ts";
import type { Timer } from "../transport/clock.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { OutputBuffer } from "../session/output_buffer.ts";
import { TURN_MS } from "../session/yield_budget.ts";
import type { Call } from "./call.ts";
import { Calls, type ReplyOutput } from "./calls.ts";
import { isCodeAlone, reduced, unwritable } from "./failures.ts";
import type { ServerState } from "./server_state.ts";
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

/**
 * So many handlers are begun before they go on: what each does then, such as to fail, takes up to 12 µs that the look at the
 * clock did not see.
 */
const BEGUN_A_LOOK = 256;

// Made once: to make an error takes 2 µs, and one read of a peer's can hold sixteen thousand requests to refuse.
const SHUTTING_DOWN = new RpcError("SHUTTING_DOWN");

/**
 * The dispatch stage of one connection: give it to a `TransformStream`, or compose it with others. It also says how its
 * replies are encoded: give it to the encode stage.
 */
export class DispatchStage
  implements Transformer<Decoded<Request | Control>[], Reply<Call>>, EncodeOptions<Reply<Call>>, ReplyOutput {
  readonly #server: ServerState;
  readonly #outflow: OutputBuffer;
  /** The largest payload that the peer takes: a short frame, until it has said otherwise. */
  #peerMaxBytes = MAX_SHORT_PAYLOAD_BYTES;
  /** The same, or this server's own limit where that is lower. */
  #maxReplyBytes: number;
  #output: Output<Reply<Call>> | undefined;
  readonly #calls: Calls;
  readonly #strikes: Strikes;
  #arrivedMs = 0;
  /** The connection is gone. */
  #gone = false;
  #resume: (() => void) | undefined;
  #quietTimer: Timer | undefined;

  constructor(server: ServerState, outflow: OutputBuffer, peer: string, certificate?: PeerCertificate) {
    this.#server = server;
    this.#outflow = outflow;
    this.#maxReplyBytes = Math.min(this.#peerMaxBytes, server.limits.maxPayloadBytes);
    this.#strikes = new Strikes(server.limits);
    this.#calls = new Calls(server, this, outflow, peer, certificate);
  }

  /** Whether the connection has ended: no more is taken, and nothing put out. */
  get gone(): boolean {
    return this.#gone;
  }

  /** Whether all that has come is answered. A handler may still run, that goes on behind its cancel or its deadline. */
  get idle(): boolean {
    return this.#calls.idle;
  }

  /** Who is at the other end. */
  get peer(): string {
    return this.#calls.peer;
  }

  start(output: Output<Reply<Call>>): void {
    this.#output = output;
  }

  transform(batch: Decoded<Request | Control>[]): void | Promise<void> {
    this.#arrivedMs = this.#server.clock.now();
    const next = this.#accept(batch, 0, this.#arrivedMs);
    if (next < batch.length) return this.#acceptLater(batch, next);
  }

  /** The peer sends no more: what it has sent is still answered. */
  async flush(): Promise<void> {
    this.#calls.endInput();
    await this.#untilIdle();
  }

  /** The connection is gone: nobody wants an answer. */
  cancel(reason: unknown): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#stopQuietTimer();
    const error = reason instanceof RpcError
      ? reason
      : new RpcError("CONNECTION_LOST", "the caller is gone", { cause: reason });
    this.#calls.abandonAll(error);
    this.#resume?.();
  }

  /** A shutdown has begun: what runs is answered, what comes is refused, and silence ends the connection. */
  drain(): void {
    if (this.idle && !this.#gone) this.#startQuietTimer();
  }

  /** The grace is over: whoever still waits is told so, and the connection ends. */
  cut(): void {
    const reason = new RpcError("CANCELLED", "the server has shut down");
    this.#calls.cutAll(reason);
    this.#end(reason);
  }

  // ---- what the encode stage asks

  writeMessage(writer: Writer, reply: Reply): void {
    writeReply(writer, reply);
  }

  maxPayloadBytes({ outcome, call }: Reply<Call>): number {
    if (call !== undefined && call.code === undefined) return this.#maxReplyBytes; // no failure, as most
    if (isCodeAlone(outcome as RpcError)) return Infinity;
    // What this server says of its own accord may be over its own limit, not over the peer's.
    return call === undefined ? this.#peerMaxBytes : this.#maxReplyBytes;
  }

  /** A reply could not be written: this is what its caller gets in its place. */
  onUnwritable(reply: Reply<Call>, error: unknown): Reply<Call> | undefined {
    const { call, outcome, seq } = reply;
    if (call === undefined) return new Reply(seq, reduced(outcome as RpcError), false);
    if (reply.more && call.settled) return undefined; // its final reply is on its way already
    // A caller that takes less than the server allows is told, and nobody else: that limit is its own.
    if (!(error instanceof PayloadTooLargeError && error.limitBytes < this.#server.limits.maxPayloadBytes)) {
      this.#calls.onError(call, error);
    }
    if (outcome instanceof Error) return new Reply(seq, reduced(outcome), false, call);
    const failure = unwritable(error);
    call.code = failure.code;
    if (reply.more) this.#calls.endByItem(call, failure);
    return new Reply(seq, failure, false, call);
  }

  onFrame(bytes: number): void {
    this.#outflow.add(bytes);
  }

  // ---- what comes in

  /** Takes messages until one has to wait, for room or because they take long; answers with the index of that one. */
  #accept(batch: Decoded<Request | Control>[], from: number, startMs: number): number {
    this.#calls.startCounting(this.#arrivedMs);
    const maxBegun = this.#calls.begun + BEGUN_A_LOOK;
    let index = from;
    for (; index < batch.length && !this.#gone; index++) {
      const taken = index - from;
      if (taken > 0 && taken % MESSAGES_A_LOOK === 0 && this.#server.clock.now() - startMs >= TURN_MS) break;
      const message = batch[index];
      if (message instanceof Request) {
        if (this.#full || this.#calls.begun >= maxBegun) break;
        this.#request(message);
      } else if (message instanceof InvalidMessage) {
        if (this.#full) break;
        this.#malformed(message);
      } else if (message instanceof BadFrame) {
        break;
      } else if (message instanceof Truncated) {
        this.#server.counts.truncatedStreams++;
      } else {
        this.#control(message);
      }
    }
    this.#calls.endCounting();
    return index;
  }

  /** Takes the rest of a batch as there is room for it, in turn with all others; meanwhile nothing is read. */
  async #acceptLater(batch: Decoded<Request | Control>[], from: number): Promise<void> {
    const server = this.#server;
    for (let next = from; next < batch.length && !this.#gone;) {
      const message = batch[next];
      if (message instanceof BadFrame) {
        this.#calls.endInput();
        await this.#untilIdle();
        return this.refuseFrame(message);
      }
      const unreadBytes = weightOf(batch, next);
      server.heldBytes += unreadBytes;
      await this.#untilRoom();
      while (server.yieldBudget.isExhausted) await server.yieldBudget.refilled();
      server.heldBytes -= unreadBytes;
      next = this.#accept(batch, next, this.#server.clock.now());
    }
  }

  #request(request: Request): void {
    const { seq } = request;
    if (seq !== undefined && this.#calls.bySeq.size > 0 && this.#calls.bySeq.has(seq)) {
      this.#malformed(new InvalidMessage("seq is in flight already"));
    } else if (this.#server.draining) {
      this.#startQuietTimer();
      this.#calls.answerInTurn(new Reply(seq, SHUTTING_DOWN, false));
    } else {
      this.#calls.take(request, this.#arrivedMs);
    }
  }

  #malformed(message: InvalidMessage): void {
    this.#server.counts.invalidMessages++;
    const seq = message.seq !== undefined && !this.#calls.bySeq.has(message.seq) ? message.seq : undefined;
    this.#calls.answerInTurn(new Reply(seq, new RpcError("INVALID_MESSAGE", message.reason), false));
    this.#strike();
  }

  #control(control: Control): void {
    if (control.kind === "unknown control") return;
    if (control.kind === "settings") {
      this.#peerMaxBytes = control.max;
      this.#maxReplyBytes = Math.min(control.max, this.#server.limits.maxPayloadBytes);
      return;
    }
    // An unknown or finished call is no error: its reply may have crossed this message.
    const call = this.#calls.bySeq.get(control.seq);
    if (call === undefined) return;
    if (control.kind === "cancel") {
      this.#calls.fail(call, new RpcError("CANCELLED"));
    } else if (call.request.credit !== undefined) {
      call.request.credit += control.items;
      call.wake();
    }
  }

  /** Answers a broken frame, or one that comes too slowly, and ends the connection. */
  refuseFrame(message: BadFrame): void {
    if (this.#gone) return;
    this.#server.counts.badFrames++;
    this.push(new Reply(undefined, new RpcError("BAD_FRAME", message.damage), false));
    this.#end(new RpcError("BAD_FRAME", message.damage));
  }

  /** Too many strikes in one window, and the connection ends. */
  #strike(): void {
    if (this.#strikes.isOneTooMany(this.#arrivedMs)) {
      this.#end(new RpcError("INVALID_MESSAGE", "too many bad messages"));
    }
  }

  // ---- patience

  get #full(): boolean {
    const { maxInFlight } = this.#server.limits;
    return this.#outflow.full || this.#calls.taken >= maxInFlight || this.#calls.held.mustWait;
  }

  async #untilRoom(): Promise<void> {
    while (this.#full && !this.#gone) {
      if (this.#outflow.full) await this.#outflow.drained(this.#server.limits.maxQueuedBytes * RESUME_SHARE);
      else if (this.#calls.held.mustWait) {
        await this.#calls.held.untilOneEnds(this.#server.clock, (resume) => this.#resume = resume);
      } else await new Promise<void>((resolve) => this.#resume = resolve);
    }
  }

  async #untilIdle(): Promise<void> {
    while (!this.idle && !this.#gone) await new Promise<void>((resolve) => this.#resume = resolve);
  }

  // ---- what goes out

  push(reply: Reply<Call>): void {
    if (!this.#gone) this.#output?.enqueue(reply);
  }

  onSettled(): void {
    if (this.#server.draining && !this.#gone && this.idle) this.#startQuietTimer();
    this.#resume?.();
  }

  onEnded(): void {
    this.#resume?.();
  }

  /** Sends what is ready, and ends the connection. */
  #end(reason: RpcError): void {
    if (this.#gone) return;
    this.#output?.terminate();
    this.cancel(reason);
  }

  #startQuietTimer(): void {
    this.#stopQuietTimer();
    this.#quietTimer = this.#server.clock.setTimer(
      () => {
        this.#quietTimer = undefined;
        if (this.idle) this.#end(SHUTTING_DOWN);
      },
      DRAIN_QUIET_MS,
      false,
    );
  }

  #stopQuietTimer(): void {
    if (this.#quietTimer !== undefined) this.#server.clock.clearTimer(this.#quietTimer);
    this.#quietTimer = undefined;
  }
}

function weightOf(batch: Decoded<Request | Control>[], from: number): number {
  let bytes = 0;
  for (let index = from; index < batch.length; index++) {
    const message = batch[index];
    if (message instanceof Request) bytes += message.weightBytes;
  }
  return bytes;
}
