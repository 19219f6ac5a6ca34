/**
 * One call of a client, from its creation until it is settled: the request to send, and its outcome.
 *
 * In: what the caller asks for. Out: one outcome, once. Refused, on creation: invalid timeouts, and parameters that
 * cannot be sent.
 */

import { AFTER, type Fields } from "../codec/message.ts";
import type { EncodedRequest } from "../codec/write_message.ts";
import type { Span } from "../codec/frame.ts";
import { isReceived, markReceived, RpcError } from "../errors.ts";
import type { Clock } from "../transport/clock.ts";
import type { ItemBudget } from "../session/item_queue.ts";
import { Deadline } from "../session/deadlines.ts";
import type { CallEncoder, CallOptions, CallPolicy, GivenOwner, MaybeItems } from "./call_options.ts";
import { checkItems, type ItemOutput, type ItemsCall, OutgoingItems } from "./outgoing_items.ts";
import type { Abortable, CallCounts, Watcher } from "./calls.ts";

/** Settings of a client that its calls and connections need. */
export interface ClientSettings {
  readonly clock: Clock;
  /** Whether calls carry a `seq`. */
  readonly sequenced: boolean;
  /** The maximum number of unanswered calls on one connection. */
  readonly maxInFlight: number;
  /** The largest payload in either direction. */
  readonly maxPayloadBytes: number;
  /** While a call is open, the client sends something at least this often, in milliseconds; 0 for no promise. */
  readonly aliveMs: number;
  /** The default policy of calls. */
  readonly policy: CallPolicy;
}

/** Watches the deadlines of many calls. */
export interface Deadlines {
  /** Starts to watch a deadline, unless it is watched already or infinite. */
  add(deadline: Deadline): void;
  /** Stops watching. An unknown deadline is ignored. */
  delete(deadline: Deadline): void;
}

/** The part of the client that its calls use. */
export interface ClientCallOwner extends GivenOwner {
  readonly settings: ClientSettings;
  readonly deadlines: Deadlines;
  readonly signals: Watcher;
  readonly counts: CallCounts;
  /** The memory for unread items of all streams. */
  readonly itemBudget: ItemBudget;
  /** How requests are encoded. */
  readonly encoder: CallEncoder;
  /** Why there is no connection; `undefined` if there is one. */
  readonly obstacle: RpcError | undefined;
  /** Unanswered calls and streams on all connections. */
  readonly unanswered: number;
  /** Starts a new call. */
  begin(call: ClientCall): void;
  /** A call has its result. */
  onAnswered(call: ClientCall): void;
  /** A call rejects. */
  onRejected(call: ClientCall, error: Error): void;
  /** Settles a call without its reply, and notifies the server. Ignores a call that is settled. */
  giveUp(call: ClientCall, outcome: Error | Fields): void;
}

/** The part of a connection that its calls use. */
export interface CallConnection {
  /** The peer's name. */
  readonly peer: string;
  /** The output for the callers' streams. */
  readonly items: ItemOutput;
  /** Grants more items of a stream. */
  grant(call: ClientCall, items: number): void;
  /** Tells the server that the call has ended without its reply. */
  abandon(call: ClientCall): void;
  /** The server has not answered an ended call in time. */
  missAnswer(call: ClientCall): void;
}

/** The outcomes of the earlier attempts of a call. */
interface Attempts {
  /**
   * How often the call was lost with a connection. A later reply that it was not started says nothing about these
   * attempts.
   */
  readonly losses: number;
  /** How often a server refused the call without starting it. */
  readonly refusals: number;
  /** The connection of the last attempt, if it still exists. The next attempt uses another one. */
  readonly connection: CallConnection | undefined;
}

/**
 * The `seq` of the client's own PING, of which only one is open at a time; those of a page count down from it. No call
 * gets these numbers.
 */
export const PING_SEQ = Number.MAX_SAFE_INTEGER;

/** The attempts of a new call. */
export const NO_ATTEMPTS: Attempts = { losses: 0, refusals: 0, connection: undefined };

/** The approximate memory of a waiting call without its parameters. */
const WAITING_CALL_BYTES = 1_024;

/** More than the rounding error of sums of times, so that 5,000 ms from now do not become 5,001. */
const ROUNDING_MS = 0.001;

/** The fields beside an item, with the longest `seq`: if the call is sent again, its `seq` may be longer than before. */
const ITEM_FIELDS_BYTES = 24;

/** Replaces the request of a settled call, to free its memory. */
const NOTHING: Span = { bytes: new Uint8Array(0), start: 0, end: 0 };

/**
 * A call. A subclass delivers its outcome.
 *
 *     waiting > sent > streaming > settled     (and back to waiting when it is sent again)
 */
