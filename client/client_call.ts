/**
 * One call of a client, from its creation until it is settled: the request to send, and its outcome.
 *
 * In: what the caller asks for. Out: one outcome, once. Refused, on creation: invalid timeouts, and parameters that
 * cannot be sent.
 */

import { AFTER, type Fields } from "../codec/message.ts";
import type { EncodedRequest } from "../codec/write_message.ts";
import type { Span } from "../codec/writer.ts";
import { isReceived, markReceived, RpcError } from "../errors.ts";
import { checkTimeout } from "../limits.ts";
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
  /** The maximum of unanswered calls. */
  readonly maxInFlight: number;
  /** The largest payload in either direction. */
  readonly maxPayloadBytes: number;
  /** While a call is open, the server hears from the client at least this often, in milliseconds; 0 for no such promise. */
  readonly aliveMs: number;
  /** The policy of calls that say nothing else. */
  readonly policy: CallPolicy;
}

/** Watches the ends of many calls. */
export interface Deadlines {
  /** Starts to watch one, unless it is watched or has none. */
  add(deadline: Deadline): void;
  /** Stops; one that is not watched is ignored. */
  delete(deadline: Deadline): void;
}

/** The client, as its calls see it. */
export interface ClientCallOwner extends GivenOwner {
  readonly settings: ClientSettings;
  readonly deadlines: Deadlines;
  readonly signals: Watcher;
  readonly counts: CallCounts;
  /** The memory for unread items of all streams. */
  readonly itemBudget: ItemBudget;
  /** How requests are encoded. */
  readonly encoder: CallEncoder;
  /** The reason if there is no connection. */
  readonly obstacle: RpcError | undefined;
  /** Unanswered calls and streams on all connections. */
  readonly unanswered: number;
  /** Starts a new call. */
  begin(call: ClientCall): void;
  /** A call has its result. */
  onAnswered(call: ClientCall): void;
  /** A call rejects. */
  onRejected(call: ClientCall, error: Error): void;
  /** Settles a call without its reply, and tells the server. */
  giveUp(call: ClientCall, outcome: Error | Fields): void;
}

/** The connection of a call, as the call sees it. */
export interface CallConnection {
  /** The peer's name. */
  readonly peer: string;
  /** Where the callers' streams go. */
  readonly items: ItemOutput;
  /** Grants more items of a stream. */
  grant(call: ClientCall, items: number): void;
  /** Tells the server that the call has ended without its reply. */
  abandon(call: ClientCall): void;
  /** The server has not answered an ended call in time. */
  missAnswer(call: ClientCall): void;
}

/** What the earlier attempts of a call met. */
export interface Attempts {
  /** How often it was lost with a connection. A later reply that it was not started says nothing about these attempts. */
  readonly losses: number;
  /** How often a server refused it, unstarted. */
  readonly refusals: number;
  /** The connection of the last one, if that still exists: the next one goes elsewhere. */
  readonly connection: CallConnection | undefined;
}

/** The `seq` of a PING of the client's own. No call reaches it, and there is one such PING at a time. */
export const PING_SEQ = Number.MAX_SAFE_INTEGER;

/** What every call begins with. */
export const NO_ATTEMPTS: Attempts = { losses: 0, refusals: 0, connection: undefined };

/** The memory of a waiting call without its parameters, roughly. */
const WAITING_CALL_BYTES = 1_024;

/** More than sums of times are rounded by: 5,000 ms from now are not 5,001. */
const ROUNDING_MS = 0.001;

/** Replaces the request of a settled call, to free its memory. */
const NOTHING: Span = { bytes: new Uint8Array(0), start: 0, end: 0 };

