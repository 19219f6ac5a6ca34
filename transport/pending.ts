/**
 * A call at its caller, from the moment it is made until it is settled: what goes on the wire for it, and who waits
 * for its outcome.
 *
 * In: what the caller wants. Out: one outcome, once. Refused: times and parameters that are none, when it is made.
 */

import type { Fields, OutgoingRequest } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { checkTimeout } from "../limits.ts";
import type { Channel } from "./channel.ts";
import type { Clock } from "./clock.ts";
import type { Deadlines, Expiring } from "./deadlines.ts";
import { Fifo } from "./fifo.ts";

/** What a caller can say about one call. */
export interface CallOptions {
  /**
   * How long to wait for the reply, in milliseconds; `0` is without end. The server is told, and ends the handler.
   *
   * @default {the client's `timeout`; for a stream 0}
   */
  timeout?: number;
  /** Ends the call: it rejects at once, with `CANCELLED`, and the server is told. */
  signal?: AbortSignal;
  /** What is not a parameter: a token, a `traceparent`. The server's handlers and middleware see it. */
  meta?: Record<string, string>;
  /**
   * Whether the server may do the command twice without harm: then the call is sent again, within its timeout, when its
   * connection is lost after it was sent.
   *
   * @default {false}
   */
  idempotent?: boolean;
}

/** What calls need to know of their client. */
export interface CallOwner {
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  /** How long a call may take that says nothing about it, in milliseconds. */
  readonly timeoutMs: number;
  /** Why there is no connection, if there is none. */
  readonly obstacle: RpcError | undefined;
  /** Takes a call that has been made. */
  begin(call: PendingCall): void;
  /** Settles a call before its reply has come, and lets the server know. */
  giveUp(call: PendingCall, error: RpcError): void;
}

/** What is left of the parameters when nobody will write them. */
const NOTHING: Fields = Object.freeze({});

/** A call that has been made; a subclass says what its outcome becomes. */
export abstract class PendingCall implements OutgoingRequest, Expiring, EventListenerObject {
  readonly cmd: number | string;
  params: Fields;
  /** By which the connection knows it. */
  id = 0;
  /** The same, if it is on the wire. */
  seq: number | undefined = undefined;
  readonly meta: Record<string, string> | undefined;
  readonly credit: number | undefined;
  readonly idempotent: boolean;
  readonly timeoutMs: number;
  deadlineMs = Infinity;
  /** Where it was written, while an answer may come from there. */
  channel: Channel | undefined = undefined;
  /** Whether the server may have started it. */
  sent = false;
  /** Whether it went with a connection that was lost: another server's word that it was not started does not undo that. */
  lost = false;
  /** Whether an item has come: it was started, whatever else is said of it. */
  hasItems = false;
  settled = false;
  /** What the connection had heard when the call ended without a reply; see {@linkcode Channel.abandon}. */
  heardAtEnd = -1;
  protected readonly owner: CallOwner;
  readonly #signal: AbortSignal | undefined;

  /**
   * @param owner The client.
   * @param cmd The command's number or name.
   * @param params Its parameters; read when the request is written.
   * @param options What the caller said about it.
   * @param credit Items of a stream that may come at once.
   * @throws {RangeError} If the timeout is none.
   * @throws {RpcError} `INVALID_PARAMS`, if the parameters are none.
   */
  constructor(owner: CallOwner, cmd: number | string, params: unknown, options: CallOptions, credit?: number) {
    this.owner = owner;
    this.cmd = cmd;
    this.params = checkedParams(params);
    this.timeoutMs = checkTimeout(options.timeout ?? owner.timeoutMs);
    this.meta = options.meta;
    this.credit = credit;
    this.idempotent = options.idempotent === true;
    this.#signal = options.signal;
  }

  /** Milliseconds that are left, read when the request is written: it may have waited for its connection. */
  get ttl(): number | undefined {
    return this.deadlineMs === Infinity ? undefined : Math.max(1, Math.ceil(this.deadlineMs - this.owner.clock.now()));
  }

