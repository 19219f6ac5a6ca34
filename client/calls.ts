/**
 * The data about all calls of a client: the queue of waiting calls, the signals that may abort calls or clients, and
 * counts of outcomes.
 *
 * In: calls. Out: the next waiting call; a callback when a delayed call is due; a notice to each call and
 * client whose signal is aborted; counts. Refused: nothing; while `full` is true, no call should be added.
 */

import { RpcError } from "../errors.ts";
import { checkOptions, OPTION_KINDS } from "../limits.ts";
import { countCode, Fifo, OTHER_CODES } from "../session/collections.ts";
import type { Clock, Timer } from "../transport/clock.ts";

/** The memory that all waiting calls may take. */
export const MAX_WAITING_BYTES = 256 * 1024 * 1024;

/** The part of a call that the queue uses. */
interface QueuedCall {
  readonly isSettled: boolean;
  /** The memory that it takes while it waits. */
  readonly waitingBytes: number;
  readonly policy: { readonly waitForReady: boolean };
  /** Starts the timeout, unless the call has ended. */
  startTimeout(nowMs: number): void;
}

/** The queue of one client. */
export class CallQueue<Call extends QueuedCall> {
  readonly #clock: Clock;
  readonly #onDue: () => void;
  readonly #calls = new Fifo<Call>();
  /** How many of these calls are already settled. They are skipped. */
  #settled = 0;
  /** The new calls of this turn. The array is reused. */
  readonly #begun: (Call | undefined)[] = [];
  #begunCalls = 0;
  /** Calls that join the queue later. */
  readonly #delayed = new Map<Call, Timer>();
  /** The memory of all unsettled calls. */
  #bytes = 0;

  /**
   * @param clock The clock for delayed calls.
   * @param onDue Called when a delayed call is due.
   */
  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  /** Whether no call can be sent now. */
  get empty(): boolean {
    return this.#calls.length === this.#settled;
  }

  /** How many calls wait, including delayed calls. */
  get length(): number {
    return this.#calls.length - this.#settled + this.#delayed.size;
  }

  /** Whether the queue has reached its memory limit. */
  get full(): boolean {
    return this.#bytes >= MAX_WAITING_BYTES;
  }

  /** Pushes a new call. */
  begin(call: Call): void {
    this.#begun[this.#begunCalls++] = call;
    this.push(call);
  }

  /**
   * Starts the timeouts of new calls, at the end of the turn that makes them. The time that their caller spends on
   * computing does not count.
   */
  startTimeouts(nowMs: number): void {
    while (this.#begunCalls > 0) {
      const call = this.#begun[--this.#begunCalls] as Call;
      this.#begun[this.#begunCalls] = undefined;
      call.startTimeout(nowMs);
    }
  }

  push(call: Call): void {
    this.#bytes += call.waitingBytes;
    this.#calls.push(call);
  }

  /** Pushes a call after a delay, in milliseconds. */
  pushLater(call: Call, delayMs: number): void {
    if (delayMs <= 0) return this.push(call);
    this.#bytes += call.waitingBytes;
    const due = () => {
      this.#delayed.delete(call);
      this.#calls.push(call);
      this.#onDue();
    };
    // The timer keeps the program alive, because nothing else may wait for this call.
    this.#delayed.set(call, this.#clock.setTimer(due, delayMs, true));
  }

