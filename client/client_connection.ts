/**
 * One connection of a client: sends requests and receives replies.
 *
 * In: calls from the client's queue, limited by `maxInFlight`; replies from the server. Out: the outcome of each call;
 * at the end, the unanswered calls. While a write is in progress, no calls are taken from the queue, so calls in the
 * queue were certainly not sent.
 *
 * Refused, by closing the connection: invalid replies, and replies that match no request.
 */

import { DecodeStage } from "../codec/decode.ts";
import { EncodeStage, type Encoding } from "../codec/encode.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import {
  BadFrame,
  Cancel,
  Credit,
  type Decoded,
  type Fields,
  Going,
  InvalidMessage,
  type KnownControl,
  ReceivedReply,
  type ServerMessage,
  Settings,
  type Truncated,
  UnknownNotice,
} from "../codec/message.ts";
import { readReply } from "../codec/read_message.ts";
import type { Output } from "../codec/stage.ts";
import { writeControl, writeEncodedRequest } from "../codec/write_message.ts";
import type { Writer } from "../codec/writer.ts";
import { RpcError } from "../errors.ts";
import { resolveLimits } from "../limits.ts";
import { Connection, type Dispatch } from "../session/connection.ts";
import { badReply, receivedError } from "../session/received.ts";
import type { Swept } from "../session/sweeper.ts";
import { reasonOf } from "../transport/tls.ts";
import type { Transport } from "../transport/transport.ts";
import { type CallConnection, type CallQueue, ClientCall, type ClientCallOwner, unsendable } from "./client_call.ts";
import { type InOrderMemory, type Matching, MatchingBySeq, MatchingInOrder, type UnansweredCalls } from "./replies.ts";
import { SendSchedule } from "./send_schedule.ts";

/** How long a closing connection waits for its last write. */
const CLOSE_MS = 1_000;

/** How long a server may take to answer a cancel. It must answer at once, whatever its handler does. */
const SILENCE_MS = 10_000;

/** Less than this in {@linkcode SILENCE_MS} counts as silence: a frame that never ends is no sign of life. */
const PROGRESS_BYTES = 1_024;

/** What a client sends. */
type Outgoing = ClientCall | KnownControl;

/** The client, as its connection sees it. */
export interface ConnectionOwner extends ClientCallOwner {
  /** Calls that wait for a connection. */
  readonly queue: CallQueue;
  readonly memory: InOrderMemory;
  /** A call was sent, so the connection must be checked from now on. */
  onSent(): void;
  /** The server accepts no more calls on this connection. `refused`: a call that was certainly not started. */
  onRetired(connection: ClientConnection, reason: RpcError | undefined, refused: ClientCall | undefined): void;
  /** The connection has ended. `unanswered`: calls that were sent and not answered. */
  onEnded(connection: ClientConnection, error: RpcError, unanswered: ClientCall[]): void;
}

/** One connection of a client. */
export class ClientConnection implements CallConnection, Dispatch<ServerMessage, Outgoing>, Encoding<Outgoing>, Swept {
  /** Whether the server has answered on this connection. */
  answered = false;
  readonly #owner: ConnectionOwner;
  readonly #connection: Connection<ServerMessage, Outgoing>;
  readonly #calls: UnansweredCalls = new Map();
  readonly #matching: Matching;
  readonly #schedule: SendSchedule;
  #output: Output<Outgoing> | undefined;
  #nextId = 0;
  #controls: KnownControl[] = [];
  /** Calls that ended without their reply, with the value of `#heard` at that moment. */
  readonly #abandoned = new Map<ClientCall, number>();
  /** A `retired` connection accepts no more calls, and closes after its calls are answered. */
  #state: "open" | "retired" | "closing" | "closed" = "open";
  /** Whether this connection keeps the program alive. It does while a call is open. */
  #keepsAlive = true;

