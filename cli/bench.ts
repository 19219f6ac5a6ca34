/**
 * A load: calls of one command over many connections, as many in flight on each as are wanted, and what they came to.
 *
 * In: clients, connected; how many calls, or for how long, or at which rate. Out: a {@linkcode Bench}, whose counts
 * grow while it runs. Refused: nothing; a call that fails is counted by its code.
 *
 * Without a rate, each reply makes room for the next call, and a latency is the time from the call to its outcome. That
 * hides what a slow server does to callers who do not wait for one another: while it stalls, nobody calls. With a
 * rate, calls are due at fixed times whatever the server does, and a latency counts from the time a call was due, also
 * where it had to wait for a place.
 */

import { RpcError } from "../errors.ts";
import type { CommandCall } from "./call.ts";
import { LatencyHistogram } from "./latency_histogram.ts";

/** What is wanted. */
export interface Load {
  readonly call: CommandCall;
  /** Calls that may be in flight on each connection. */
  readonly inFlight: number;
  /** How many calls; `Infinity` if time ends it. */
  readonly calls: number;
  /** For how long calls are made, in milliseconds; `Infinity` if their number ends it. */
  readonly durationMs: number;
  /** Calls a second, over all connections; `undefined`: as many as there is room for. */
  readonly rate: number | undefined;
}

/** All that a load needs of a client. */
export interface Callable {
  call(name: string, params: Record<string, unknown>): Promise<unknown>;
}

/** The time, and a way to let it pass; a test may have its own. */
export interface Pace {
  now(): number;
  /** Waits for so many milliseconds, as exactly as it can. */
  wait(milliseconds: number): Promise<void>;
}

/** How long calls in flight are waited for behind a duration: a server that has gone answers none of them. */
const LAST_REPLIES_MS = 500;

/** A timer of the runtime is so late, or less. The rest of a wait is spent in turns of the event loop. */
const TIMER_SLACK_MS = 6;

const machinePace: Pace = {
  now: () => performance.now(),
  async wait(milliseconds) {
    const endMs = performance.now() + milliseconds;
    if (milliseconds > TIMER_SLACK_MS) await new Promise((wake) => setTimeout(wake, milliseconds - TIMER_SLACK_MS));
    while (performance.now() < endMs) await new Promise((wake) => setImmediate(wake));
  },
};

/** Failures of one kind. */
export interface Failures {
  count: number;
  /** What the first of them said. */
  readonly text: string;
}

/** A load, while it runs and when it has ended. */
export class Bench {
  /** From the time a call was due to its outcome, good or bad. */
  readonly latencies = new LatencyHistogram();
  /** Failures by code. */
  readonly failures = new Map<string, Failures>();
  /** Calls that were made. */
  sent = 0;

  readonly #load: Load;
  readonly #pace: Pace;
  /** A place for each call that may be in flight, those of one connection apart from one another. */
  #free: Callable[];
  #inFlight = 0;
  #startMs = NaN;
  #lastMs = NaN;
  #stopped = false;
  /** Resolves when nothing is in flight and nothing more will be. */
  readonly #over = Promise.withResolvers<void>();
  /** Called when a place has become free. */
  #onFree: () => void = () => {};

  constructor(clients: readonly Callable[], load: Load, pace: Pace = machinePace) {
    this.#load = load;
    this.#pace = pace;
    this.#free = Array.from({ length: load.inFlight }, () => clients).flat();
  }

  /** Runs it. Resolves when all calls have their outcome, or when it is stopped; never rejects. */
  async run(): Promise<void> {
    this.#startMs = this.#lastMs = this.#pace.now();
    if (this.#load.durationMs < Infinity) void this.#endInTime();
    if (this.#load.rate === undefined) this.#fill();
    else await Promise.race([this.#keepRate(), this.#over.promise]);
    this.#endIfDone();
    await this.#over.promise;
  }

  /** Ends it now, with calls in flight. */
  stop(): void {
    this.#stopAt(this.#pace.now());
  }

  /** Calls that have an outcome. */
  get settled(): number {
    return this.latencies.count;
  }

  /** Calls without an outcome: in flight when it was stopped. */
  get unanswered(): number {
    return this.sent - this.settled;
  }

  /** Calls that the rate wanted and that could not be made in time. */
  get overdue(): number {
    const { rate, calls, durationMs } = this.#load;
    if (rate === undefined) return 0;
    const dueMs = this.#stopped ? Math.min(this.elapsedMs, durationMs) : durationMs;
    return Math.max(0, Math.min(calls, Math.ceil(dueMs * rate / 1000)) - this.sent);
  }

  /** From the start to the last outcome, in milliseconds. */
  get elapsedMs(): number {
    return this.#lastMs - this.#startMs;
  }

  /** Outcomes a second. */
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
    if (this.#inFlight > 0) this.#stopAt(Math.max(this.#lastMs, this.#endMs));
  }

  /** Makes all calls for which there is room. */
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

  /** Makes the next call, if there is one and it is due. */
  #begin(client: Callable): boolean {
    const nowMs = this.#pace.now();
    const dueMs = this.#load.rate === undefined ? nowMs : this.#nextDueMs;
    if (this.#doneAt(nowMs) || dueMs > nowMs) return false;
    this.sent++;
    this.#inFlight++;
    const { name, params } = this.#load.call;
    client.call(name, params).then(
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
    this.#inFlight--;
    if (this.#begin(client)) return;
    this.#free.push(client);
    this.#onFree();
    this.#endIfDone();
  }

  #countFailure(error: unknown): void {
    if (this.#stopped) return;
    const { err, msg = "" } = error instanceof RpcError ? error.toJSON() : { err: "ERROR", msg: String(error) };
    const failures = this.failures.get(err);
    if (failures) failures.count++;
    else this.failures.set(err, { count: 1, text: msg });
  }

  #endIfDone(): void {
    if (this.#inFlight === 0 && this.#doneAt(this.#pace.now())) this.#over.resolve();
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
