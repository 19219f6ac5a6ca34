/**
 * A call at its caller, from the moment it is made until it is settled: what goes on the wire for it, and who waits
 * for its outcome.
 *
 * In: what the caller wants. Out: one outcome, once. Refused: times and parameters that are none, when it is made.
 */

import { PayloadTooLargeError } from "../codec/errors.ts";
import { encodeGiven } from "../codec/given.ts";
import type { Fields } from "../codec/message.ts";
import type { EncodedRequest, GivenRequest } from "../codec/write_message.ts";
import type { Span } from "../codec/writer.ts";
import { RpcError } from "../errors.ts";
import { checkTimeout } from "../limits.ts";
import type { Clock } from "../transport/clock.ts";
import type { Expiring, TimerWheel } from "../session/timer_wheel.ts";
import { Fifo } from "../session/fifo.ts";
import type { Abortable, Signals } from "./signals.ts";
import { messageOf } from "../transport/tls.ts";

/** What a caller can say about one call. */
export interface CallOptions {
  /**
   * How long to wait for the reply, in milliseconds on the monotonic clock; `Infinity` is without end. The server is told, and ends the handler.
   * With no time left, `0` or less, the call is not sent: so what remains of another deadline can be passed on.
   *
   * @default {the client's `timeoutMs`; for a stream `Infinity`}
   */
  timeoutMs?: number;
  /** Ends the call: it rejects at once, with `CANCELLED`, and the server is told. */
  signal?: AbortSignal;
  /** What is not a parameter: a token, a `traceparent`. The server's handlers and middleware see it. */
  meta?: Record<string, string>;
  /**
   * Whether the server may do the command twice without harm: then the call is sent again, within its timeout, when its
   * connection is lost after it was sent. It is sent three times at most: what ends its server each time is not tried
   * for ever.
   *
   * @default {false}
   */
  idempotent?: boolean;
}

/** What a client is given that its calls and connections need to know. */
export interface ClientSettings {
  readonly clock: Clock;
  /** Whether calls carry a `seq`. */
  readonly sequenced: boolean;
  /** How long a call may take that says nothing about it, in milliseconds. */
  readonly timeoutMs: number;
  /** Calls that may be unanswered at once. */
  readonly maxInFlight: number;
  /** The largest payload, either way. */
  readonly maxPayloadBytes: number;
}

/** What calls need to know of their client. */
export interface ClientCallOwner {
  readonly settings: ClientSettings;
  readonly deadlines: TimerWheel;
  readonly signals: Signals;
  /** Replies that nobody waited for, and what items of streams take of memory that wait for their readers. */
  readonly received: { lateReplies: number; heldBytes: number };
  /** Why there is no connection, if there is none. */
  readonly obstacle: RpcError | undefined;
  /** Calls and streams that are unanswered on the connection. */
  readonly unanswered: number;
  /** The number or name by which a command goes. */
  cmdOf(name: string): number | string;
  /** Takes a call that has been made. */
  begin(call: ClientCall): void;
  /** Settles a call before its reply has come, and lets the server know. */
  giveUp(call: ClientCall, error: RpcError): void;
}

/** What a call asks of the connection on which it was written. */
export interface CallConnection {
  /** The consumer of a stream takes more items. */
  grant(call: ClientCall, items: number): void;
  /** The call has ended without its reply: the server is told. */
  abandon(call: ClientCall): void;
  /** No answer has come of a call that has ended, although there was time for one. */
  missAnswer(call: ClientCall): void;
}

/** What calls that wait may hold in all. */
const MAX_WAITING_BYTES = 256 * 1024 * 1024;

/** What a call that waits takes beside its parameters, roughly. */
const WAITING_CALL_BYTES = 1_024;

const NO_PARAMETERS: Fields = Object.freeze({});

/** What is kept of a call that is settled. */
const NOTHING: Span = { bytes: new Uint8Array(0), start: 0, end: 0 };

/**
 * A call that has been made; a subclass says what its outcome becomes.
 *
 *     waiting > sent > streaming > settled     (and back to waiting when it is sent again)
 */
