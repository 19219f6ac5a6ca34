/**
 * One connection of a client: sends requests and receives replies.
 *
 * In: calls that the client assigns to it, limited by `maxInFlight`; replies from the server. Out: the outcome of each
 * call; at the end, the unanswered calls. While a write is in progress it takes no calls, so calls in the client's
 * queue were certainly not sent.
 *
 * Refused, by closing the connection: invalid replies, and replies that match no request.
 */

import { DecodeStage } from "../codec/decode.ts";
import { EncodeStage } from "../codec/encode.ts";
import {
  Cancel,
  Credit,
  type Decoded,
  Going,
  type KnownControl,
  ReceivedReply,
  RequestCredit,
  type ServerMessage,
  UnknownNotice,
} from "../codec/message.ts";
import { readReply } from "../codec/read_message.ts";
import type { Output } from "../codec/stage.ts";
import { copyOf, RpcError } from "../errors.ts";
import { resolveLimits } from "../limits.ts";
import { CallTable } from "../session/collections.ts";
import { Connection, type Dispatch } from "../session/connection.ts";
import type { Swept } from "../session/deadlines.ts";
import { DirectPipeline } from "../session/pipeline.ts";
import type { TurnPace } from "../session/yield_budget.ts";
import { messageOf } from "../transport/runtime.ts";
import { reasonOf } from "../transport/tls.ts";
import type { Transport } from "../transport/transport.ts";
import {
  Answers,
  type AnswersOwner,
  type AnswersPlace,
  type InOrderMemory,
  lost,
  type Matching,
  MatchingBySeq,
  MatchingInOrder,
  type UnansweredCalls,
  unreadable,
} from "./replies.ts";
import type { CallConnection, ClientCall } from "./client_call.ts";
import { ItemOutput } from "./outgoing_items.ts";
import { KeepAlive } from "./keep_alive.ts";
import { type ClientOutput, Sender, type SenderHost, startItems } from "./sender.ts";

/** How long a closing connection waits for its last write. */
const CLOSE_MS = 1_000;

/** What connections of a client have in common. */
export const CLIENT_END = { Pipeline: DirectPipeline, unnamedPeer: "the server", lingerMs: 0 };

/** The part of the client that its connections use. */
export interface ConnectionOwner extends AnswersOwner {
  /** Calls or control messages may be sent. The client sends them at the end of this turn. */
  wake(): void;
  /** Whether calls wait for a connection. */
  readonly hasWaiting: boolean;
  /** The bytes that all connections of the client have received and sent. */
  readonly traffic: { bytesReceived: number; bytesSent: number };
  /** How much of what all connections receive is processed before the program gets its turn. */
  readonly pace: TurnPace;
  /** The connection has an open call, and must be checked from now on. */
  onBusy(): void;
  /** The connection has ended. `unanswered`: calls that were sent and not answered. */
  onEnded(connection: ClientConnection, error: RpcError, unanswered: ClientCall[]): void;
}

/** The part of a server that its connections use. */
export interface ConnectionPlace extends AnswersPlace {
  /** The server, as the user names it. */
  readonly address: string;
  readonly memory: InOrderMemory;
  /** The server wants no more calls on this connection. It still serves new calls for `ms` milliseconds. */
  onGoing(connection: ClientConnection, ms: number): void;
  /** The connection takes no more calls. `reason`: the error, if there was one. */
  onLeft(connection: ClientConnection, reason: RpcError | undefined): void;
}

/** One connection of a client. */
export class ClientConnection implements CallConnection, Dispatch<ServerMessage, ClientOutput>, SenderHost, Swept {
  readonly items: ItemOutput;
  readonly place: ConnectionPlace;
  readonly #owner: ConnectionOwner;
  readonly #connection: Connection<ServerMessage, ClientOutput>;
  readonly #calls: UnansweredCalls = new CallTable();
  readonly #matching: Matching;
  readonly #answers: Answers;
  readonly #sender: Sender;
  readonly #alive: KeepAlive;
  #nextId = 0;
  /**
   * A `new` connection takes no calls yet; a `going` one takes calls only if no other does; a `retired` one takes no
   * more, and closes after its calls are answered.
   */
  #state: "new" | "open" | "going" | "retired" | "closing" | "closed" = "new";
  /** Whether this connection keeps the program alive. It does while a caller waits for a reply. */
  #keepsAlive = true;

