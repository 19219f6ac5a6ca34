/**
 * One connection of a client: requests out, replies in, and which reply belongs to which call.
 *
 * In: calls from the client's queue, as many as may be unanswered at once; bytes from the peer. Out: each call's
 * outcome, and at the end those calls that have none.
 *
 * Refused, by an end of the connection: whatever is no reply, and a reply that nobody can have asked for. A reply to a
 * call that has ended is none of those: it is dropped and counted.
 */

import { DecodeStage } from "../codec/decode.ts";
import {
  BadFrame,
  Cancel,
  Credit,
  type Decoded,
  type Fields,
  InvalidMessage,
  type KnownControl,
  ReceivedReply,
  type ServerMessage,
  Settings,
  type Truncated,
  UnknownNotice,
} from "../codec/message.ts";
import { readReply } from "../codec/read_message.ts";
import { meaningOf, RpcError } from "../errors.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { resolveLimits } from "../limits.ts";
import type { Timer } from "../transport/clock.ts";
import { reasonOf } from "../transport/tls.ts";
import { Outbox, type Outgoing } from "./outbox.ts";
import {
  type CallConnection,
  type CallQueue,
  type ClientCall,
  type ClientCallOwner,
  unsendable,
} from "./client_call.ts";
import { bufferAfter, closeTransport, FIRST_READ_BYTES, type Transport } from "../transport/transport.ts";
import { badReply, receivedError } from "../session/received.ts";

/** How long the end of a connection waits for its last write. */
const LINGER_MS = 1_000;

/** How long a server may leave a cancelled call unanswered; it answers a cancel at once, whatever its handler does. */
const SILENCE_MS = 10_000;

/** What comes at less than this in {@linkcode SILENCE_MS} is no sign of life: a frame that never ends is silence too. */
const PROGRESS_BYTES = 1_024;

/** Replies to no call that a connection may bring: answers to cancels that came too late to be waited for. */
const MAX_STRAY_REPLIES = 100_000;

/** How long nothing came and went before the connection's end is looked for. */
const QUIET_MS = 1_000;

/** How long after its first reply a server of the article's kind may take to close. */
const CLOSES_WITHIN_MS = 20;

/** What a connection needs of its client. */
export interface ConnectionOwner extends ClientCallOwner {
  /** Calls that may be unanswered at once. */
  readonly maxInFlight: number;
  /** Calls that wait for a connection. */
  readonly queue: CallQueue;
  /** Whether the server closes a connection after one reply, as far as it is known. */
  servesOnce: boolean | undefined;
  /** Replies that nobody waited for. */
  lateReplies: number;
  /** The server takes no more calls here. `refused` was certainly not started, if there is one. */
  onRetired(connection: ClientConnection, reason: RpcError | undefined, refused: ClientCall | undefined): void;
  /** The connection has ended; the calls have been written and not answered. */
  onEnded(connection: ClientConnection, error: RpcError, unanswered: ClientCall[]): void;
}

/** A connection, while it lasts. */
export class ClientConnection implements CallConnection {
  /** Who is at the other end. */
  readonly peer: string;
  /** Whether the server has answered here. */
  answered = false;

  readonly #owner: ConnectionOwner;
  readonly #transport: Transport;
  readonly #outbox: Outbox;
  readonly #reading: Promise<void>;

  /** Calls that were written and not answered, oldest first; also those that have ended without their reply. */
  readonly #calls = new Map<number, ClientCall>();
  #nextId = 0;
  #controls: KnownControl[] = [];
  /** Goes before the first request: how large replies may be. */
  #greeting: KnownControl | undefined;
  #strayReplies = 0;
  #receivedReplies = 0;
  #receivedBytes = 0;
  /** When something last came or went. */
  #lastUseMs: number;
  /** Runs while it shows whether the server closes after its reply. */
  #probe: Timer | undefined;
  /** Whether this connection keeps the program alive, which it does while a call is open. */
  #keepsAlive = true;
  #retired = false;
  #finishing: Promise<void> | undefined;
  #ended = false;