  /** The next call that still waits. */
  shift(): Call | undefined {
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
  forget(call: Call): void {
    this.#bytes -= call.waitingBytes;
    const timer = this.#delayed.get(call);
    if (timer !== undefined) {
      this.#clock.clearTimer(timer);
      this.#delayed.delete(call);
      return;
    }
    if (2 * this.#settled > this.#calls.length) this.#open();
    this.#settled++;
  }

  /**
   * The calls that do not wait for a connection, except delayed calls. They stay in the queue until each is forgotten,
   * because the end of one may end another.
   */
  impatient(): Call[] {
    return this.#open().filter(({ policy }) => !policy.waitForReady);
  }

  /** All waiting calls. They stay in the queue, like {@linkcode impatient} ones. */
  all(): Call[] {
    return [...this.#open(), ...this.#delayed.keys()];
  }

  /** The calls that can be sent now. Removes the settled ones. */
  #open(): Call[] {
    const open = this.#calls.takeAll().filter((call) => !call.isSettled);
    this.#settled = 0;
    for (const call of open) this.#calls.push(call);
    return open;
  }
}

/** A listener of a signal's `abort` event. */
export interface Abortable {
  /** Its signal was aborted. */
  handleEvent(): void;
}

/** Watches the signals of calls. */
export interface Watcher {
  /** Starts to watch. */
  add(signal: AbortSignal, abortable: Abortable): void;
  /** Stops watching; an unknown object is ignored. */
  delete(signal: AbortSignal, abortable: Abortable): void;
}

/**
 * Calls and clients with the same `AbortSignal` share one listener, because the runtime searches all listeners to remove
 * one, and Node warns of more than ten.
 */
class Signals implements Watcher {
  /** Weak, so that a signal that is forgotten together with its clients is collected. */
  readonly #watched = new WeakMap<AbortSignal, Set<Abortable>>();
  readonly #onAbort = (event: Event) => this.#abort(event.currentTarget as AbortSignal);

  add(signal: AbortSignal, abortable: Abortable): void {
    const others = this.#watched.get(signal);
    if (others) {
      others.add(abortable);
    } else {
      checkOptions({ signal }, { signal: OPTION_KINDS.signal }); // a middleware comes before the check of a call
      signal.addEventListener("abort", this.#onAbort, { once: true });
      this.#watched.set(signal, new Set([abortable]));
    }
  }

  delete(signal: AbortSignal, abortable: Abortable): void {
    const others = this.#watched.get(signal);
    if (!others?.delete(abortable) || others.size > 0) return;
    this.#watched.delete(signal);
    signal.removeEventListener("abort", this.#onAbort);
  }

  #abort(signal: AbortSignal): void {
    const all = this.#watched.get(signal) ?? [];
    this.#watched.delete(signal);
    for (const each of all) each.handleEvent();
  }
}

/** The signals of all clients. A page's client does without; the mark lets a bundler leave it out. */
export const signals: Watcher = /* @__PURE__ */ new Signals();

/** The counts of a client since its start. Streams count as calls. */
export interface ClientStatistics {
  /** All calls so far: `answered`, `failed`, `inFlight` or `waiting`. */
  begun: number;
  /** Calls that got a result, and streams that have ended or whose readers have left. */
  answered: number;
  /**
   * Calls that failed, by code: the server's codes, and the client's own, such as `TIMEOUT`. After 64 codes, all others
   * count as `OTHER`. Errors without a code also count as `OTHER`.
   */
  failed: Record<string, number>;
  /** Calls that were sent and are not answered yet. */
  inFlight: number;
  /** Calls that wait for a connection, for a place among the calls in flight, or before a retry. */
  waiting: number;
  /** The number of resent calls. */
  retried: number;
  /** The number of second copies of calls, see `hedgeAfterMs`. */
  hedged: number;
  /** Replies and items that came after their call had ended. */
  lateReplies: number;
}

/** The outcomes of the calls that were sent to one server. */
export interface SentCalls {
  /** Calls and streams that were sent to it, including retries. */
  sent: number;
  /** Calls that it refused and did not start: `OVERLOADED`, `SHUTTING_DOWN`. */
  refused: number;
  /** Calls that were lost with a connection. */
  lost: number;
}

/** The counts of one client. A call costs three additions and no allocation. A failed call also costs a map lookup. */
export class CallCounts {
  begun = 0;
  retried = 0;
  hedged = 0;
  lateReplies = 0;
  answered = 0;
  readonly #failed = new Map<string, number>();

  /** A call has failed. */
  failed(error: Error): void {
    countCode(this.#failed, error instanceof RpcError ? error.code : OTHER_CODES, 1);
  }

  /**
   * All counts.
   *
   * @param waiting How many calls wait to be sent.
   */
  snapshot(waiting: number): ClientStatistics {
    const { begun, answered, retried, hedged, lateReplies } = this;
    const failed = [...this.#failed.values()].reduce((sum, calls) => sum + calls, 0);
    return {
      begun,
      answered,
      failed: Object.fromEntries(this.#failed),
      inFlight: begun - answered - failed - waiting,
      waiting,
      retried,
      hedged,
      lateReplies,
    };
  }
}