  /**
   * @param owner The client.
   * @param place The server.
   * @param transport Carries the bytes; owned by this connection from now on.
   */
  constructor(owner: ConnectionOwner, place: ConnectionPlace, transport: Transport) {
    const { clock, sequenced, maxInFlight, maxPayloadBytes } = owner.settings;
    this.#owner = owner;
    this.place = place;
    const limits = { ...resolveLimits({ maxPayloadBytes }), idleTimeoutMs: Infinity, maxQueuedBytes: Infinity };
    const options = { ...CLIENT_END, clock, limits, traffic: owner.traffic, pace: owner.pace };
    const sender = this.#sender = new Sender(owner.settings, this);
    this.#connection = new Connection<ServerMessage, ClientOutput>(transport, options, ({ output }) => ({
      decode: new DecodeStage(readReply, limits),
      dispatch: this,
      encode: new EncodeStage<ClientOutput>(sender, output),
    }));
    this.#matching = sequenced
      ? new MatchingBySeq(this.#calls, this.peer, maxInFlight)
      : new MatchingInOrder(this.#calls, this.peer, { maxInFlight, memory: place.memory, listener: this, clock });
    this.#alive = new KeepAlive(owner, this.#connection, sender, (error) => this.lose(error));
    this.#answers = new Answers(owner, this, this.#calls, this.#matching, this.#alive);
    this.items = new ItemOutput(this.#connection.output, (message) => sender.send(message));
    void this.#connection.run();
    this.#keepAlive();
  }

  /** Whether the server has answered a call on this connection. */
  get answered(): boolean {
    return this.#answers.answered;
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

  /** Takes calls from now on. Returns false if the connection has ended or retired. */
  open(): boolean {
    if (this.#state === "new") {
      this.#state = "open";
      this.#sender.greet();
    }
    return this.#state === "open";
  }

  /** Whether it takes calls, and the server does not want to end it. */
  get isOpen(): boolean {
    return this.#state === "open";
  }

  /** Whether the server wants no more calls here. */
  get isGoing(): boolean {
    return this.#state === "going";
  }

  /** Whether it takes one more call. */
  get hasRoom(): boolean {
    return (this.#state === "open" || this.#state === "going") && this.#calls.size < this.#matching.maxUnanswered;
  }

  sweep(nowMs: number, isBehind: boolean): boolean {
    this.#connection.sweep(nowMs, isBehind);
    this.#answers.strays = 0;
    if (this.idle) return false;
    if (this.#connection.isOpen) this.#alive.look(nowMs, isBehind);
    return true;
  }

  // ---- what calls ask

  abandon(call: ClientCall): void {
    if (!this.#calls.has(call.id)) return;
    if (this.#owner.settings.sequenced) this.#control(new Cancel(call.id));
    this.#alive.abandon(call);
    this.#keepAlive();
  }

  missAnswer(call: ClientCall): void {
    if (!this.#alive.missAnswer(call)) return;
    this.forget(call);
    this.#onAnswered();
  }

  grant(call: ClientCall, items: number): void {
    if (this.#calls.has(call.id)) this.#control(new Credit(call.id, items));
  }

  /** Frees the place of a call that will not be answered. */
  forget(call: ClientCall): void {
    this.#calls.delete(call.id);
    this.#keepAlive();
  }

  // ---- what goes out

  start(output: Output<ClientOutput>): void {
    this.#sender.output = output;
  }

  /** Calls or control messages may be sent. */
  wake(): void {
    this.#owner.wake();
  }

  onDrained(): void {
    this.#owner.wake();
  }

  /** At the end of a turn: sends the control messages that wait. Returns whether calls may be sent as well. */
  prepare(nowMs: number): boolean {
    if (!this.#connection.isOpen || this.#connection.output.queuedBytes > 0) return false; // `onDrained` wakes again
    if (this.#sender.isQuiet(nowMs)) return false; // wakes again
    this.#sender.sendControls();
    this.items.resume();
    return this.hasRoom;
  }

  /** Sends a call, at the end of a turn and after `prepare()`. */
  send(call: ClientCall, nowMs: number): void {
    const wasIdle = this.#calls.size === 0;
    call.send(this, this.#nextId++, nowMs);
    this.#calls.set(call);
    this.#sender.send(call);
    startItems(call, this.peer, this.place.address);
    this.#sender.used(nowMs);
    this.place.calls.sent++;
    if (!this.#keepsAlive) this.#keepAlive();
    if (!wasIdle) return;
    this.#alive.begin(nowMs);
    this.#owner.onBusy();
  }

  /**
   * Sends a PING and waits for its answer, before the first call: the server may be about to stop, or have no room for
   * this connection.
   *
   * @throws {RpcError} If the connection ends, or the server refuses.
   */
  prove(): Promise<void> {
    return this.#alive.prove();
  }

  #control(control: KnownControl): void {
    this.#sender.add(control);
    this.wake();
  }

  /**
   * Only open calls and a pending `close()` keep the program alive, so a forgotten `close()` lets it exit. A call that
   * has ended without its reply does not: a hung server would hold the program for 10 s.
   */
  #keepAlive(): void {
    const needed = this.#calls.size > this.#alive.abandoned || this.#state === "closing";
    if (needed === this.#keepsAlive) return;
    this.#keepsAlive = needed;
    this.#connection.keepAlive(needed);
  }

  // ---- what comes in

  transform(batch: Decoded<ServerMessage>[]): void {
    this.#sender.used(this.#owner.settings.clock.now());
    for (const message of batch) {
      if (!this.#connection.isOpen) return;
      if (message instanceof ReceivedReply) this.#answers.take(message);
      else if (message instanceof RequestCredit) this.#take(message);
      else if (message instanceof Going) this.#go(message.ms);
      else if (message instanceof UnknownNotice) this.#answers.addStray();
      else this.lose(unreadable(this.peer, message));
    }
    this.#keepAlive();
    this.#onAnswered();
  }

  #take({ seq, items }: RequestCredit): void {
    const call = this.#calls.get(seq);
    if (call === undefined) this.#answers.addStray();
    else call.items?.grant(items);
  }

  /** Places may be free. */
  #onAnswered(): void {
    if (this.#state === "retired" && this.idle) void this.#close();
    else if (this.#owner.hasWaiting) this.wake();
  }

  #go(ms: number): void {
    if (this.#state === "new") {
      this.#state = "retired";
      this.#alive.end(new RpcError("SHUTTING_DOWN", `${this.peer} is about to end`));
    } else if (this.#state === "open") {
      this.#state = "going";
      this.place.onGoing(this, ms);
    } else {
      this.#answers.addStray();
    }
  }

  /** Takes no more calls, and closes when all are answered. */
  retire(reason?: RpcError): void {
    if (this.#state === "closing" || this.#state === "closed") return;
    this.#state = "retired";
    this.place.onLeft(this, reason);
  }

  /** Like `retire()`, but closes at once if no call is unanswered. */
  leave(): void {
    this.retire();
    if (this.idle) void this.#close();
  }

  // ---- the end

  /** Ends open calls with an error, cancels them at the server, and closes. Never rejects. */
  close(error: RpcError): Promise<void> {
    for (const call of this.#calls.values()) {
      if (call.isSettled) continue;
      call.end(copyOf(error));
      if (this.#owner.settings.sequenced) this.#sender.add(new Cancel(call.id));
    }
    return this.#close();
  }

  /** Sends remaining output, then closes. */
  async #close(): Promise<void> {
    if (this.#state === "new") return this.lose(new RpcError("CLOSED", "the connection was closed"));
    if (this.#state !== "closing" && this.#state !== "closed") {
      this.#state = "closing";
      this.#keepAlive();
      this.#sender.close();
      this.#sender.sendControls();
      this.#sender.output?.terminate();
      this.#connection.end();
    }
    const { clock } = this.#owner.settings;
    const closed = new RpcError("CLOSED", "the connection was closed");
    const timer = clock.setTimer(() => this.lose(closed), CLOSE_MS, true);
    await this.#connection.ended;
    clock.clearTimer(timer);
    await this.#connection.received;
  }

  flush(): void {
    this.lose(lost(this.peer, "the server closed it"));
  }

  onSlowFrame(reason: string): void {
    this.lose(lost(this.peer, reason));
  }

  onFailed(error: unknown): void {
    this.lose(lost(this.peer, `internal error: ${messageOf(error)}`, error));
  }

  /** Ends the connection, because the server is gone or has broken the protocol. */
  lose(error: RpcError): void {
    this.#connection.close(error);
  }

  /** The connection has ended. */
  cancel(reason: unknown): void {
    if (this.#state === "closed") return;
    const wasClosing = this.#state === "closing";
    this.#state = "closed";
    this.#sender.close();
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
    this.#alive.end(error);
    this.#owner.onEnded(this, error, unanswered);
  }

  #errorOf(reason: unknown): RpcError {
    return reason instanceof RpcError ? reason : lost(this.peer, reasonOf(reason, this.answered), reason);
  }
}
