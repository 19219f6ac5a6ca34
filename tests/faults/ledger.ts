/**
 * The books of a run: what was called, and what became of it.
 *
 * In: each call, with the value it must bring and the codes it may fail with. Out: what is not as promised, a line each:
 *
 * - lost: a call that has not settled;
 * - crossed: a reply that is another call's;
 * - doubled: a handler that ran twice for a call that was sent once, or replies beyond those that were given up;
 * - untrue: a code that nothing explains, or a failure that says "not started" where the handler ran;
 * - halved: a caller's stream that was broken off, and that a handler took for a whole one.
 *
 * What is kept for a call goes when it has settled, so that a run may be as long as it likes.
 */

import { RpcError } from "../../errors.ts";

/** What must come of a call. */
export interface Expected {
  /** The value of its reply. */
  value: unknown;
  /** With what it may fail: the faults that were made on purpose. */
  codes: readonly string[];
  /** How often its handler has run by now, where that is known. */
  runs?: () => number;
  /** How often it may have run. */
  mostRuns?: number;
}

/** Lines kept; the first ones tell most. */
const MOST_LINES = 20;

/** The books of one run. */
export class Ledger {
  made = 0;
  settled = 0;
  /** How many ended with which code; `value` is a reply. */
  readonly outcomes: Record<string, number> = {};
  /** Late replies that need no explanation, beside one for each call that was given up. */
  explainedLate = 0;
  readonly #counts = { lost: 0, crossed: 0, doubled: 0, untrue: 0, halved: 0 };
  readonly #lines: string[] = [];

  /** How many calls have not settled. */
  get open(): number {
    return this.made - this.settled;
  }

  /** How many faults there are, by kind. */
  get faultCounts(): Readonly<Record<"lost" | "crossed" | "doubled" | "untrue" | "halved", number>> {
    return this.#counts;
  }

  /** Follows a call to its end, which it resolves with: `value`, or a code. */
  async follow(call: Promise<{ res: unknown }>, { value, codes, runs, mostRuns = 1 }: Expected): Promise<string> {
    const id = this.made++;
    let outcome = "value";
    try {
      const { res } = await call;
      if (res !== value) {
        this.fault("crossed", `call ${id} got ${Deno.inspect(res)} in place of ${Deno.inspect(value)}`);
      }
    } catch (error) {
      outcome = error instanceof RpcError ? error.code : String(error);
      if (!codes.includes(outcome)) this.fault("untrue", `call ${id} ended with ${error}`);
      if (error instanceof RpcError && error.retryable && runs && runs() > 0) {
        this.fault("untrue", `call ${id} ran, and yet may be sent again: ${error}`);
      }
    }
    if (runs && runs() > mostRuns) this.fault("doubled", `call ${id} ran ${runs()} times`);
    this.settled++;
    this.outcomes[outcome] = (this.outcomes[outcome] ?? 0) + 1;
    return outcome;
  }

  /** Something is not as promised. */
  fault(kind: keyof Ledger["faultCounts"], line: string, count = 1): void {
    this.#counts[kind] += count;
    if (this.#lines.length < MOST_LINES) this.#lines.push(`${kind}: ${line}`);
  }

  /**
   * Closes the books.
   *
   * @param lateReplies Replies that reached the clients behind the end of their calls.
   * @returns What is not as promised.
   */
  close(lateReplies: number): string[] {
    if (this.open > 0) this.fault("lost", `${this.open} calls have not settled`, this.open);
    // One for each call that its caller gave up, at the most.
    const explained = this.explainedLate + (this.outcomes.CANCELLED ?? 0) + (this.outcomes.TIMEOUT ?? 0);
    const tooMany = lateReplies - explained;
    if (tooMany > 0) this.fault("doubled", `${lateReplies} late replies, ${explained} explained`, tooMany);
    return this.#lines;
  }
}

/** Resolves to true when all of them have settled, or to false when that has stood still for so long. */
export async function settled(ledger: Ledger, calls: Promise<unknown>[], patienceMs: number): Promise<boolean> {
  let timer: ReturnType<typeof setInterval> | undefined;
  const stalled = new Promise<false>((resolve) => {
    let before = -1;
    timer = setInterval(() => {
      if (ledger.settled === before) resolve(false);
      before = ledger.settled;
    }, patienceMs);
  });
  const all = Promise.all(calls).then(() => true);
  try {
    return await Promise.race([all, stalled]);
  } finally {
    clearInterval(timer);
  }
}
