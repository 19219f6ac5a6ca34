/**
 * The calls of a page that wait to be sent, in order or after a delay. There are few, so a set is enough. The other
 * clients have a queue (`calls.ts`).
 *
 * In: calls. Out: the same calls in their order; a callback when a delayed call is due. Refused: nothing; while `full`
 * is true, no call should be added.
 */

import type { Clock, Timer } from "../transport/clock.ts";
import { MAX_WAITING_BYTES } from "./calls.ts";
import type { ClientCall } from "./client_call.ts";

/** The waiting calls of one client. */
export class WaitingCalls {
  /** Calls that can be sent now. */
  readonly ready = new Set<ClientCall>();
  /** Calls that can be sent later. */
  readonly #delayed = new Map<ClientCall, Timer>();
  #bytes = 0;

  /**
   * @param clock The clock for delayed calls.
   * @param onDue Called when a delayed call is due.
   */
  constructor(readonly clock: Clock, readonly onDue: () => void) {}

  /** How many calls wait. */
  get length(): number {
    return this.ready.size + this.#delayed.size;
  }

  /** Whether the calls have reached their memory limit. */
  get full(): boolean {
    return this.#bytes >= MAX_WAITING_BYTES;
  }

  /** Adds a call, to be sent after a delay in milliseconds. */
  add(call: ClientCall, delayMs = 0): void {
    this.#bytes += call.waitingBytes;
    if (delayMs <= 0) return void this.ready.add(call);
    const due = () => {
      this.#delayed.delete(call);
      this.ready.add(call);
      this.onDue();
    };
    this.#delayed.set(call, this.clock.setTimer(due, delayMs, true));
  }

  /** Removes a call, before it is sent or settled. */
  remove(call: ClientCall): void {
    this.#bytes -= call.waitingBytes;
    this.ready.delete(call);
    const timer = this.#delayed.get(call);
    if (timer !== undefined) this.clock.clearTimer(timer);
    this.#delayed.delete(call);
  }

  /** Removes and returns all calls. */
  takeAll(): ClientCall[] {
    const calls = [...this.ready, ...this.#delayed.keys()];
    for (const call of calls) this.remove(call);
    return calls;
  }
}
