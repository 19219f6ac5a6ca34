/**
 * Counts the answered calls of one connection, reading the clock once for many of them.
 *
 * In: calls, when they are answered. Out: the counts of their commands. Successful calls of the current batch are only
 * counted, not listed: a list would outlive them. Refused: nothing.
 */

import type { Clock } from "../transport/clock.ts";
import type { Arrival } from "../session/arrival.ts";
import type { Call } from "./call.ts";
import type { RegisteredCommand } from "./registry.ts";

/** The counter of one connection. */
export class AnswerCounter {
  /** When the clock was last looked at. */
  lookedMs = -Infinity;
  readonly #clock: Clock;
  #answered: Call[] = [];
  /** When the current batch arrived. */
  #batchArrival: Arrival | undefined;
  #batchEntries: RegisteredCommand[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Begins a batch; its calls are counted at the end. */
  beginBatch(arrival: Arrival): void {
    this.#batchArrival = arrival;
  }

  /** Ends it, and returns the time when it was last looked at. */
  endBatch(): number {
    this.count();
    this.#batchArrival = undefined;
    return this.lookedMs;
  }

  /** A call got its final reply. */
  add(call: Call): void {
    const { entry, arrival, code } = call;
    if (arrival === this.#batchArrival && code === undefined) {
      if (entry.counts.uncounted++ === 0) this.#batchEntries.push(entry);
    } else {
      this.#answered.push(call);
      if (this.#answered.length === 1) queueMicrotask(() => this.count());
    }
  }

  /** Counts the calls answered so far. */
  count(): void {
    if (this.#answered.length === 0 && this.#batchEntries.length === 0) return;
    const nowMs = this.lookedMs = this.#clock.now();
    for (const { entry, arrival, code } of this.#answered) entry.counts.answered(nowMs - arrival.readMs, code);
    this.#answered = [];
    for (const { counts } of this.#batchEntries) {
      counts.answered(nowMs - this.#batchArrival!.readMs, undefined, counts.uncounted);
      counts.uncounted = 0;
    }
    this.#batchEntries = [];
  }
}
