/**
 * Runs a load test: calls one command over many connections and measures the outcome.
 *
 * In: connected clients; the number of calls, the duration, or the rate. Out: a {@linkcode Bench}, whose counts grow
 * while it runs. Refused: nothing; a failed call is counted by its code.
 *
 * Without a rate, each reply starts the next call, and a latency runs from the call to its outcome. That hides a stall
 * of the server, because no calls are made meanwhile. With a rate, calls are due at fixed times, and a latency runs
 * from the time a call was due, even if it had to wait.
 */

import { RpcError } from "../errors.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { type Clock, sleep, systemClock } from "../transport/clock.ts";
import type { CommandCall } from "./call.ts";
import { textFor } from "./error_text.ts";
import { LatencyHistogram } from "./latency_histogram.ts";

/** The parameters of a load test. */
export interface Load {
  readonly call: CommandCall;
  /** Metadata of each call, such as a token. */
  readonly meta?: Record<string, string>;
  /** How long a call with a stream of items may take, in milliseconds; other calls have the client's timeout. */
  readonly timeoutMs?: number;
  /** The largest payload, in bytes. */
  readonly maxPayloadBytes?: number;
  /** The largest number of calls in flight on each connection. */
  readonly inFlight: number;
  /** The number of calls; `Infinity` if the duration is given. */
  readonly calls: number;
  /** The duration in milliseconds; `Infinity` if the number of calls is given. */
  readonly durationMs: number;
  /** Calls per second over all connections; `undefined`: as fast as possible. */
  readonly rate: number | undefined;
}

/** The options of one call. */
interface LoadCall {
  readonly meta?: Record<string, string>;
  readonly timeoutMs?: number;
  readonly items?: AsyncIterable<unknown>;
}

/** What a load test needs from a client. */
export interface Callable {
  call(name: string, params: Record<string, unknown>, options: LoadCall): Promise<unknown>;
}

/** A clock that can wait; a test may supply its own. */
interface Pace {
  now(): number;
  /** Waits this many milliseconds, as exactly as possible. */
  wait(milliseconds: number): Promise<void>;
}

/** How long to wait for calls in flight after the duration: a server that is gone does not answer them. */
const LAST_REPLIES_MS = 500;

/** How late a timer of the runtime may fire. The rest of a wait is spent in turns of the event loop. */
const TIMER_SLACK_MS = 6;

/** A signal that never aborts. */
const NEVER = new AbortController().signal;

/** Waits exactly. A wait may be longer than a timer of the runtime: a low rate has years between two calls. */
export function paceOf(clock: Clock): Pace {
  return {
    now: () => clock.now(),
    async wait(milliseconds) {
      const endMs = clock.now() + milliseconds;
      if (milliseconds > TIMER_SLACK_MS) await sleep(clock, milliseconds - TIMER_SLACK_MS, NEVER);
      while (clock.now() < endMs) await new Promise((wake) => setImmediate(wake));
    },
  };
}

/** Failures of one kind. */
interface Failures {
  count: number;
  /** The text of the first one. */
  readonly text: string;
}

/** A load test, running or ended. */
export class Bench {
  /** The times from when a call was due to its outcome, good or bad. */
  readonly latencies = new LatencyHistogram();
  /** Failures by code. */
  readonly failures = new Map<string, Failures>();
  /** The number of calls made. */
  sent = 0;

  readonly #load: Load;
  readonly #pace: Pace;
  /** One entry for each call that may be made now; the connections alternate. */
  #free: Callable[];
  #startMs = NaN;
  #lastMs = NaN;
  #stopped = false;
  /** Resolves when all calls have ended and no more will be made. */
  readonly #over = Promise.withResolvers<void>();
  /** Called when another call may be made. */
  #onFree: () => void = () => {};

  constructor(clients: readonly Callable[], load: Load, pace: Pace = paceOf(systemClock)) {
    this.#load = load;
    this.#pace = pace;
    this.#free = Array.from({ length: load.inFlight }, () => clients).flat();
  }