export abstract class ClientCall implements EncodedRequest, Expiring, Abortable {
  state: "waiting" | "sent" | "streaming" | "settled" = "waiting";
  /** The command's name. */
  readonly name: string;
  /** What the caller gave, encoded then: it is kept until the call is settled, since it may have to be sent again. */
  given: Span;
  /** By which the connection knows it. */
  id = 0;
  readonly idempotent: boolean;
  readonly timeoutMs: number;
  deadlineMs = Infinity;
  /** Milliseconds that were left when it was written. */
  ttl: number | undefined = undefined;
  /** Where it was written, while an answer may come from there. */
  connection: CallConnection | undefined = undefined;
  /**
   * How often it went with a connection that was lost: another server's word that it was not started does not undo that.
   */
  losses = 0;
  protected readonly owner: ClientCallOwner;
  readonly #signal: AbortSignal | undefined;

  /**
   * @param owner The client.
   * @param name The command's name.
   * @param params Its parameters, which are encoded now.
   * @param options What the caller said about it.
   * @param credit Items of a stream that may come at once.
   * @throws {RangeError} If the timeout is not a number, or the request is larger than a payload may be.
   * @throws {TypeError} If the parameters or `meta` cannot be sent.
   */
  constructor(owner: ClientCallOwner, name: string, params: unknown, options: CallOptions, credit?: number) {
    this.owner = owner;
    this.name = name;
    this.timeoutMs = checkTimeout(options.timeoutMs ?? owner.settings.timeoutMs);
    const lateFields = (owner.settings.sequenced ? 1 : 0) + (this.timeoutMs === Infinity ? 0 : 1);
    const { meta } = options;
    try {
      this.given = encodeGiven(
        { cmd: owner.cmdOf(name), params: params === undefined ? NO_PARAMETERS : params, meta, credit } as GivenRequest,
        lateFields,
        owner.settings.maxPayloadBytes,
      );
    } catch (error) {
      throw unsendable(name, error);
    }
    this.idempotent = options.idempotent === true;
    this.#signal = options.signal;
  }

  get seq(): number | undefined {
    return this.owner.settings.sequenced ? this.id : undefined;
  }

  get isSettled(): boolean {
    return this.state === "settled";
  }

  /** Whether the server may have started it. */
  get mayHaveStarted(): boolean {
    return this.losses > 0 || this.connection !== undefined;
  }

  /** What it holds while it waits. */
  get waitingBytes(): number {
    return WAITING_CALL_BYTES + this.given.end - this.given.start;
  }

  /** How long it may wait to be sent, in milliseconds. */
  protected get patienceMs(): number {
    return this.timeoutMs;
  }