export abstract class ClientCall extends Deadline implements EncodedRequest, Abortable, ItemsCall {
  state: "waiting" | "sent" | "streaming" | "settled" = "waiting";
  /** The command's name. */
  readonly name: string;
  /** The request, encoded on creation. It is kept until the call is settled, because it may have to be sent again. */
  given: Span;
  /** Identifies the call on its connection. */
  id = 0;
  readonly policy: CallPolicy;
  /** The caller's stream. */
  readonly items: OutgoingItems | undefined;
  /** The time that was left when the call was sent, in milliseconds. */
  ttl: number | undefined = undefined;
  /** The connection that the call was sent on, as long as its answer may arrive there. */
  connection: CallConnection | undefined = undefined;
  attempts: Attempts = NO_ATTEMPTS;
  protected readonly owner: ClientCallOwner;
  readonly #signal: AbortSignal | undefined;

  /**
   * @param owner The client.
   * @param name The command's name.
   * @param given The request, see `encodeCall()`.
   * @param options The caller's options.
   * @throws {RangeError} If the timeout is not a number.
   * @throws {TypeError} If `items` is not a source of items, or a call with items is `idempotent` or hedged.
   */
  constructor(owner: ClientCallOwner, name: string, given: Span, options: MaybeItems<CallOptions>) {
    super();
    this.owner = owner;
    this.name = name;
    this.given = given;
    const { idempotent, waitForReady, timeoutMs, items } = options;
    const { settings: { policy } } = owner;
    this.policy = idempotent === undefined && waitForReady === undefined && timeoutMs === undefined ? policy : {
      idempotent: idempotent === true,
      waitForReady: waitForReady ?? policy.waitForReady,
      timeoutMs: checkTimeout(timeoutMs ?? policy.timeoutMs),
    };
    if (items !== undefined) {
      checkItems(name, items);
      if (idempotent || options.hedgeAfterMs !== undefined) {
        throw new TypeError(
          `Cannot call ${name}: items are not sent twice, so not idempotent or hedged`,
        );
      }
    }
    this.items = items && new OutgoingItems(this, items);
    this.#signal = options.signal;
  }

  get isSettled(): boolean {
    return this.state === "settled";
  }

  /** The memory that it takes while it waits, in bytes. */
  get waitingBytes(): number {
    return WAITING_CALL_BYTES + this.given.end - this.given.start;
  }

  /** Whether the call may be resent after a server has refused it without starting it. */
  get isRepeatable(): boolean {
    return this.items?.isGranted !== true;
  }

  /**
   * The longest wait until the call is sent and not refused, in milliseconds. A stream may last forever, but its start
   * has the timeout of a call.
   */
  get patienceMs(): number {
    const { policy: { timeoutMs }, owner } = this;
    return timeoutMs === Infinity && this.isStreaming ? owner.settings.policy.timeoutMs : timeoutMs;
  }

  /** How much of its time is left, in milliseconds. */
  get leftMs(): number {
    return this.deadlineMs - this.owner.settings.clock.now();
  }

  /** Whether its timeout has passed after it was sent. The time for the start of a stream is no timeout of it. */
  get isLate(): boolean {
    return this.ttl !== undefined && this.leftMs <= 0;
  }

  /** Whether the call has a stream, in either direction. */
  get isStreaming(): boolean {
    return this.items !== undefined;
  }

  /** Whether the call is resent after this error, although a server may have started it. */
  outlives(error: RpcError): boolean {
    return this.policy.idempotent && error.code === "CONNECTION_LOST" && !isReceived(error);
  }

