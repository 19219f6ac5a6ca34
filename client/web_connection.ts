/**
 * One connection of a client in a browser: requests out, replies in.
 *
 * In: calls, and the bytes of a transport. Out: outcomes of calls; what the server wants; the error that ended the connection.
 * Refused, by closing it: frames and messages that break the protocol.
 */

import { decodeCompact, encodeCompact } from "../codec/compact.ts";
import {
  FrameScanner,
  LONG_HEADER_BYTES,
  MAX_SHORT_PAYLOAD_BYTES,
  SHORT_HEADER_BYTES,
  TERMINATOR,
  writeLongHeader,
  writeShortHeader,
} from "../codec/frame.ts";
import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { badReply, receivedError } from "../session/received.ts";
import type { Swept } from "../session/sweeper.ts";
import { messageOf } from "../transport/runtime.ts";
import type { Transport } from "../transport/transport.ts";
import type { CallConnection, ClientCall, ClientCallOwner } from "./client_call.ts";
import { itemMessage, joined, requestOf } from "./compact_calls.ts";
import { ItemOutput } from "./item_output.ts";
import { Silence } from "./silence.ts";

/** The `seq` of a PING of the client's own, and the number of the command. */
const PING_SEQ = Number.MAX_SAFE_INTEGER;
const PING = 1;

/** How long a server may take to answer a cancel or a PING, and a closed connection to send what waits. */
const ANSWER_MS = 10_000;
const CLOSE_MS = 1_000;

/** More calls wait for those that are not written yet, so that a cancel gets through. */
const AHEAD_BYTES = 64 * 1024;

const END = new Uint8Array([TERMINATOR]);

/** The client, as its connections see it. */
export interface WebConnectionOwner extends ClientCallOwner {
  /** A call was certainly not started, unless an earlier attempt was lost, and may be sent again. */
  onRefused(call: ClientCall, error: RpcError): void;
  /** A call has failed and may have been started. It is settled, unless it may be sent again all the same. */
  onFailed(call: ClientCall, error: RpcError): void;
  /** The server wants to end the connection in so many milliseconds. */
  onGoing(connection: WebConnection, ms: number): void;
  /** The connection takes no more calls. */
  onLeft(connection: WebConnection, reason: RpcError): void;
  /** The connection has ended. */
  onEnded(connection: WebConnection, error: RpcError, unanswered: readonly ClientCall[]): void;
  /** A connection has an open call. */
  onBusy(): void;
  /** More calls may be sent. */
  wake(): void;
}

/** The frames that go out. */
class FrameOutput {
  /** Where the callers' streams go. */
  readonly items: ItemOutput;
  queuedBytes = 0;
  sentBytes = 0;
  readonly #transport: Transport;
  readonly #onWritten: () => void;
  readonly #onError: (error: unknown) => void;
  #frames: Uint8Array[] = [];
  /** Resolves when all is written. */
  #flushing: Promise<void> | undefined;

  constructor(
    transport: Transport,
    maxPayloadBytes: number,
    { onWritten, onError }: { onWritten: () => void; onError: (error: unknown) => void },
  ) {
    this.#transport = transport;
    this.#onWritten = onWritten;
    this.#onError = onError;
    this.items = new ItemOutput(this, (message) => this.write(itemMessage(message, maxPayloadBytes)));
    this.items.resume();
  }

  get flushed(): Promise<void> | undefined {
    return this.#flushing;
  }

  write(payload: Uint8Array): void {
    const isLong = payload.length > MAX_SHORT_PAYLOAD_BYTES;
    const header = new Uint8Array(isLong ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES);
    (isLong ? writeLongHeader : writeShortHeader)(header, 0, payload.length);
    this.#frames.push(header, payload, END);
    this.queuedBytes += header.length + payload.length + 1;
    this.#flushing ??= this.#flush();
  }

  /** All that is said in one turn leaves in one write. */
  async #flush(): Promise<void> {
    try {
      await undefined;
      while (this.#frames.length > 0) {
        let rest = joined(this.#frames);
        this.#frames = [];
        while (rest.length > 0) {
          const bytes = await this.#transport.write(rest);
          rest = rest.subarray(bytes);
          this.sentBytes += bytes;
          this.queuedBytes -= bytes;
        }
      }
      this.#flushing = undefined;
      this.items.resume();
      this.#onWritten();
    } catch (error) {
      this.#onError(error);
    }
  }
}

