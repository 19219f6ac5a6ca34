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
  type Decoded,
  type Fields,
  Malformed,
  OutgoingControl,
  readReply,
  ReceivedReply,
  type Truncated,
} from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { resolveLimits, SHORT_PAYLOAD_BYTES_END } from "../limits.ts";
import type { Timer } from "./clock.ts";
import type { Duplex } from "./duplex.ts";
import { type Ends, endsOf } from "./ends.ts";
import { messageOf, reasonOf } from "./tls.ts";
import { Outbox, type Outgoing } from "./outbox.ts";
import type { CallOwner, CallQueue, PendingCall } from "./pending.ts";
import { bufferAfter, closeQuietly, FIRST_READ_BYTES } from "./tcp.ts";
import { markReceived } from "./received.ts";

/** How long the end of a connection waits for its last write. */
const LINGER_MS = 1_000;

/** How long a server may leave a cancelled call unanswered; it answers a cancel at once, whatever its handler does. */
const SILENCE_MS = 10_000;

/** How long after its first reply a server of the article's kind may take to close. */
const CLOSES_WITHIN_MS = 20;

/** Codes that a server uses without `seq` when the whole connection is meant. */
const ABOUT_THE_CONNECTION: ReadonlySet<unknown> = new Set(["BAD_FRAME", "INVALID_MESSAGE", "OVERLOADED"]);

/** What a connection needs of its client. */
export interface ChannelOwner extends CallOwner {
  /** Whether calls carry a `seq`. */
  readonly sequenced: boolean;
  /** Calls that may be unanswered at once. */
  readonly maxInFlight: number;
  /** The largest payload, either way. */
  readonly maxPayloadBytes: number;
  /** Calls that wait for a connection. */
  readonly queue: CallQueue;
  /** Whether the server closes a connection after one reply, as far as it is known. */
  servesOnce: boolean | undefined;
  /** Replies that nobody waited for. */
  lateReplies: number;
  /** The connection is of use: its server has answered. */
  onAnswered(): void;
  /** The server takes no more calls here. `refused` was certainly not started, if there is one. */
  onRetired(channel: Channel, reason: RpcError | undefined, refused: PendingCall | undefined): void;
  /** The connection has ended; the calls have been written and not answered. */
  onEnded(channel: Channel, error: RpcError, unanswered: PendingCall[]): void;
}

/** A connection, while it lasts. */
export class Channel {
  /** Who is at the other end. */
  readonly peer: string;
  /** Whether the server has answered here. */
  answered = false;

  readonly #owner: ChannelOwner;
  readonly #ends: Ends;
  readonly #outbox: Outbox;
  readonly #reading: Promise<void>;

  /** Calls that were written and not answered, oldest first; also those that have ended without their reply. */
  readonly #calls = new Map<number, PendingCall>();
  #nextId = 0;
  #controls: OutgoingControl[] = [];
  /** Goes before the first request: how large replies may be. */
  #greeting: OutgoingControl | undefined;
  /** Counts what comes, to know whether anything has. */
  #heard = 0;
  /** Runs while it shows whether the server closes after its reply. */
  #probe: Timer | undefined;
  /** Whether this connection keeps the program alive, which it does while a call is open. */
  #keepsAlive = true;
  #retired = false;
  #finishing: Promise<void> | undefined;
  #ended = false;

