/**
 * Counts the calls of one connection that got their final reply, many with one look at the clock.
 *
 * In: calls, as they are answered. Out: the counts of their commands. The successes of the batch that is being taken are
 * only numbered: a list of them would outlive them.
 */

import type { Clock } from "../transport/clock.ts";
import type { Call } from "./call.ts";
import type { RegisteredCommand } from "./registry.ts";

/** Counts for one connection. */
export class AnswerCounter {
  readonly #clock: Clock;
  #answered: Call[] = [];
  /** When the batch came that is being taken. */
  #batchArrivedMs = NaN;
  #batchEntries: RegisteredCommand[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A batch is taken: its calls are counted at its end. */
  beginBatch(arrivedMs: number): void {
    this.#batchArrivedMs = arrivedMs;
  }

  endBatch(): void {
    this.count();
    this.#batchArrivedMs = NaN;
  }

  /** A call got its final reply. */
  add(call: Call): void {
    const { entry, arrivedMs, code } = call;
    if (arrivedMs === this.#batchArrivedMs && code === undefined) {
      if (entry.counts.uncounted++ === 0) this.#batchEntries.push(entry);
    } else {
      this.#answered.push(call);
      if (this.#answered.length === 1) queueMicrotask(() => this.count());
    }
  }

  /** Counts what has been answered until now. */
  count(): void {
    if (this.#answered.length === 0 && this.#batchEntries.length === 0) return;
    const nowMs = this.#clock.now();
    for (const { entry, arrivedMs, code } of this.#answered) entry.counts.answered(nowMs - arrivedMs, code);
    this.#answered = [];
    for (const { counts } of this.#batchEntries) {
      counts.answered(nowMs - this.#batchArrivedMs, undefined, counts.uncounted);
      counts.uncounted = 0;
    }
    this.#batchEntries = [];
  }
}
