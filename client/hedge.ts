/**
 * A hedged call: if its answer takes long, a second copy goes to another server, and the first answer wins.
 *
 * In: a call that may run twice. Out: its outcome. The second copy decides only if it succeeds. It counts as a retry in
 * the client's budget, and is cancelled when the call has ended. Refused, on creation: calls that may not run twice,
 * and invalid times.
 */

import type { Span } from "../codec/frame.ts";
import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { UNWATCHED } from "../session/deadlines.ts";
import type { CallOptions } from "./call_options.ts";
import { type CallConnection, ClientCall, type ClientCallOwner, UnaryCall } from "./client_call.ts";

/** If there is no second server at that time, look again after at least this time. */
const LOOK_AGAIN_MS = 100;

/** The part of the client that hedged calls use. */
export interface HedgeOwner extends ClientCallOwner {
  /** Whether a second copy may be sent now, on another connection than this one. If so, counts it. */
  mayHedge(connection: CallConnection): boolean;
}

/** A call that may get a second copy. */
export class HedgedCall extends UnaryCall {
  declare protected readonly owner: HedgeOwner;
  /** Starts the second copy. */
  readonly #timer = { deadlineMs: 0, slotPlace: UNWATCHED, expire: () => this.#hedge() };
  #second: SecondCopy | undefined;
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
    if (this.connection === undefined || !this.owner.mayHedge(this.connection)) {
      return this.#hedgeIn(Math.max(this.#afterMs, LOOK_AGAIN_MS));
    }
    this.#second = new SecondCopy(this.owner, this);
    this.owner.begin(this.#second);
  }

  override settle(outcome: Fields | Error): void {
    if (this.isSettled) return;
    super.settle(outcome);
    this.owner.deadlines.delete(this.#timer);
    const second = this.#second;
    if (second === undefined || second.isSettled) return;
    this.owner.giveUp(second, new RpcError("CANCELLED", "the other copy of the call was answered first"));
  }
}

/** The second copy of a call. */
class SecondCopy extends ClientCall {
  readonly #first: ClientCall;

  constructor(owner: ClientCallOwner, first: ClientCall) {
    const timeoutMs = first.deadlineMs - owner.settings.clock.now();
    super(owner, first.name, first.given, { timeoutMs, waitForReady: false });
    this.#first = first;
    this.attempts = { ...this.attempts, connection: first.connection };
  }

  protected override succeed(fields: Fields): void {
    this.owner.giveUp(this.#first, fields);
  }

  /** The first copy decides. */
  protected override fail(): void {}

  override takeItem(): void {
    this.owner.giveUp(this, new RpcError("BAD_REPLY"));
  }
}