  /**
   * @param owner The client.
   * @param duplex The streams, which from now on are this connection's alone.
   */
  constructor(owner: ChannelOwner, duplex: Duplex) {
    const { sequenced, maxPayloadBytes } = owner;
    this.#owner = owner;
    this.peer = duplex.peer ?? "the server";
    this.#ends = endsOf(duplex);
    // A server that knows no seq knows no control messages and no long frames either: it would answer them.
    const untoldBytes = SHORT_PAYLOAD_BYTES_END - 1;
    if (sequenced && maxPayloadBytes !== untoldBytes) this.#greeting = new OutgoingControl({ max: maxPayloadBytes });
    this.#outbox = new Outbox(this.#ends, {
      takeBatch: () => this.#takeBatch(),
      maxPayloadBytes: sequenced ? maxPayloadBytes : Math.min(maxPayloadBytes, untoldBytes),
      onUnwritable: (call, error) => this.#refuse(call, error),
      onFailed: (error) => this.#lose(this.#lost("a write failed", error)),
    });
    this.#reading = this.#receive();
    this.#keepAlive();
  }

  /** There are calls in the queue. */
  wake(): void {
    this.#outbox.wake();
  }

  /**
   * A call that was written has ended without its reply: the server is told. Its place frees when the server answers,
   * which it does at once; one that is silent instead is given up.
   */
  abandon(call: PendingCall): void {
    if (!this.#owner.sequenced || !this.#calls.has(call.id)) return;
    this.#control({ seq: call.id, cancel: true });
    call.heardAtEnd = this.#heard;
    call.deadlineMs = this.#owner.clock.now() + SILENCE_MS;
    this.#owner.deadlines.add(call);
  }

  /** An abandoned call has still not been answered. */
  missAnswer(call: PendingCall): void {
    if (call.heardAtEnd === this.#heard) {
      this.#lose(new RpcError("CONNECTION_LOST", `${this.peer} has been silent for ${SILENCE_MS} ms`));
    } else if (this.#calls.delete(call.id)) {
      this.#keepAlive();
      this.wake();
    }
  }

  /** The consumer of a stream takes more items. */
  grant(call: PendingCall, items: number): void {
    if (this.#calls.has(call.id)) this.#control({ seq: call.id, credit: items });
  }

  /** Ends at once, but in order: whoever waits gets the error, and the server is told. Never rejects. */
  close(error: RpcError): Promise<void> {
    this.#retired = true;
    for (const call of this.#calls.values()) {
      if (call.settled) continue;
      call.end(error);
      if (this.#owner.sequenced) this.#control({ seq: call.id, cancel: true });
    }
    return this.#finish();
  }

  // ---- what goes out

  #control(fields: OutgoingControl["fields"]): void {
    this.#controls.push(new OutgoingControl(fields));
    this.wake();
  }

  #takeBatch(): Outgoing[] {
    if (this.#ended) return [];
    const { queue, sequenced } = this.#owner;
    const batch: Outgoing[] = this.#controls;
    this.#controls = [];
    while (this.#calls.size < this.#window) {
      const call = queue.shift();
      if (call === undefined) break;
      if (this.#greeting !== undefined) {
        batch.push(this.#greeting);
        this.#greeting = undefined;
      }
      call.channel = this;
      call.sent = true;
      call.id = this.#nextId++;
      call.seq = sequenced ? call.id : undefined;
      this.#calls.set(call.id, call);
      batch.push(call);
    }
    this.#keepAlive();
    return batch;
  }

  /** A program that has nothing left to do ends, although it forgot `close()`: only open calls, and a `close()` that is awaited, keep it alive. */
  #keepAlive(): void {
    const needed = this.#calls.size > 0 || this.#finishing !== undefined;
    if (needed === this.#keepsAlive) return;
    this.#keepsAlive = needed;
    if (needed) this.#ends.ref?.();
    else this.#ends.unref?.();
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
  #refuse(call: PendingCall, error: unknown): void {
    this.#calls.delete(call.id);
    this.#keepAlive();
    call.end(new RpcError("INVALID_PARAMS", messageOf(error), { cause: error }));
  }

  // ---- what comes in

  async #receive(): Promise<void> {
    const decode = new DecodeStage(readReply, resolveLimits({ maxPayloadBytes: this.#owner.maxPayloadBytes }));
    const output = { enqueue: (batch: Decoded<ReceivedReply>[]) => this.#takeReplies(batch), terminate: ignore };
    let buffer: Uint8Array = new Uint8Array(FIRST_READ_BYTES);
    try {
      while (true) {
        const readBytes = await this.#ends.read(buffer);
        if (readBytes === null) break;
        this.#heard++;
        decode.transform(buffer.subarray(0, readBytes), output);
        buffer = bufferAfter(buffer, readBytes);
      }
      decode.flush(output);
      this.#lose(this.#lost("the server closed it"));
    } catch (error) {
      this.#lose(this.#lost(reasonOf(error, this.answered), error));
    }
  }

  #takeReplies(batch: Decoded<ReceivedReply>[]): void {
    for (const message of batch) {
      if (this.#ended) return;
      if (message instanceof ReceivedReply) this.#takeReply(message);
      else this.#lose(this.#badMessage(message));
    }
    this.#keepAlive();
    if (this.#retired && this.#calls.size === 0) void this.#finish();
    else if (!this.#owner.queue.empty) this.wake();
  }

  #takeReply(reply: ReceivedReply): void {
    const { sequenced } = this.#owner;
    if (sequenced !== (reply.seq !== undefined)) return this.#lose(this.#unasked(reply.fields));
    const call = sequenced ? this.#calls.get(reply.seq as number) : this.#oldest();
    if (call === undefined) {
      if (!sequenced) return this.#lose(this.#unasked(reply.fields));
      this.#owner.lateReplies++;
      return;
    }
    if (!reply.more) this.#calls.delete(call.id);
    if (call.settled) {
      this.#owner.lateReplies++;
      if (!reply.more) this.#owner.deadlines.delete(call);
    } else if (reply.more) {
      call.hasItems = true;
      call.takeItem(reply.fields.res);
    } else {
      this.#settle(call, reply.fields);
    }
    if (!this.answered && !this.#retired) this.#firstAnswer();
  }

  #settle(call: PendingCall, fields: Fields): void {
    const { err } = fields;
    if (err === undefined) {
      call.settle("res" in fields ? fields : badReply("the reply has neither res nor err"));
    } else if (err === "SHUTTING_DOWN" && !call.hasItems) {
      this.#retired = true;
      call.channel = undefined;
      call.sent = call.lost;
      this.#owner.onRetired(this, toError(fields), call);
    } else if (err === "DEADLINE_EXCEEDED" && this.#owner.clock.now() >= call.deadlineMs) {
      // The server saw the end of the caller's time before the caller did: one event, one code.
      call.expire();
    } else {
      call.settle(toError(fields, call.lost || call.hasItems));
    }
  }

  #firstAnswer(): void {
    this.answered = true;
    const owner = this.#owner;
    owner.onAnswered();
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

  #oldest(): PendingCall | undefined {
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
    closeQuietly(this.#ends);
    const unanswered = [];
    for (const call of this.#calls.values()) {
      if (call.settled) deadlines.delete(call);
      else unanswered.push(call);
      call.channel = undefined;
    }
    this.#calls.clear();
    this.#owner.onEnded(this, error, unanswered);
  }

  #lost(reason: string, cause?: unknown): RpcError {
    return new RpcError("CONNECTION_LOST", `the connection to ${this.peer} is lost: ${reason}`, { cause });
  }

  #badMessage(message: Malformed | BadFrame | Truncated): RpcError {
    if (message instanceof Malformed) return badReply(`${this.peer} sent no reply: ${message.reason}`);
    if (message instanceof BadFrame) return badReply(`${this.peer} sent no frame: ${message.damage}`);
    return this.#lost(`it ended ${message.receivedBytes} bytes into a frame`);
  }

  /** What a reply means that belongs to no call. */
  #unasked(fields: Fields): RpcError {
    if (ABOUT_THE_CONNECTION.has(fields.err)) return toError(fields);
    if (!this.#owner.sequenced) return badReply(`${this.peer} sent a reply that was not asked for`);
    return badReply(`${this.peer} answers without seq; a server that knows none wants sequenced: false`);
  }
}

/** What the server says went wrong, and whether the call may have been started, though it says otherwise. */
function toError({ err, msg, data }: Fields, started = false): RpcError {
  if (typeof err !== "string") return badReply("err is not text");
  const options = { data, retryable: started ? false : undefined };
  return markReceived(new RpcError(err, typeof msg === "string" ? msg : undefined, options));
}

function badReply(text: string): RpcError {
  return new RpcError("BAD_REPLY", text);
}

function ignore(): void {}