/** One connection. */
export class WebConnection implements CallConnection, Swept {
  readonly output: FrameOutput;
  receivedBytes = 0;
  /** Whether the server has answered a call. */
  answered = false;
  readonly #owner: WebConnectionOwner;
  readonly #transport: Transport;
  /** Unanswered calls by `seq`, those included that ended without their reply. */
  readonly #calls = new Map<number, ClientCall>();
  /** How many bytes had come when a call ended without its reply. */
  readonly #abandoned = new Map<ClientCall, number>();
  readonly #silence: Silence;
  #nextId = 0;
  #state: "open" | "going" | "retired" | "closed" = "open";
  /** A PING that is not answered. */
  #ping: PromiseWithResolvers<void> | undefined;

  /** @param server The server, as the user names it. */
  constructor(owner: WebConnectionOwner, transport: Transport, readonly server: string) {
    this.#owner = owner;
    this.#transport = transport;
    const { maxPayloadBytes, aliveMs } = owner.settings;
    this.output = new FrameOutput(transport, maxPayloadBytes, {
      onWritten: () => owner.wake(),
      onError: (error) => this.#lost(error),
    });
    this.#silence = new Silence(this, aliveMs || Infinity, {
      say: () => this.#ping === undefined ? void this.#sendPing() : this.#control({ alive: aliveMs }),
      lose: (error) => this.lose(error),
    });
    this.#control({ max: maxPayloadBytes, alive: aliveMs || undefined, notice: true });
    void this.#read();
  }

  get items(): ItemOutput {
    return this.output.items;
  }

  get peer(): string {
    return this.server;
  }

  get unanswered(): number {
    return this.#calls.size;
  }

  /** Whether a call may be sent. */
  get hasRoom(): boolean {
    return (this.#state === "open" || this.#state === "going") &&
      this.#calls.size < this.#owner.settings.maxInFlight && this.output.queuedBytes < AHEAD_BYTES;
  }

  sweep(nowMs: number, isBehind: boolean): boolean {
    if (this.#calls.size === 0) return false;
    this.#silence.look(nowMs, isBehind);
    return true;
  }

  // ---- out

  send(call: ClientCall, nowMs: number): void {
    if (this.#calls.size === 0) this.#silence.begin(nowMs);
    call.send(this, this.#nextId++, nowMs);
    this.#calls.set(call.id, call);
    this.output.write(requestOf(call.given, call.id, call.ttl));
    call.startItems();
    this.#owner.onBusy();
  }

  grant({ id }: ClientCall, items: number): void {
    if (this.#calls.has(id)) this.#control({ seq: id, credit: items });
  }

  abandon(call: ClientCall): void {
    if (!this.#calls.has(call.id)) return;
    this.#control({ seq: call.id, cancel: true });
    this.#abandoned.set(call, this.receivedBytes);
    call.deadlineMs = this.#owner.settings.clock.now() + ANSWER_MS;
    this.#owner.deadlines.add(call);
  }

  missAnswer(call: ClientCall): void {
    if (this.#abandoned.get(call) === this.receivedBytes) return this.#silent();
    this.#abandoned.delete(call);
    this.#calls.delete(call.id);
    this.#owner.wake();
  }

  /** Sends a PING and waits for its answer. Ends the connection and rejects if none comes, or the server refuses. */
  async prove(): Promise<void> {
    const { clock } = this.#owner.settings;
    const timer = clock.setTimer(() => this.#silent(), ANSWER_MS, true);
    try {
      await (this.#ping?.promise ?? this.#sendPing());
    } catch (error) {
      this.lose(error as RpcError);
      throw error;
    } finally {
      clock.clearTimer(timer);
    }
  }

  #sendPing(): Promise<void> {
    this.#ping = Promise.withResolvers();
    this.#ping.promise.catch(() => {}); // only `prove()` waits for it
    this.output.write(encodeCompact({ cmd: PING, seq: PING_SEQ }));
    return this.#ping.promise;
  }

  #control(fields: Fields): void {
    this.output.write(encodeCompact({ cmd: 0, ...fields }));
  }

  // ---- in

  async #read(): Promise<void> {
    const frames = new FrameScanner(this.#owner.settings.maxPayloadBytes);
    let buffer = new Uint8Array(4_096);
    let end = 0;
    try {
      while (!this.#isClosed) {
        if (end === buffer.length) buffer = joined([buffer, buffer]) as Uint8Array<ArrayBuffer>;
        const bytes = await this.#transport.read(buffer.subarray(end));
        if (bytes === null) return this.#lost("the server closed it");
        end += bytes;
        this.receivedBytes += bytes;
        let start = 0;
        for (let length; (length = frames.scan(buffer, start, end)) !== 0 && !this.#isClosed; start += length) {
          if (length < 0) throw badReply(`${this.peer} sent an invalid frame: ${frames.reason}`);
          this.#take(buffer.subarray(frames.payloadStart, frames.payloadEnd));
        }
        buffer.copyWithin(0, start, end);
        end -= start;
        this.#owner.wake();
      }
    } catch (error) {
      this.#lost(error);
    }
  }

  #take(payload: Uint8Array): void {
    let message: Fields;
    try {
      message = Object(decodeCompact(payload));
    } catch (error) {
      throw badReply(`${this.peer} sent an invalid reply: ${messageOf(error)}`);
    }
    const { seq, more, ...fields } = message;
    const { res, err, going, credit } = fields;
    if (res === undefined && err === undefined && Object.keys(fields).length > 0) { // a notice, which may be unknown
      if (credit !== undefined) this.#calls.get(seq as number)?.items?.grant(credit as number);
      else if (seq === undefined && this.#state === "open" && typeof going === "number") this.#go(going);
      return;
    }
    if (typeof seq !== "number") {
      throw err === undefined ? badReply(`${this.peer} sent a reply that matches no request`) : receivedError(fields);
    }
    const call = this.#calls.get(seq);
    if (call === undefined && seq === PING_SEQ) return this.#answerPing(fields);
    if (more !== true) this.#calls.delete(seq);
    if (call === undefined || call.isSettled) {
      this.#owner.counts.lateReplies++;
      if (call !== undefined && more !== true && this.#abandoned.delete(call)) this.#owner.deadlines.delete(call);
    } else if (more === true) {
      call.state = "streaming";
      call.takeItem(fields, payload.length);
    } else {
      this.#settle(call, fields);
    }
    this.answered = true;
    if (this.#state === "retired" && this.#calls.size === 0) void this.close();
  }

  #settle(call: ClientCall, fields: Fields): void {
    const { err } = fields;
    const hasItems = call.state === "streaming";
    if (err === undefined) return call.settle("res" in fields ? fields : badReply("the reply has neither res nor err"));
    const error = receivedError(fields, call.attempts.losses > 0 || hasItems || !call.isRepeatable);
    if ((err === "SHUTTING_DOWN" || err === "OVERLOADED") && !hasItems) {
      this.#owner.onRefused(call, error);
      if (err === "SHUTTING_DOWN") this.retire(error);
    } else if (err === "DEADLINE_EXCEEDED" && this.#owner.settings.clock.now() >= call.deadlineMs) {
      call.expire(); // the server's timeout was faster: one event has one code
    } else {
      const isOver = this.#state === "going" && (err === "GOING_AWAY" || call.outlives(error));
      this.#owner.onFailed(call, error);
      if (isOver) this.retire(error);
    }
  }

  #answerPing(fields: Fields): void {
    const error = fields.err === undefined ? undefined : receivedError(fields);
    if (error?.retryable) this.#ping?.reject(error);
    else this.#ping?.resolve();
    this.#ping = undefined;
  }

  #go(ms: number): void {
    this.#state = "going";
    this.#owner.onGoing(this, ms);
  }

  // ---- the end

  get #isClosed(): boolean {
    return this.#state === "closed";
  }

  /** Takes no more calls, and closes when the last one is answered. */
  retire(reason?: RpcError): void {
    if (this.#state === "retired" || this.#state === "closed") return;
    this.#state = "retired";
    if (reason !== undefined) this.#owner.onLeft(this, reason);
    if (this.#calls.size === 0) void this.close();
  }

  /** Ends the calls that wait, tells the server, and closes. */
  async close(reason = new RpcError("CLOSED", "the connection was closed")): Promise<void> {
    if (this.#isClosed) return;
    for (const call of this.#calls.values()) {
      if (call.isSettled) continue;
      call.end(reason);
      this.#control({ seq: call.id, cancel: true });
    }
    const { clock } = this.#owner.settings;
    const timer = clock.setTimer(() => this.lose(reason), CLOSE_MS, true);
    try {
      await this.output.flushed;
    } finally {
      clock.clearTimer(timer);
    }
    this.lose(reason);
  }

  #silent(): void {
    this.lose(new RpcError("CONNECTION_LOST", `${this.peer} has not answered within ${ANSWER_MS} ms`));
  }

  #lost(error: unknown): void {
    this.lose(
      error instanceof RpcError
        ? error
        : new RpcError("CONNECTION_LOST", `the connection to ${this.peer} is lost: ${messageOf(error)}`, {
          cause: error,
        }),
    );
  }

  /** Ends it at once. */
  lose(error: RpcError): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#transport.close();
    this.#ping?.reject(error);
    const unanswered: ClientCall[] = [];
    for (const call of this.#calls.values()) {
      if (call.isSettled) this.#owner.deadlines.delete(call);
      else unanswered.push(call);
      call.connection = undefined;
    }
    this.#calls.clear();
    this.#owner.onEnded(this, error, unanswered);
  }
}