  /** Watches the caller's signal. Ends the call if the signal is already aborted, or no time is left. */
  begin(): void {
    const signal = this.#signal;
    if (signal?.aborted) return this.end(this.#cancelled(signal));
    if (this.policy.timeoutMs <= 0) {
      return this.end(new RpcError("TIMEOUT", "no time was left, and the call was not sent", { retryable: true }));
    }
    if (signal) this.owner.signals.add(signal, this);
  }

  /** Starts the timeout, or goes on with it, unless the call has ended. */
  startTimeout(nowMs: number): void {
    if (this.isSettled) return;
    if (this.deadlineMs === Infinity) this.deadlineMs = nowMs + this.patienceMs;
    this.owner.deadlines.add(this);
  }

  /** Records that the call is sent on a connection. */
  send(connection: CallConnection, id: number, nowMs: number): void {
    this.state = "sent";
    this.connection = connection;
    this.id = id;
    if (this.policy.timeoutMs !== Infinity) {
      this.ttl = Math.max(1, Math.ceil(this.deadlineMs - nowMs - ROUNDING_MS));
    } else {
      this.owner.deadlines.delete(this); // it may last forever, unless it is refused
    }
  }

  /** Makes the call wait again, because its connection was lost or the server has certainly not started it. */
  waitAgain(wasLost: boolean): void {
    const { attempts: { losses, refusals }, connection } = this;
    this.attempts = { losses: losses + Number(wasLost), refusals: refusals + Number(!wasLost), connection };
    this.state = "waiting";
    this.connection = undefined;
    // A lost stream may have begun long ago, so it gets a new time to go on. A refusal gives no call more time.
    if (wasLost && this.policy.timeoutMs === Infinity) this.deadlineMs = Infinity;
    this.startTimeout(this.owner.settings.clock.now());
  }

  /**
   * Delivers the outcome, once. Every call ends here.
   *
   * @param outcome The reply, or an error.
   * @param sentOn The connection that the call was sent on, for an error that is not its reply.
   */
  settle(outcome: Fields | Error, sentOn?: CallConnection): void {
    if (this.isSettled) return;
    const hasItems = this.state === "streaming";
    const mayHaveStarted = sentOn || hasItems || this.attempts.losses > 0 || !this.isRepeatable;
    this.state = "settled";
    this.owner.deadlines.delete(this);
    if (this.#signal) this.owner.signals.delete(this.#signal, this);
    this.given = NOTHING;
    this.items?.end();
    if (!(outcome instanceof Error)) return this.succeed(outcome, hasItems);
    if (mayHaveStarted && outcome instanceof RpcError && outcome.retryable) {
      const { code, cause } = outcome;
      // Whatever the last server says. Marked as received: a handler may have made this call.
      outcome = markReceived(new RpcError(code, outcome.toJSON().msg, { ...outcome, retryable: false, cause }));
    }
    this.fail(outcome);
  }

  /** Settles the call without a reply. The error may be the caller's own, such as that of another call in its items. */
  end(error: Error): void {
    this.settle(error, this.connection);
  }

  giveUp(error: Error): void {
    this.owner.giveUp(this, error);
  }

  encodeItem(item: unknown): Span {
    return this.owner.encoder.encodeItem(item, this.owner.settings.maxPayloadBytes - ITEM_FIELDS_BYTES);
  }

  handleEvent(): void {
    this.giveUp(this.#cancelled(this.#signal as AbortSignal));
  }

  /** The timeout has passed. For a settled call, this is the server's time to answer a cancel. */
  override expire(): void {
    if (this.isSettled) return this.connection?.missAnswer(this);
    const { connection, attempts: { losses, refusals }, owner: { obstacle, unanswered } } = this;
    let text = `no reply within ${this.patienceMs} ms`;
    let cause: RpcError | undefined;
    if (connection) {
      const waitedMs = Math.max(0, this.patienceMs - (this.ttl ?? 0));
      text += `: sent to ${connection.peer} after ${Math.round(waitedMs)} ms`;
    } else {
      cause = obstacle;
      const reason = cause?.message ?? `${unanswered} calls and streams before it are unanswered`;
      text += losses > 0
        ? `: lost with its connection, and not sent again: ${reason}`
        : `, and the call was not sent${refusals > 0 ? " again" : ""}: ${reason}`;
    }
    this.giveUp(new RpcError("TIMEOUT", text, { retryable: true, cause }));
  }

  /** A stream item has arrived. */
  abstract takeItem(fields: Fields, weightBytes: number): void;
  /** The reply has arrived; `hasItems`: stream items came before it. */
  protected abstract succeed(fields: Fields, hasItems: boolean): void;
  /** The call failed, or there will be no reply. */
  protected abstract fail(error: Error): void;

  #cancelled({ reason: cause }: AbortSignal): RpcError {
    return markReceived(new RpcError("CANCELLED", "the caller's signal was aborted", { retryable: true, cause }));
  }
}

/** A call with one reply. */
export class UnaryCall extends ClientCall {
  /** Set by the creator of the call before it begins. */
  resolve!: (reply: unknown) => void;
  reject!: (error: Error) => void;
  /** Whether the caller wants only the result, not the whole reply. */
  wantsResult = false;

  override takeItem(): void {
    this.giveUp(badReply(`command ${this.name} returns a stream: use client.stream()`));
  }

  protected override succeed(fields: Fields): void {
    this.owner.onAnswered(this);
    this.resolve(this.wantsResult ? fields.res : fields);
  }

  protected override fail(error: Error): void {
    this.owner.onRejected(this, error);
    this.reject(error);
  }
}

/**
 * Checks the time limit of a call.
 *
 * @param timeoutMs The value, of any type; `Infinity` means no limit, and 0 or less means no time is left.
 * @returns The same, as a number of milliseconds.
 * @throws {RangeError} If it is not a number.
 */
export function checkTimeout(timeoutMs: unknown): number {
  if (typeof timeoutMs === "number" && !Number.isNaN(timeoutMs)) return timeoutMs;
  throw new RangeError(`Cannot use "${timeoutMs}" as timeoutMs`);
}

/**
 * The error of a reply. If a server shuts down and a stream, in either direction, outlasts the grace period, the server
 * sends `CANCELLED`. The caller must be able to tell this from its own cancel, because it may continue on another server.
 */
export function receivedError({ err, msg, data, [AFTER]: after }: Fields, isStreaming = false): RpcError {
  if (typeof err !== "string") return badReply("err is not text");
  const retryAfterMs = typeof after === "number" && after >= 0 ? after : undefined;
  const cause = markReceived(new RpcError(err, typeof msg === "string" ? msg : undefined, { data, retryAfterMs }));
  return isStreaming && err === "CANCELLED"
    ? markReceived(
      new RpcError("GOING_AWAY", `the server has cut the stream, go on elsewhere: ${cause.message}`, { cause }),
    )
    : cause;
}

/** A reply that breaks the protocol. */
export function badReply(text: string): RpcError {
  return new RpcError("BAD_REPLY", text);
}
