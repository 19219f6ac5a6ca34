/**
 * One connection of a client in a browser: requests out, replies in.
 *
 * In: calls, and the bytes of a transport. Out: outcomes of calls; notices of the server; the error that ended the
 * connection. Refused, by closing it: frames and messages that break the protocol.
 */

import { decodeCompact, encodeCompact, frameAt, framed, joined } from "../codec/compact.ts";
import { DecodeError } from "../codec/errors.ts";
import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { messageOf } from "../transport/runtime.ts";
import type { Timer } from "../transport/clock.ts";
import type { WebTransport } from "../transport/browser_web_socket.ts";
import { badReply, type CallConnection, type ClientCall, PING_SEQ, receivedError } from "./client_call.ts";
import { extended, itemMessage } from "./compact_calls.ts";
import { AHEAD_BYTES, endLater, ItemOutput, unsendable } from "./outgoing_items.ts";
import type { AnswersOwner } from "./replies.ts";

/** The number of the command. The `seq` of the client's own PINGs counts down from `PING_SEQ`. */
const PING = 1;

/**
 * How long a server may take to answer a cancel, and to answer at all if the network may have changed; and how long a
 * closing connection may take to send its output.
 */
const ANSWER_MS = 10_000;
const CHECK_MS = 3_000;
const CLOSE_MS = 1_000;

/** So much input at once shows that a server is alive; fewer bytes, of a message that never ends, do not. */
const PROGRESS_BYTES = 1_024;

/** The part of the client that its connections use. */
export interface WebConnectionOwner extends AnswersOwner {
  /** The server wants to end the connection in `ms` milliseconds, so the connection takes no more calls. */
  onGoing(connection: WebConnection, ms: number): void;
  /** The connection takes no more calls. */
  onLeft(connection: WebConnection, reason: RpcError): void;
  /** The connection has ended. */
  onEnded(connection: WebConnection, error: RpcError, unanswered: readonly ClientCall[]): void;
  /** More calls may be sent. */
  wake(): void;
}

/** The part of a connection that its output uses. */
interface OutputHost {
  /** All output is written. */
  wake(): void;
  /** Nothing more can be written. */
  lose(reason: unknown): void;
}

/** The output, in frames. */
class FrameOutput {
  /** The output for the callers' streams. */
  readonly items: ItemOutput;
  queuedBytes = 0;
  /** Resolves when all output is written. */
  flushing: Promise<void> | undefined;
  readonly #transport: WebTransport;
  readonly #host: OutputHost;
  #frames: Uint8Array[] = [];

  constructor(transport: WebTransport, maxPayloadBytes: number, host: OutputHost) {
    this.#transport = transport;
    this.#host = host;
    this.items = new ItemOutput(this, (message) => this.write(itemMessage(message, maxPayloadBytes)));
    this.items.resume();
  }

  write(payload: Uint8Array): void {
    const frame = framed(payload);
    this.#frames.push(frame);
    this.queuedBytes += frame.length;
    this.flushing ??= this.#flush();
  }

  /** All messages of a turn leave in one write. */
  async #flush(): Promise<void> {
    try {
      await undefined;
      while (this.#frames.length > 0) {
        let rest = joined(this.#frames);
        this.#frames = [];
        while (rest.length > 0) {
          const bytes = await this.#transport.write(rest);
          if (!(bytes > 0)) throw new Error(`write(): ${bytes}`);
          rest = rest.subarray(bytes);
          this.queuedBytes -= bytes;
        }
      }
      this.flushing = undefined;
      this.#host.wake(); // calls go before items
      this.items.resume();
    } catch (error) {
      this.#host.lose(error);
    }
  }
}

/** One connection. */
export class WebConnection implements CallConnection {
  readonly output: FrameOutput;
  /** Whether the server has answered a call. */
  answered = false;
  readonly #owner: WebConnectionOwner;
  readonly #transport: WebTransport;
  /** Unanswered calls by `seq`, including calls that ended without their reply. */
  readonly #calls = new Map<number, ClientCall>();
  #nextId = 0;
  #state: "open" | "retired" | "closed" = "open";
  /**
   * The next check whether the server is alive, while calls are open; and the number of checks since the last input.
   */
  #beat: Timer | undefined;
  #silentBeats = 0;
  /** When the last message, or a large part of one, was received. */
  #heardMs = 0;