  /** Starts the time, and listens to the caller's signal; a signal that is aborted already settles it. */
  begin(): void {
    const signal = this.#signal;
    if (signal?.aborted) return this.settle(this.#cancelled(signal));
    signal?.addEventListener("abort", this, { once: true });
    if (this.timeoutMs === 0) return;
    this.deadlineMs = this.owner.clock.now() + this.timeoutMs;
    this.owner.deadlines.add(this);
  }

  /** Gives the outcome: the only place that does, and only once. */
  settle(outcome: Fields | Error): void {
    if (this.settled) return;
    this.settled = true;
    this.owner.deadlines.delete(this);
    this.#signal?.removeEventListener("abort", this);
    if (outcome instanceof Error) this.fail(outcome);
    else this.succeed(outcome);
  }

  /** Settles it before a reply came: what was kept for it goes. */
  end(error: Error): void {
    this.params = NOTHING;
    this.settle(error);
  }

  /** The caller's signal was aborted. */
  handleEvent(): void {
    this.owner.giveUp(this, this.#cancelled(this.#signal as AbortSignal));
  }

  /** The time is up: its own, or when it has ended already, that of the server to say so too. */
  expire(): void {
    if (this.settled) {
      this.channel?.missAnswer(this);
      return;
    }
    let text = `no reply within ${this.timeoutMs} ms`;
    const cause = this.sent ? undefined : this.owner.obstacle;
    if (!this.sent) text += `, and it was not sent: ${cause?.message ?? "those before it are not answered"}`;
    this.owner.giveUp(this, new RpcError("TIMEOUT", text, { retryable: !this.sent, cause }));
  }

  /** One item of a stream has come. */
  abstract takeItem(value: unknown): void;
  /** The reply has come. */
  protected abstract succeed(fields: Fields): void;
  /** There will be no reply, or it says that the call failed. */
  protected abstract fail(error: Error): void;

  #cancelled(signal: AbortSignal): RpcError {
    return new RpcError("CANCELLED", "the caller's signal was aborted", {
      retryable: !this.sent,
      cause: signal.reason,
    });
  }
}

/** A call with one reply. */
export class UnaryCall extends PendingCall {
  /** Set by whoever made the call, before it begins. */
  resolve!: (fields: Fields) => void;
  reject!: (error: Error) => void;

  override takeItem(): void {
    this.owner.giveUp(
      this,
      new RpcError("BAD_REPLY", `command ${this.cmd} answers with a stream: read it with client.stream()`),
    );
  }

  protected override succeed(fields: Fields): void {
    this.resolve(fields);
  }

  protected override fail(error: Error): void {
    this.reject(error);
  }
}

/** Calls that wait to be written, in their order. */
export class CallQueue {
  readonly #calls = new Fifo<PendingCall>();
  /** How many of them have been settled meanwhile, and are passed over. */
  #settled = 0;

  /** Whether no call waits. */
  get empty(): boolean {
    return this.#calls.length === this.#settled;
  }

  push(call: PendingCall): void {
    this.#calls.push(call);
  }

  /** The next call that still waits. */
  shift(): PendingCall | undefined {
    for (let call = this.#calls.shift(); call !== undefined; call = this.#calls.shift()) {
      if (!call.settled) return call;
      this.#settled--;
    }
  }

  /** A call that waited has been settled. Its place goes as well, so that nothing grows while nothing can be written. */
  forget(): void {
    this.#settled++;
    if (2 * this.#settled > this.#calls.length) { for (const call of this.takeAll()) this.push(call); }
  }

  /** All that wait, which then wait no more. */
  takeAll(): PendingCall[] {
    this.#settled = 0;
    return this.#calls.takeAll().filter((call) => !call.settled);
  }
}

function checkedParams(params: unknown): Fields {
  if (params === undefined) return NOTHING;
  if (typeof params === "object" && params !== null && !Array.isArray(params)) return params as Fields;
  throw new RpcError("INVALID_PARAMS", "parameters must be an object, with a property for each");
}
