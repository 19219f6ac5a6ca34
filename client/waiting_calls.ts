/**
 * The calls of a page that wait to be sent: in order, or until their time comes. There are few, and so a set does; the other
 * clients have a queue (`calls.ts`).
 *
 * In: calls. Out: the same in their order; a callback if the time of one has come. Refused: nothing; `full` says that there
 * should be no more.
 */

import type { Clock, Timer } from "../transport/clock.ts";
import { MAX_WAITING_BYTES } from "./calls.ts";
import type { ClientCall } from "./client_call.ts";

/** The waiting calls of one client. */
export class WaitingCalls {
  /** Those that can be sent now. */
  readonly ready = new Set<ClientCall>();
  /** Those that join them later. */
  readonly #delayed = new Map<ClientCall, Timer>();
  #bytes = 0;

  /**
   * @param clock The clock for delayed calls.
   * @param onDue Called when the time of a delayed call has come.
   */
  constructor(readonly clock: Clock, readonly onDue: () => void) {}

  /** How many there are. */
  get length(): number {
    return this.ready.size + this.#delayed.size;
  }

  /** Whether they have reached their memory limit. */
  get full(): boolean {
    return this.#bytes >= MAX_WAITING_BYTES;
  }

  /** Adds a call, to be sent after so many milliseconds. */
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

  /** Removes and returns all. */
  takeAll(): ClientCall[] {
    const calls = [...this.ready, ...this.#delayed.keys()];
    for (const call of calls) this.remove(call);
    return calls;
  }
}