  /** @param peer The server, as the user names it. */
  constructor(owner: WebConnectionOwner, transport: WebTransport, readonly peer: string) {
    this.#owner = owner;
    this.#transport = transport;
    const { maxPayloadBytes, aliveMs } = owner.settings;
    this.output = new FrameOutput(transport, maxPayloadBytes, this);
    this.#control({ max: maxPayloadBytes, alive: aliveMs || undefined, notice: true });
    void this.#read();
  }

  get items(): ItemOutput {
    return this.output.items;
  }

  get unanswered(): number {
    return this.#calls.size;
  }

  /** Whether a call may be sent. Only little output may be queued, so that a cancel gets through. */
  get hasRoom(): boolean {
    return this.#state === "open" && this.#calls.size < this.#owner.settings.maxInFlight &&
      this.output.queuedBytes < AHEAD_BYTES;
  }

  /**
   * While calls are open, the client sends PING four times in the time that it has promised. If the server is silent
   * for two of these, the connection is lost. One is not enough, because a check is late in a page that was asleep.
   *
   * An answer to a PING sets the next check anew (-1): in a hidden page, Chrome delays a chain of timers, each set
   * by the one before, by up to a minute.
   */
  #look(silentBeats = this.#silentBeats, periodMs = this.#owner.settings.aliveMs / 4): void {
    const { clock } = this.#owner.settings;
    if (this.#beat !== undefined) clock.clearTimer(this.#beat);
    this.#beat = undefined;
    if (this.#calls.size === 0 || periodMs === 0) return;
    this.#silentBeats = silentBeats + 1;
    if (silentBeats > 1) return this.lose(new Error("it does not answer"));
    if (this.#silentBeats > 0) this.output.write(encodeCompact({ cmd: PING, seq: PING_SEQ - this.#nextId++ }));
    this.#beat = clock.setTimer(() => this.#look(), periodMs, false);
  }

  /** The network may have changed, so the server must answer soon. */
  check(): void {
    this.#look(1, CHECK_MS);
  }

  // ---- out

  send(call: ClientCall, nowMs: number): void {
    call.send(this, this.#nextId++, nowMs);
    try {
      this.output.write(extended(call.given, { seq: call.id, ttl: call.ttl }, this.#owner.settings.maxPayloadBytes));
    } catch (error) {
      return call.giveUp(unsendable(call.name, error)); // too large with `seq`, `ttl` or the id to go on after
    }
    this.#calls.set(call.id, call);
    call.items?.start();
    if (this.#beat === undefined) this.#look(-1); // the request is the first sign of life
  }

  grant({ id }: ClientCall, items: number): void {
    if (this.#calls.has(id)) this.#control({ seq: id, credit: items });
  }

  abandon(call: ClientCall): void {
    if (!this.#calls.has(call.id)) return;
    this.#control({ seq: call.id, cancel: true });
    call.deadlineMs = this.#owner.settings.clock.now() + ANSWER_MS;
    this.#owner.deadlines.add(call);
  }

  missAnswer(call: ClientCall): void {
    if (this.#heardMs < call.deadlineMs - ANSWER_MS) return this.lose(new Error("it does not answer"));
    this.#calls.delete(call.id);
    this.wake();
  }

  #control(fields: Fields): void {
    this.output.write(encodeCompact({ cmd: 0, ...fields }));
  }

  // ---- in

  async #read(): Promise<void> {
    const { maxPayloadBytes, clock } = this.#owner.settings;
    let buffer = new Uint8Array(4_096);
    let end = 0;
    try {
      while (!this.#isClosed) {
        if (end === buffer.length) buffer = joined([buffer, buffer]);
        const bytes = await this.#transport.read(buffer.subarray(end)) as number; // or null at the end
        if (!(bytes > 0)) return this.lose(new Error("the server closed it"));
        end += bytes;
        if (this.#silentBeats > 0) this.#look(-1);
        let start = 0;
        for (;;) {
          const payload = frameAt(buffer.subarray(start, end), maxPayloadBytes);
          if (!payload || this.#isClosed) break;
          start = payload.byteOffset + payload.length + 1;
          this.#take(payload);
        }
        if (start > 0 || bytes >= PROGRESS_BYTES) this.#heardMs = clock.now();
        buffer.copyWithin(0, start, end);
        end -= start;
        this.wake();
      }
    } catch (error) {
      this.lose(error);
    }
  }

  #take(payload: Uint8Array): void {
    const message = decodeCompact(payload);
    if (Object(message) !== message || Array.isArray(message)) {
      throw new DecodeError("not a map");
    }
    const { seq, more, ...fields } = message as Fields;
    const { res, err, going, credit } = fields;
    const isItem = more === true && err === undefined;
    if (res === undefined && err === undefined && Object.keys(fields).length > 0) { // a notice, which may be unknown
      if (Number.isSafeInteger(credit) && (credit as number) > 0) {
        this.#calls.get(seq as number)?.items?.grant(credit as number);
      } else if (seq === undefined && typeof going === "number") this.#owner.onGoing(this, going);
      return;
    }
    if (typeof seq !== "number") {
      throw err === undefined ? badReply("a reply without seq") : receivedError(fields);
    }
    const call = this.#calls.get(seq);
    if (seq > PING_SEQ / 2) return;
    if (!isItem) this.#calls.delete(seq);
    if (!call || call.isSettled) {
      this.#owner.counts.lateReplies++;
      if (call && !isItem) this.#owner.deadlines.delete(call);
    } else if (isItem) {
      call.state = "streaming";
      call.takeItem(fields, payload.length);
    } else {
      this.#settle(call, fields);
    }
    this.answered = true;
  }

  #settle(call: ClientCall, fields: Fields): void {
    const { err } = fields;
    if (err === undefined) return call.settle(fields.res === undefined ? badReply("a reply without res") : fields);
    const error = receivedError(fields, call.isStreaming);
    if ((err === "SHUTTING_DOWN" || err === "OVERLOADED") && call.state !== "streaming") {
      this.#owner.onRefused(call, error);
      if (err === "SHUTTING_DOWN") this.retire(error);
    } else if (err === "DEADLINE_EXCEEDED" && call.isLate) {
      call.expire(); // the server's timeout was faster: one event has one code
    } else {
      this.#owner.onFailed(call, error);
    }
  }

  // ---- the end

  get #isClosed(): boolean {
    return this.#state === "closed";
  }

  /** Takes no more calls, and closes when the last one is answered. */
  retire(reason?: RpcError): void {
    if (this.#state !== "open") return;
    this.#state = "retired";
    if (reason) this.#owner.onLeft(this, reason);
  }

  /** Ends the open calls for a reason, cancels them at the server, and closes. Without open calls, none is needed. */
  async close(reason?: RpcError): Promise<void> {
    if (this.#isClosed) return;
    for (const call of this.#calls.values()) {
      if (call.isSettled) continue;
      call.end(reason as RpcError);
      this.abandon(call);
    }
    const { clock } = this.#owner.settings;
    const timer = clock.setTimer(() => this.lose(reason), CLOSE_MS, true);
    await this.output.flushing;
    clock.clearTimer(timer);
    this.lose(reason);
  }

  /** All output is written, or places may be free. */
  wake(): void {
    this.#owner.wake();
    if (this.#state === "retired" && this.#calls.size === 0) void this.close();
  }

  /** Ends the connection at once. */
  lose(reason: unknown): void {
    if (this.#isClosed) return;
    this.#state = "closed";
    void endLater(() => this.#transport.close());
    const unanswered: ClientCall[] = [];
    for (const call of this.#calls.values()) {
      if (call.isSettled) this.#owner.deadlines.delete(call);
      else unanswered.push(call);
      call.connection = undefined;
    }
    this.#calls.clear();
    this.#look(); // stops the checks
    this.#owner.onEnded(this, this.#errorOf(reason), unanswered);
  }

  #errorOf(reason: unknown): RpcError {
    if (reason instanceof RpcError) return reason;
    const [code, what] = reason instanceof DecodeError
      ? ["BAD_REPLY", `${this.peer} sent an invalid reply`]
      : ["CONNECTION_LOST", `the connection to ${this.peer} is lost`];
    return new RpcError(code, `${what}: ${messageOf(reason)}`, { cause: reason });
  }
}