  /** Starts the time, and watches the caller's signal; a signal that is aborted already settles it, as does no time. */
  begin(): void {
    const signal = this.#signal;
    if (signal?.aborted) return this.end(this.#cancelled(signal));
    if (this.timeoutMs <= 0) {
      return this.end(new RpcError("TIMEOUT", "there was no time left, and it was not sent", { retryable: true }));
    }
    if (signal) this.owner.signals.add(signal, this);
    this.#expireIn(this.patienceMs);
  }

  /** It is written to a connection. */
  send(connection: CallConnection, id: number, nowMs: number): void {
    this.state = "sent";
    this.connection = connection;
    this.id = id;
    if (this.timeoutMs !== Infinity) {
      this.ttl = Math.max(1, Math.ceil(this.deadlineMs - nowMs));
    } else {
      this.owner.deadlines.delete(this);
      this.deadlineMs = Infinity;
    }
  }

  /** It was written, and waits again: it was lost with its connection, or certainly not started there. */
  waitAgain(wasLost: boolean): void {
    this.state = "waiting";
    this.connection = undefined;
    if (wasLost) this.losses++;
    if (this.timeoutMs === Infinity) this.#expireIn(this.patienceMs);
  }

  /** Gives the outcome: the only place that does, and only once. */
  settle(outcome: Fields | Error): void {
    if (this.state === "settled") return;
    const hasItems = this.state === "streaming";
    this.state = "settled";
    this.owner.deadlines.delete(this);
    if (this.#signal) this.owner.signals.delete(this.#signal, this);
    this.given = NOTHING;
    if (outcome instanceof Error) this.fail(outcome);
    else this.succeed(outcome, hasItems);
  }

  /** Settles it before a reply came. */
  end(error: Error): void {
    this.settle(error);
  }

  abort(): void {
    this.owner.giveUp(this, this.#cancelled(this.#signal as AbortSignal));
  }

  /** The time is up: its own, or when it has ended already, that of the server to say so too. */
  expire(): void {
    if (this.isSettled) return this.connection?.missAnswer(this);
    const { mayHaveStarted, owner: { obstacle, unanswered } } = this;
    let text = `no reply within ${this.patienceMs} ms`;
    const cause = mayHaveStarted ? undefined : obstacle;
    if (!mayHaveStarted) {
      const reason = cause?.message ?? `${unanswered} calls and streams before it are unanswered, see maxInFlight`;
      text += `, and it was not sent: ${reason}`;
    }
    this.owner.giveUp(this, new RpcError("TIMEOUT", text, { retryable: !mayHaveStarted, cause }));
  }

  /** One item of a stream has come. */
  abstract takeItem(value: unknown, weightBytes: number): void;
  /** The reply has come; `hasItems` says whether items came before it. */
  protected abstract succeed(fields: Fields, hasItems: boolean): void;
  /** There will be no reply, or it says that the call failed. */
  protected abstract fail(error: Error): void;

  #expireIn(ms: number): void {
    this.deadlineMs = this.owner.settings.clock.now() + ms;
    this.owner.deadlines.add(this);
  }

  #cancelled(signal: AbortSignal): RpcError {
    return new RpcError("CANCELLED", "the caller's signal was aborted", {
      retryable: !this.mayHaveStarted,
      cause: signal.reason,
    });
  }
}

/** A call with one reply. */
export class UnaryCall extends ClientCall {
  /** Set by whoever made the call, before it begins. */
  resolve!: (fields: Fields) => void;
  reject!: (error: Error) => void;

  override takeItem(): void {
    this.owner.giveUp(
      this,
      new RpcError("BAD_REPLY", `command ${this.name} answers with a stream: read it with client.stream()`),
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
  readonly #calls = new Fifo<ClientCall>();
  /** How many of them have been settled meanwhile, and are passed over. */
  #settled = 0;
  /** What those hold that are not. */
  #bytes = 0;

  /** Whether no call waits. */
  get empty(): boolean {
    return this.#calls.length === this.#settled;
  }

  /** Whether no more may wait. */
  get full(): boolean {
    return this.#bytes >= MAX_WAITING_BYTES;
  }

  push(call: ClientCall): void {
    this.#bytes += call.waitingBytes;
    this.#calls.push(call);
  }

  /** The next call that still waits. */
  shift(): ClientCall | undefined {
    for (let call = this.#calls.shift(); call !== undefined; call = this.#calls.shift()) {
      if (!call.isSettled) {
        this.#bytes -= call.waitingBytes;
        return call;
      }
      this.#settled--;
    }
  }

  /**
   * A call that waits is about to be settled. The places of settled calls go as well, so that nothing grows while nothing can
   * be written.
   */
  forget(call: ClientCall): void {
    if (2 * this.#settled > this.#calls.length) { for (const other of this.takeAll()) this.push(other); }
    this.#bytes -= call.waitingBytes;
    this.#settled++;
  }

  /** All that wait, which then wait no more. */
  takeAll(): ClientCall[] {
    this.#settled = 0;
    this.#bytes = 0;
    return this.#calls.takeAll().filter((call) => !call.isSettled);
  }
}

/** What is wrong with what a caller gave is a mistake of the program: nothing was sent, and no code is about it. */
export function unsendable(name: string, cause: unknown): TypeError | RangeError {
  const Class = cause instanceof PayloadTooLargeError ? RangeError : TypeError;
  return new Class(`Cannot call ${name}: ${messageOf(cause)}`, { cause });
}