/**
 * A call; a subclass delivers its outcome.
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
  /** The milliseconds that were left when it was sent. */
  ttl: number | undefined = undefined;
  /** The connection that it was sent on, while an answer may come from there. */
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
   * @throws {TypeError} If the items are none, or the call may be sent twice and has items.
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
          `Cannot call ${name}: items are not sent twice, so leave idempotent and hedgeAfterMs out`,
        );
      }
    }
    this.items = items && new OutgoingItems(this, items);
    this.#signal = options.signal;
  }

  get isSettled(): boolean {
    return this.state === "settled";
  }

  /** Whether the server may have started it. */
  get mayHaveStarted(): boolean {
    return this.attempts.losses > 0 || this.connection !== undefined;
  }

  /** The memory that it takes while it waits, in bytes. */
  get waitingBytes(): number {
    return WAITING_CALL_BYTES + this.given.end - this.given.start;
  }

  /** Whether it may be sent once more, if a server has refused it unstarted. */
  get isRepeatable(): boolean {
    return this.items?.isGranted !== true;
  }

  /** The longest wait until it is sent, in milliseconds. A stream may last forever, but its start has the timeout of a call. */
  get patienceMs(): number {
    const { policy: { timeoutMs }, owner } = this;
    return timeoutMs === Infinity && this.isStreaming ? owner.settings.policy.timeoutMs : timeoutMs;
  }

  /** Whether it has a stream, in either direction. */
  protected get isStreaming(): boolean {
    return this.items !== undefined;
  }

  /** Whether it is sent again after this error, by which it may have been started. */
  outlives(error: RpcError): boolean {
    return this.policy.idempotent && error.code === "CONNECTION_LOST" && !isReceived(error);
  }

  /** Watches the caller's signal. Ends the call if it is aborted already, or no time is left. */
  begin(): void {
    const signal = this.#signal;
    if (signal?.aborted) return this.end(this.#cancelled(signal));
    if (this.policy.timeoutMs <= 0) {
      return this.end(new RpcError("TIMEOUT", "no time was left, and the call was not sent", { retryable: true }));
    }
    if (signal) this.owner.signals.add(signal, this);
  }

  /** Its time begins, unless it has begun, or the call has ended meanwhile. */
  startTimeout(nowMs: number): void {
    if (this.isSettled || this.deadlineMs !== Infinity) return;
    this.deadlineMs = nowMs + this.patienceMs;
    this.owner.deadlines.add(this);
  }

  /** Records that it is sent on a connection. */
  send(connection: CallConnection, id: number, nowMs: number): void {
    this.state = "sent";
    this.connection = connection;
    this.id = id;
    if (this.policy.timeoutMs !== Infinity) {
      this.ttl = Math.max(1, Math.ceil(this.deadlineMs - nowMs - ROUNDING_MS));
    } else {
      this.owner.deadlines.delete(this);
      this.deadlineMs = Infinity;
    }
  }

  /** Puts it back to waiting: its connection was lost, or the server has certainly not started it. */
  waitAgain(wasLost: boolean): void {
    const { attempts: { losses, refusals }, connection } = this;
    this.attempts = wasLost
      ? { losses: losses + 1, refusals, connection }
      : { losses, refusals: refusals + 1, connection };
    this.state = "waiting";
    this.connection = undefined;
    if (this.policy.timeoutMs === Infinity) this.startTimeout(this.owner.settings.clock.now());
  }

  /** Delivers the outcome, once. Every call ends here. */
  settle(outcome: Fields | Error): void {
    if (this.state === "settled") return;
    const hasItems = this.state === "streaming";
    this.state = "settled";
    this.owner.deadlines.delete(this);
    if (this.#signal) this.owner.signals.delete(this.#signal, this);
    this.given = NOTHING;
    this.items?.end();
    if (outcome instanceof Error) this.fail(this.isStreaming ? cutByServer(outcome) ?? outcome : outcome);
    else this.succeed(outcome, hasItems);
  }

  /** Settles it without a reply. */
  end(error: Error): void {
    this.settle(error);
  }

  giveUp(error: Error): void {
    this.owner.giveUp(this, error);
  }

  encodeItem(item: unknown): Span {
    return this.owner.encoder.encodeItem(item, this.owner.settings.maxPayloadBytes);
  }

  handleEvent(): void {
    this.owner.giveUp(this, this.#cancelled(this.#signal as AbortSignal));
  }

  /** The timeout has passed. For a settled call, this is the time that the server had to answer a cancel. */
  override expire(): void {
    if (this.isSettled) return this.connection?.missAnswer(this);
    const { connection, mayHaveStarted, owner: { obstacle, unanswered } } = this;
    let text = `no reply within ${this.patienceMs} ms`;
    if (connection !== undefined) {
      const waitedMs = Math.max(0, this.patienceMs - (this.ttl ?? 0));
      text += `: sent to ${connection.peer} after ${Math.round(waitedMs)} ms`;
    } else {
      const reason = obstacle?.message ?? `${unanswered} calls and streams before it are unanswered, see maxInFlight`;
      text += mayHaveStarted
        ? `: lost with its connection, and not sent again: ${reason}`
        : `, and the call was not sent${this.attempts.refusals > 0 ? " again" : ""}: ${reason}`;
    }
    const cause = connection === undefined ? obstacle : undefined;
    this.owner.giveUp(this, new RpcError("TIMEOUT", text, { retryable: !mayHaveStarted, cause }));
  }

  /** A stream item has arrived. */
  abstract takeItem(fields: Fields, weightBytes: number): void;
  /** The reply has arrived; `hasItems`: stream items came before it. */
  protected abstract succeed(fields: Fields, hasItems: boolean): void;
  /** The call failed, or there will be no reply. */
  protected abstract fail(error: Error): void;

  #cancelled(signal: AbortSignal): RpcError {
    return new RpcError("CANCELLED", "the caller's signal was aborted", {
      retryable: !this.mayHaveStarted,
      cause: signal.reason,
    });
  }
}

/**
 * A server sends `CANCELLED` on its own if it shuts down and a stream, in either direction, outlasts the grace period. Its
 * caller must be able to tell that from its own cancel: it may go on elsewhere.
 */
export function cutByServer(error: Error): RpcError | undefined {
  if (!(error instanceof RpcError) || error.code !== "CANCELLED" || !isReceived(error)) return undefined;
  return new RpcError("GOING_AWAY", `the server is going away, go on elsewhere: ${error.message}`, { cause: error });
}

/** A call with one reply. */
export class UnaryCall extends ClientCall {
  /** Set by the creator of the call before it begins. */
  resolve!: (reply: unknown) => void;
  reject!: (error: Error) => void;
  /** Whether the caller wants its result alone, and not the whole reply. */
  wantsResult = false;

  override takeItem(): void {
    this.owner.giveUp(
      this,
      new RpcError("BAD_REPLY", `command ${this.name} returns a stream: use client.stream()`),
    );
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

/** The error of a reply. `started`: the call may have been started, even if the code says it was not. */
export function receivedError({ err, msg, data, [AFTER]: after }: Fields, started = false): RpcError {
  if (typeof err !== "string") return badReply("err is not text");
  const retryAfterMs = typeof after === "number" && after >= 0 ? after : undefined;
  const options = { data, retryable: started ? false : undefined, retryAfterMs };
  return markReceived(new RpcError(err, typeof msg === "string" ? msg : undefined, options));
}

/** A reply that breaks the protocol. */
export function badReply(text: string): RpcError {
  return new RpcError("BAD_REPLY", text);
}