  /**
   * @param owner The client.
   * @param transport What carries its bytes; from now on, nobody else may use it.
   */
  constructor(owner: ConnectionOwner, transport: Transport) {
    const { sequenced, maxPayloadBytes } = owner;
    this.#owner = owner;
    this.#lastUseMs = owner.clock.now();
    this.peer = transport.peer ?? "the server";
    this.#transport = transport;
    // A server that knows no seq knows no control messages either: it would answer them.
    if (sequenced && maxPayloadBytes !== MAX_SHORT_PAYLOAD_BYTES) this.#greeting = new Settings(maxPayloadBytes);
    this.#outbox = new Outbox(this.#transport, {
      takeBatch: () => this.#takeBatch(),
      maxPayloadBytes,
      mayHaveEnded: () => owner.clock.now() - this.#lastUseMs >= QUIET_MS,
      onUnwritable: (call, error) => this.#refuse(call, error),
      onFailed: (error) => this.#lose(this.#lost("a write failed", error)),
    });
    this.#reading = this.#receive();
    this.#keepAlive();
  }

  /** Calls that were written and not answered. */
  get unanswered(): number {
    return this.#calls.size;
  }

  /** There are calls in the queue. */
  wake(): void {
    this.#outbox.wake();
  }

  /**
   * A call that was written has ended without its reply: the server is told. Its place frees when the server answers,
   * which it does at once; one that is silent instead is given up.
   */
  abandon(call: ClientCall): void {
    if (!this.#calls.has(call.id)) return;
    if (this.#owner.sequenced) this.#control(new Cancel(call.id));
    this.#awaitAnswer(call);
  }

  #awaitAnswer(call: ClientCall): void {
    call.heardAtEnd = this.#heard;
    call.deadlineMs = this.#owner.clock.now() + SILENCE_MS;
    this.#owner.deadlines.add(call);
  }

  /** Counts what comes, to know whether anything has. */
  get #heard(): number {
    return this.#receivedReplies + Math.floor(this.#receivedBytes / PROGRESS_BYTES);
  }

  /** An abandoned call has still not been answered. */
  missAnswer(call: ClientCall): void {
    if (call.heardAtEnd === this.#heard) {
      this.#lose(new RpcError("CONNECTION_LOST", `${this.peer} has been silent for ${SILENCE_MS} ms`));
    } else if (!this.#owner.sequenced) {
      // Replies come in order: the server is busy with it, or with one before it.
      this.#awaitAnswer(call);
    } else if (this.#calls.delete(call.id)) {
      this.#keepAlive();
      this.wake();
    }
  }

  /** The consumer of a stream takes more items. */
  grant(call: ClientCall, items: number): void {
    if (this.#calls.has(call.id)) this.#control(new Credit(call.id, items));
  }

  /** Ends at once, but in order: whoever waits gets the error, and the server is told. Never rejects. */
  close(error: RpcError): Promise<void> {
    this.#retired = true;
    for (const call of this.#calls.values()) {
      if (call.settled) continue;
      call.end(error);
      if (this.#owner.sequenced) this.#control(new Cancel(call.id));
    }
    return this.#finish();
  }

  // ---- what goes out

  #control(control: KnownControl): void {
    this.#controls.push(control);
    this.wake();
  }

  #takeBatch(): Outgoing[] {
    if (this.#ended) return [];
    const { queue } = this.#owner;
    const batch: Outgoing[] = this.#controls;
    this.#controls = [];
    const nowMs = this.#owner.clock.now();
    while (this.unanswered < this.#window) {
      const call = queue.shift();
      if (call === undefined) break;
      if (this.#greeting !== undefined) {
        batch.push(this.#greeting);
        this.#greeting = undefined;
      }
      call.send(this, this.#nextId++, nowMs);
      this.#calls.set(call.id, call);
      batch.push(call);
    }
    if (batch.length > 0) this.#lastUseMs = nowMs;
    this.#keepAlive();
    return batch;
  }

  /** A program that has nothing left to do ends, although it forgot `close()`: only open calls, and a `close()` that is awaited, keep it alive. */
  #keepAlive(): void {
    const needed = this.#calls.size > 0 || this.#finishing !== undefined;
    if (needed === this.#keepsAlive) return;
    this.#keepsAlive = needed;
    if (needed) this.#transport.ref?.();
    else this.#transport.unref?.();
  }

  /** How many calls may be unanswered now. */
  get #window(): number {
    if (this.#retired) return 0;
    const { sequenced, servesOnce, maxInFlight } = this.#owner;
    if (sequenced || servesOnce === false) return maxInFlight;
    // What follows the first call of a connection is lost where the server closes after its reply: wait and see.
    return this.answered ? 0 : 1;
  }

  /** A call cannot be written: it has left no byte, and gives back its place. */
  #refuse(call: ClientCall, error: unknown): void {
    this.#calls.delete(call.id);
    call.end(unsendable(call.name, error));
    this.#keepAlive();
  }

  // ---- what comes in

  async #receive(): Promise<void> {
    const decode = new DecodeStage(readReply, resolveLimits({ maxPayloadBytes: this.#owner.maxPayloadBytes }));
    const output = { enqueue: (batch: Decoded<ServerMessage>[]) => this.#takeReplies(batch), terminate: ignore };
    let buffer: Uint8Array = new Uint8Array(FIRST_READ_BYTES);
    try {
      while (true) {
        const readBytes = await this.#transport.read(buffer);
        if (readBytes === null) break;
        this.#receivedBytes += readBytes;
        this.#lastUseMs = this.#owner.clock.now();
        decode.transform(buffer.subarray(0, readBytes), output);
        buffer = bufferAfter(buffer, readBytes);
      }
      decode.flush(output);
      this.#lose(this.#lost("the server closed it"));
    } catch (error) {
      this.#lose(this.#lost(reasonOf(error, this.answered), error));
    }
  }

  #takeReplies(batch: Decoded<ServerMessage>[]): void {
    this.#receivedReplies += batch.length;
    for (const message of batch) {
      if (this.#ended) return;
      if (message instanceof ReceivedReply) this.#takeReply(message);
      else if (!(message instanceof UnknownNotice)) this.#lose(this.#badMessage(message));
    }
    this.#keepAlive();
    if (this.#retired && this.#calls.size === 0) void this.#finish();
    else if (!this.#owner.queue.empty) this.wake();
  }

  #takeReply(reply: ReceivedReply): void {
    const { sequenced } = this.#owner;
    if (sequenced !== (reply.seq !== undefined)) return this.#lose(this.#unasked(reply));
    const call = sequenced ? this.#calls.get(reply.seq as number) : this.#oldest();
    if (call === undefined) {
      if (!sequenced || ++this.#strayReplies > MAX_STRAY_REPLIES) return this.#lose(this.#unasked(reply));
      this.#owner.lateReplies++;
      return;
    }
    if (!reply.more) this.#calls.delete(call.id);
    if (call.settled) {
      this.#owner.lateReplies++;
      if (!reply.more) this.#owner.deadlines.delete(call);
    } else if (reply.more) {
      call.hasItems = true;
      call.takeItem(reply.fields.res, reply.weightBytes);
    } else {
      this.#settle(call, reply.fields);
    }
    if (!this.answered && !this.#retired) this.#firstAnswer();
  }

  #settle(call: ClientCall, fields: Fields): void {
    const { err } = fields;
    if (err === undefined) {
      call.settle("res" in fields ? fields : badReply("the reply has neither res nor err"));
    } else if (err === "SHUTTING_DOWN" && !call.hasItems) {
      this.#retired = true;
      this.#owner.onRetired(this, receivedError(fields), call);
    } else if (err === "DEADLINE_EXCEEDED" && this.#owner.clock.now() >= call.deadlineMs) {
      // The server saw the end of the caller's time before the caller did: one event, one code.
      call.expire();
    } else {
      call.settle(receivedError(fields, call.losses > 0 || call.hasItems));
    }
  }

  #firstAnswer(): void {
    this.answered = true;
    const owner = this.#owner;
    if (owner.sequenced || owner.servesOnce === false) return;
    if (owner.servesOnce) {
      this.#retired = true;
      owner.onRetired(this, undefined, undefined);
      return;
    }
    this.#probe = owner.clock.setTimer(
      () => {
        this.#probe = undefined;
        owner.servesOnce = false;
        this.wake();
      },
      CLOSES_WITHIN_MS,
      true,
    );
  }

  #oldest(): ClientCall | undefined {
    return this.#calls.values().next().value;
  }

  // ---- the end

  /** Sends what is left to send, and ends. */
  #finish(): Promise<void> {
    this.#finishing ??= this.#sendAndEnd();
    // Whoever waits for the end is not done.
    this.#keepAlive();
    return this.#finishing;
  }

  async #sendAndEnd(): Promise<void> {
    const { clock } = this.#owner;
    const { promise: lingered, resolve } = Promise.withResolvers<void>();
    const timer = clock.setTimer(resolve, LINGER_MS, true);
    await this.#outbox.end(lingered);
    clock.clearTimer(timer);
    this.#lose(new RpcError("CLOSED", "the connection was closed"));
    await this.#reading;
  }

  #lose(error: RpcError): void {
    if (this.#ended) return;
    this.#ended = true;
    const { clock, deadlines } = this.#owner;
    if (this.#probe !== undefined) {
      clock.clearTimer(this.#probe);
      this.#owner.servesOnce = true;
    }
    this.#outbox.close();
    closeTransport(this.#transport);
    const unanswered = [];
    for (const call of this.#calls.values()) {
      if (call.settled) deadlines.delete(call);
      else unanswered.push(call);
      call.connection = undefined;
    }
    this.#calls.clear();
    this.#owner.onEnded(this, error, unanswered);
  }

  #lost(reason: string, cause?: unknown): RpcError {
    return new RpcError("CONNECTION_LOST", `the connection to ${this.peer} is lost: ${reason}`, { cause });
  }

  #badMessage(message: InvalidMessage | BadFrame | Truncated): RpcError {
    if (message instanceof InvalidMessage) return badReply(`${this.peer} sent no reply: ${message.reason}`);
    if (message instanceof BadFrame) return badReply(`${this.peer} sent no frame: ${message.damage}`);
    return this.#lost(`it ended ${message.receivedBytes} bytes into a frame`);
  }

  /** What a reply means that belongs to no call. */
  #unasked({ seq, fields }: ReceivedReply): RpcError {
    if (meaningOf(fields.err)?.unasked === true) return receivedError(fields);
    if (seq !== undefined || !this.#owner.sequenced) {
      return badReply(`${this.peer} sent a reply that was not asked for`);
    }
    return badReply(`${this.peer} answers without seq; a server that knows none wants sequenced: false`);
  }
}

function ignore(): void {}