  /** Runs the test. Resolves when all calls have an outcome or the test is stopped; never rejects. */
  async run(): Promise<void> {
    this.#startMs = this.#lastMs = this.#pace.now();
    if (this.#load.durationMs < Infinity) void this.#endInTime();
    if (this.#load.rate === undefined) this.#fill();
    else await Promise.race([this.#keepRate(), this.#over.promise]);
    this.#endIfDone();
    await this.#over.promise;
  }

  /** Stops at once, even if calls are in flight. */
  stop(): void {
    this.#stopAt(this.#pace.now());
  }

  /** The number of calls with an outcome. */
  get settled(): number {
    return this.latencies.count;
  }

  /** The number of calls without an outcome: in flight, now or at the stop. */
  get unanswered(): number {
    return this.sent - this.settled;
  }

  /** The number of calls that were due but could not be made in time. */
  get overdue(): number {
    const { rate, calls, durationMs } = this.#load;
    if (rate === undefined) return 0;
    const dueMs = this.#stopped ? Math.min(this.elapsedMs, durationMs) : durationMs;
    return Math.max(0, Math.min(calls, Math.ceil(dueMs * rate / 1000)) - this.sent);
  }

  /** The time from the start to the last outcome, in milliseconds. */
  get elapsedMs(): number {
    return this.#lastMs - this.#startMs;
  }

  /** Outcomes per second. */
  get callsPerSecond(): number {
    return this.settled / this.elapsedMs * 1000;
  }

  #stopAt(lastMs: number): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#lastMs = lastMs;
    this.#over.resolve();
  }

  async #endInTime(): Promise<void> {
    await this.#pace.wait(this.#load.durationMs + LAST_REPLIES_MS);
    if (this.unanswered > 0) this.#stopAt(Math.max(this.#lastMs, this.#endMs));
  }

  /** Makes as many calls as allowed. */
  #fill(): void {
    const free = this.#free;
    this.#free = [];
    for (const [place, client] of free.entries()) {
      if (this.#begin(client)) continue;
      this.#free.push(...free.slice(place));
      return;
    }
  }

  async #keepRate(): Promise<void> {
    while (!this.#doneAt(this.#pace.now())) {
      if (this.#free.length === 0) await new Promise<void>((wake) => this.#onFree = wake);
      const waitMs = this.#nextDueMs - this.#pace.now();
      if (waitMs > 0) await this.#pace.wait(Math.min(waitMs, this.#endMs - this.#pace.now()));
      this.#fill();
    }
  }

  /** Makes the next call if one is due. */
  #begin(client: Callable): boolean {
    const nowMs = this.#pace.now();
    const dueMs = this.#load.rate === undefined ? nowMs : this.#nextDueMs;
    if (this.#doneAt(nowMs) || dueMs > nowMs) return false;
    this.sent++;
    const { call: { name, params, items }, meta, timeoutMs, maxPayloadBytes = DEFAULT_LIMITS.maxPayloadBytes } =
      this.#load;
    const stream = items && { timeoutMs, items: { [Symbol.asyncIterator]: () => items.open(maxPayloadBytes) } };
    client.call(name, params, { meta, ...stream }).then(
      () => this.#settle(client, dueMs),
      (error) => {
        this.#countFailure(error);
        this.#settle(client, dueMs);
      },
    );
    return true;
  }

  #settle(client: Callable, dueMs: number): void {
    if (this.#stopped) return;
    this.#lastMs = this.#pace.now();
    this.latencies.record(this.#lastMs - dueMs);
    if (this.#begin(client)) return;
    this.#free.push(client);
    this.#onFree();
    this.#endIfDone();
  }

  #countFailure(error: unknown): void {
    if (this.#stopped) return;
    const isCallError = error instanceof RpcError;
    const code = isCallError ? error.toJSON().err : "ERROR";
    const failures = this.failures.get(code);
    if (failures) failures.count++;
    else this.failures.set(code, { count: 1, text: isCallError ? textFor(error) ?? "" : String(error) });
  }

  #endIfDone(): void {
    if (this.unanswered === 0 && this.#doneAt(this.#pace.now())) this.#over.resolve();
  }

  /** Whether no more calls will be made. */
  #doneAt(nowMs: number): boolean {
    return this.#stopped || this.sent >= this.#load.calls || nowMs >= this.#endMs;
  }

  get #endMs(): number {
    return this.#startMs + this.#load.durationMs;
  }

  get #nextDueMs(): number {
    return this.#startMs + this.sent * 1000 / (this.#load.rate ?? NaN);
  }
}