  /**
   * @param owner The client.
   * @param transport Carries the bytes; owned by this connection from now on.
   */
  constructor(owner: ConnectionOwner, transport: Transport) {
    const { clock, sequenced, maxInFlight, maxPayloadBytes } = owner.settings;
    this.#owner = owner;
    const limits = { ...resolveLimits({ maxPayloadBytes }), idleTimeoutMs: Infinity, maxQueuedBytes: Infinity };
    const traffic = { bytesReceived: 0, bytesSent: 0 };
    const options = { clock, limits, unnamedPeer: "the server", lingerMs: 0, traffic };
    this.#connection = new Connection<ServerMessage, Outgoing>(transport, options, ({ output }) => ({
      decode: new DecodeStage(readReply, limits),
      dispatch: this,
      encode: new EncodeStage<Outgoing>(this, output),
    }));
    this.#matching = sequenced
      ? new MatchingBySeq(this.#calls, this.peer, maxInFlight)
      : new MatchingInOrder(this.#calls, this.peer, { maxInFlight, memory: owner.memory, listener: this, clock });
    this.#schedule = new SendSchedule(clock, () => this.#send());
    void this.#connection.run();
    this.#keepAlive();
  }

  /** The server's name. */
  get peer(): string {
    return this.#connection.peer;
  }

  /** The number of unanswered calls. */
  get unanswered(): number {
    return this.#calls.size;
  }

  get idle(): boolean {
    return this.#calls.size === 0;
  }

  sweep(nowMs: number, isBehind: boolean): boolean {
    this.#connection.sweep(nowMs, isBehind);
    return !this.idle;
  }

  // ---- what calls ask

  abandon(call: ClientCall): void {
    if (!this.#calls.has(call.id)) return;
    if (this.#owner.settings.sequenced) this.#control(new Cancel(call.id));
    this.#awaitAnswer(call);
  }

  /** Waits for the server to answer, which frees the place of the call. A silent server counts as lost. */
  #awaitAnswer(call: ClientCall): void {
    const { settings: { clock }, deadlines } = this.#owner;
    this.#abandoned.set(call, this.#heard);
    call.deadlineMs = clock.now() + SILENCE_MS;
    deadlines.add(call);
  }

  /** Counts input, to detect silence. */
  get #heard(): number {
    const { receivedFrames, receivedBytes } = this.#connection;
    return receivedFrames + Math.floor(receivedBytes / PROGRESS_BYTES);
  }

  missAnswer(call: ClientCall): void {
    if (this.#abandoned.get(call) === this.#heard) {
      this.#lose(new RpcError("CONNECTION_LOST", `${this.peer} has been silent for ${SILENCE_MS} ms`));
    } else if (!this.#owner.settings.sequenced) {
      // Replies come in order: the server is busy with this call or an earlier one.
      this.#awaitAnswer(call);
    } else if (this.#calls.delete(call.id)) {
      this.#abandoned.delete(call);
      this.#keepAlive();
      this.wake();
    }
  }

  grant(call: ClientCall, items: number): void {
    if (this.#calls.has(call.id)) this.#control(new Credit(call.id, items));
  }

  // ---- what goes out

  start(output: Output<Outgoing>): void {
    this.#output = output;
  }

  writeMessage(writer: Writer, message: Outgoing): void {
    if (message instanceof ClientCall) writeEncodedRequest(writer, message);
    else writeControl(writer, message);
  }

  maxPayloadBytes(message: Outgoing): number {
    // Control messages are sent even if the limit is very low.
    return message instanceof ClientCall ? this.#owner.settings.maxPayloadBytes : Infinity;
  }

  /** A call could not be encoded. None of its bytes were sent, and its place is free. */
  onUnwritable(call: Outgoing, error: unknown): undefined {
    if (!(call instanceof ClientCall)) throw error;
    this.#calls.delete(call.id);
    call.end(unsendable(call.name, error));
    this.#keepAlive();
  }

  /** Schedules a write: calls or control messages are waiting. */
  wake(): void {
    this.#schedule.wake();
  }

  onDrained(): void {
    if (this.#controls.length > 0 || !this.#owner.queue.empty) this.#send();
  }

  #control(control: KnownControl): void {
    this.#controls.push(control);
    this.wake();
  }

  #send(): void {
    if (!this.#connection.isOpen || this.#connection.output.queuedBytes > 0) return; // `onDrained` calls again
    const { settings: { clock }, queue } = this.#owner;
    const nowMs = clock.now();
    this.#sendControls();
    while (this.#state === "open" && this.#calls.size < this.#matching.maxUnanswered) {
      const call = queue.shift();
      if (call === undefined) break;
      if (this.#nextId === 0) this.#sendSettings();
      call.send(this, this.#nextId++, nowMs);
      this.#calls.set(call.id, call);
      this.#output?.enqueue(call);
    }
    if (this.#connection.output.queuedBytes > 0) this.#schedule.used(nowMs);
    if (this.#calls.size > 0) this.#owner.onSent();
    this.#keepAlive();
  }

  #sendControls(): void {
    const controls = this.#controls;
    this.#controls = [];
    for (const control of controls) this.#output?.enqueue(control);
  }

  /** Sends the largest reply payload. Not without `seq`: such a server would answer control messages. */
  #sendSettings(): void {
    const { sequenced, maxPayloadBytes } = this.#owner.settings;
    if (sequenced && maxPayloadBytes !== MAX_SHORT_PAYLOAD_BYTES) {
      this.#output?.enqueue(new Settings({ max: maxPayloadBytes }));
    }
  }

  /** Only open calls and a pending `close()` keep the program alive, so a forgotten `close()` lets it exit. */
  #keepAlive(): void {
    const needed = this.#calls.size > 0 || this.#state === "closing";
    if (needed === this.#keepsAlive) return;
    this.#keepsAlive = needed;
    this.#connection.keepAlive(needed);
  }

  // ---- what comes in

  transform(batch: Decoded<ServerMessage>[]): void {
    this.#schedule.used(this.#owner.settings.clock.now());
    for (const message of batch) {
      if (!this.#connection.isOpen) return;
      if (message instanceof ReceivedReply) this.#takeReply(message);
      else if (!(message instanceof UnknownNotice || message instanceof Going)) this.#lose(this.#badMessage(message));
    }
    this.#keepAlive();
    if (this.#state === "retired" && this.#calls.size === 0) void this.#close();
    else if (!this.#owner.queue.empty) this.wake();
  }

  #takeReply(reply: ReceivedReply): void {
    const { received, deadlines } = this.#owner;
    let call: ClientCall | undefined;
    try {
      call = this.#matching.find(reply);
    } catch (error) {
      return this.#lose(error as RpcError);
    }
    if (call === undefined) return void received.lateReplies++;
    if (!reply.more) this.#calls.delete(call.id);
    if (call.isSettled) {
      received.lateReplies++;
      if (!reply.more && this.#abandoned.delete(call)) deadlines.delete(call);
    } else if (reply.more) {
      call.state = "streaming";
      call.takeItem(reply.fields.res, reply.weightBytes);
    } else {
      this.#settle(call, reply.fields);
    }
    if (this.answered) return;
    this.answered = true;
    if (this.#state === "open") this.#matching.onAnswered();
  }

  #settle(call: ClientCall, fields: Fields): void {
    const { err } = fields;
    const hasItems = call.state === "streaming";
    if (err === undefined) {
      call.settle("res" in fields ? fields : badReply("the reply has neither res nor err"));
    } else if (err === "SHUTTING_DOWN" && !hasItems) {
      this.#state = "retired";
      this.#owner.onRetired(this, receivedError(fields), call);
    } else if (err === "DEADLINE_EXCEEDED" && this.#owner.settings.clock.now() >= call.deadlineMs) {
      // The server's timeout was faster than the client's: report one event with one code.
      call.expire();
    } else {
      call.settle(receivedError(fields, call.losses > 0 || hasItems));
    }
  }

  /** The server accepts no more calls on this connection. */
  retire(): void {
    this.#state = "retired";
    this.#owner.onRetired(this, undefined, undefined);
  }

  // ---- the end

  /** Ends open calls with an error, cancels them at the server, and closes. Never rejects. */
  close(error: RpcError): Promise<void> {
    for (const call of this.#calls.values()) {
      if (call.isSettled) continue;
      call.end(error);
      if (this.#owner.settings.sequenced) this.#controls.push(new Cancel(call.id));
    }
    return this.#close();
  }

  /** Sends remaining output, then closes. */
  async #close(): Promise<void> {
    if (this.#state === "open" || this.#state === "retired") {
      this.#state = "closing";
      this.#keepAlive();
      this.#schedule.close();
      this.#sendControls();
      this.#output?.terminate();
      this.#connection.end();
    }
    const { clock } = this.#owner.settings;
    const closed = new RpcError("CLOSED", "the connection was closed");
    const timer = clock.setTimer(() => this.#lose(closed), CLOSE_MS, true);
    await this.#connection.ended;
    clock.clearTimer(timer);
    await this.#connection.received;
  }

  flush(): void {
    this.#lose(this.#lost("the server closed it"));
  }

  onSlowFrame(reason: string): void {
    this.#lose(this.#lost(reason));
  }

  onFailed(error: unknown): void {
    this.#lose(this.#lost("internal error", error));
  }

  #lose(error: RpcError): void {
    this.#connection.close(error);
  }

  /** The connection has ended. */
  cancel(reason: unknown): void {
    if (this.#state === "closed") return;
    const wasClosing = this.#state === "closing";
    this.#state = "closed";
    this.#schedule.close();
    this.#matching.close();
    const unanswered = [];
    for (const call of this.#calls.values()) {
      if (call.isSettled) this.#owner.deadlines.delete(call);
      else unanswered.push(call);
      call.connection = undefined;
    }
    this.#calls.clear();
    const closed = wasClosing && !(reason instanceof RpcError);
    const error = closed ? new RpcError("CLOSED", "the connection was closed") : this.#errorOf(reason);
    this.#owner.onEnded(this, error, unanswered);
  }

  #errorOf(reason: unknown): RpcError {
    return reason instanceof RpcError ? reason : this.#lost(reasonOf(reason, this.answered), reason);
  }

  #lost(reason: string, cause?: unknown): RpcError {
    return new RpcError("CONNECTION_LOST", `the connection to ${this.peer} is lost: ${reason}`, { cause });
  }

  #badMessage(message: InvalidMessage | BadFrame | Truncated): RpcError {
    if (message instanceof InvalidMessage) return badReply(`${this.peer} sent an invalid reply: ${message.reason}`);
    if (message instanceof BadFrame) return badReply(`${this.peer} sent an invalid frame: ${message.damage}`);
    return this.#lost(`it ended ${message.receivedBytes} bytes into a frame`);
  }
}
