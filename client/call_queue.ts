/**
 * The calls of a client that wait to be sent: in order, or until their time comes.
 *
 * In: calls. Out: the next one; a callback if the time of one has come. Refused: nothing; `full` says that there should
 * be no more.
 */

import { Fifo } from "../session/fifo.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import type { ClientCall } from "./client_call.ts";

/** The memory that all waiting calls may take. */
const MAX_WAITING_BYTES = 256 * 1024 * 1024;

/** The queue of one client. */
export class CallQueue {
  readonly #clock: Clock;
  readonly #onDue: () => void;
  readonly #calls = new Fifo<ClientCall>();
  /** How many of them are already settled; these are skipped. */
  #settled = 0;
  /** Calls that join them later. */
  readonly #delayed = new Map<ClientCall, Timer>();
  /** The memory of all that are not settled. */
  #bytes = 0;

  /**
   * @param clock The clock for delayed calls.
   * @param onDue Called when the time of a delayed call has come.
   */
  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  /** Whether no call can be sent now. */
  get empty(): boolean {
    return this.#calls.length === this.#settled;
  }

  /** How many calls wait, those included whose time has not come. */
  get length(): number {
    return this.#calls.length - this.#settled + this.#delayed.size;
  }

  /** Whether the queue has reached its memory limit. */
  get full(): boolean {
    return this.#bytes >= MAX_WAITING_BYTES;
  }

  push(call: ClientCall): void {
    this.#bytes += call.waitingBytes;
    this.#calls.push(call);
  }

  /** Pushes a call later, after so many milliseconds. */
  pushLater(call: ClientCall, delayMs: number): void {
    if (delayMs <= 0) return this.push(call);
    this.#bytes += call.waitingBytes;
    const due = () => {
      this.#delayed.delete(call);
      this.#calls.push(call);
      this.#onDue();
    };
    // It keeps the program alive, because nothing else may wait for this call.
    this.#delayed.set(call, this.#clock.setTimer(due, delayMs, true));
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
   * Call this before a waiting call is settled. Now and then it also removes settled calls, so that the queue cannot
   * grow while nothing is sent.
   */
  forget(call: ClientCall): void {
    this.#bytes -= call.waitingBytes;
    const timer = this.#delayed.get(call);
    if (timer !== undefined) {
      this.#clock.clearTimer(timer);
      this.#delayed.delete(call);
      return;
    }
    if (2 * this.#settled > this.#calls.length) { for (const other of this.#takeOpen()) this.#calls.push(other); }
    this.#settled++;
  }

  /** Removes and returns those calls that could be sent now and do not wait for a connection. */
  takeImpatient(): ClientCall[] {
    const impatient: ClientCall[] = [];
    for (const call of this.#takeOpen()) {
      if (call.policy.waitForReady) {
        this.#calls.push(call);
      } else {
        this.#bytes -= call.waitingBytes;
        impatient.push(call);
      }
    }
    return impatient;
  }

  /** Removes and returns all waiting calls. */
  takeAll(): ClientCall[] {
    for (const timer of this.#delayed.values()) this.#clock.clearTimer(timer);
    const calls = [...this.#takeOpen(), ...this.#delayed.keys()];
    this.#delayed.clear();
    this.#bytes = 0;
    return calls;
  }

  #takeOpen(): ClientCall[] {
    this.#settled = 0;
    return this.#calls.takeAll().filter((call) => !call.isSettled);
  }
}
