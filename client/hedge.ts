/**
 * A hedged call: if its answer takes long, a second copy goes to another server, and the first answer wins.
 *
 * In: a call that may run twice. Out: its outcome. While the first copy runs, the second one decides only if it
 * succeeds. If the first is refused or lost, the second decides alone: the first is sent again only after it. The second
 * copy counts as a retry in the client's budget, and is cancelled when the call has ended. It is made when a connection
 * to another server is ready, so it never waits in the client's queue. Refused, on creation: calls that may not run
 * twice, and invalid times.
 */

import type { Span } from "../codec/frame.ts";
import type { Fields } from "../codec/message.ts";
import { isReceived, RpcError } from "../errors.ts";
import { UNWATCHED } from "../session/deadlines.ts";
import type { CallOptions } from "./call_options.ts";
import { type CallConnection, ClientCall, type ClientCallOwner, UnaryCall } from "./client_call.ts";
import type { ClientConnection } from "./client_connection.ts";
import type { AnswersOwner } from "./replies.ts";
import type { LateCall } from "./servers.ts";

/** If there is no second server at that time, or it refuses the copy, look again after at least this time. */
const LOOK_AGAIN_MS = 100;

/** The part of the client that hedged calls use. */
export interface HedgeOwner extends AnswersOwner {
  /**
   * Whether a call that was sent on this connection may get a second copy now. If so, the client has it sent as soon as
   * another connection is ready.
   */
  mayHedge(call: LateCall, connection: CallConnection): boolean;
}

/** A call that may get a second copy. */
export class HedgedCall extends UnaryCall implements LateCall {
  declare protected readonly owner: HedgeOwner;
  /** Starts the second copy. */
  readonly #timer = { deadlineMs: 0, slotPlace: UNWATCHED, expire: () => this.#hedge() };
  /** The second copy, unless its server has certainly not started it. */
  #second: SecondCopy | undefined;
  /** Why the first copy got no answer, while the second one runs. */
  #missing: RpcError | undefined;
  readonly #afterMs: number;

  constructor(owner: HedgeOwner, name: string, given: Span, options: CallOptions) {
    super(owner, name, given, options);
    this.#afterMs = options.hedgeAfterMs as number;
    if (!this.policy.idempotent) {
      throw new TypeError(`Cannot hedge ${name}: a second copy runs beside the first, so it must be idempotent`);
    }
    if (typeof this.#afterMs !== "number" || !(this.#afterMs >= 0)) {
      throw new RangeError(
        `Cannot use ${this.#afterMs} as hedgeAfterMs: it must be a number of milliseconds from 0 up`,
      );
    }
  }

  override begin(): void {
    super.begin();
    if (!this.isSettled) this.#hedgeIn(this.#afterMs);
  }

  #hedgeIn(ms: number): void {
    this.#timer.deadlineMs = this.owner.settings.clock.now() + ms;
    this.owner.deadlines.add(this.#timer);
  }

  #hedge(): void {
    // A waiting call needs no second copy, because it goes to the first server with room. For a sent call, a second
    // server may still be connecting.
    if (this.connection === undefined || !this.owner.mayHedge(this, this.connection)) this.#lookAgain();
  }

  #lookAgain(leastMs = 0): void {
    this.#hedgeIn(Math.max(this.#afterMs, LOOK_AGAIN_MS, leastMs));
  }

  sendSecond(connection: ClientConnection, nowMs: number): void {
    this.owner.counts.hedged++;
    this.#second = new SecondCopy(this.owner, this);
    connection.send(this.#second, nowMs);
  }

  get #runsTwice(): boolean {
    return this.#second?.isSettled === false;
  }

  /** While the second copy runs, the first one is not sent again: there would be three. */
  override outlives(error: RpcError): boolean {
    return !this.#runsTwice && super.outlives(error);
  }

  override get isRepeatable(): boolean {
    return !this.#runsTwice && super.isRepeatable;
  }

  /** The second copy has failed. If the first one runs, it decides. If no server has started the second, try another. */
  onSecondFailed(error: Error): void {
    if (this.isSettled) return;
    const missing = this.#missing;
    this.#missing = undefined;
    if (missing !== undefined && !isMissing(error)) return this.settle(error);
    if (error instanceof RpcError && error.retryable) {
      this.#second = undefined;
      this.#lookAgain(error.retryAfterMs);
    }
    if (missing === undefined) return;
    if (missing.code === "CONNECTION_LOST") this.owner.onFailed(this, missing);
    else this.owner.onRefused(this, missing);
  }

  override settle(outcome: Fields | Error, sentOn?: CallConnection): void {
    if (this.isSettled) return;
    if (this.#runsTwice && isMissing(outcome)) return void (this.#missing = outcome);
    const second = this.#second;
    const { attempts } = this;
    // The second copy may run too, so it counts as one that was lost: the error of the first says nothing about it.
    if (second !== undefined) this.attempts = { ...attempts, losses: attempts.losses + 1 };
    super.settle(outcome, sentOn);
    this.owner.deadlines.delete(this.#timer);
    if (second === undefined || second.isSettled) return;
    this.owner.giveUp(second, new RpcError("CANCELLED", "the other copy of the call was answered first"));
  }

  override expire(): void {
    const cause = this.#missing;
    if (cause === undefined || this.isSettled) return super.expire();
    const text = `no reply within ${this.patienceMs} ms: ${cause.message}, and its second copy has no answer`;
    this.giveUp(new RpcError("TIMEOUT", text, { cause }));
  }
}

/** Whether a copy got no answer: it was refused or lost. */
function isMissing(outcome: Fields | Error): outcome is RpcError {
  if (!(outcome instanceof RpcError)) return false;
  const { code } = outcome;
  return code === "SHUTTING_DOWN" || code === "OVERLOADED" || code === "CONNECTION_LOST" && !isReceived(outcome);
}

/** The second copy of a call. It is sent once, and the timeout of the first copy ends both. */
class SecondCopy extends ClientCall {
  readonly #first: HedgedCall;

  constructor(owner: ClientCallOwner, first: HedgedCall) {
    super(owner, first.name, first.given, { timeoutMs: first.policy.timeoutMs });
    this.#first = first;
    this.deadlineMs = first.deadlineMs;
  }

  /** A refused copy is not queued again, where it could meet the first one. */
  override get patienceMs(): number {
    return 0;
  }

  protected override succeed(fields: Fields): void {
    this.owner.giveUp(this.#first, fields);
  }

  protected override fail(error: Error): void {
    this.#first.onSecondFailed(error);
  }

  override takeItem(): void {
    this.owner.giveUp(this, new RpcError("BAD_REPLY"));
  }
}
