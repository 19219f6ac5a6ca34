/**
 * The bound on time: how long one input may take to be read, and which has taken longest.
 *
 * In: something to run. Out: what it returned. A run over the bound is repeated before it counts, and the shortest time
 * taken: a collection of garbage or cold code can hold up any of them, but not all. On a machine that is busy enough all
 * can be held up, so what is still over the bound is run once more by the thread's own CPU time.
 */

import process from "node:process";

/** For an input of up to {@linkcode BOUND_BYTES}; a larger one may take longer in proportion. */
export const BOUND_MS = 5;
const BOUND_BYTES = 64 * 1024;

/** How often a run is repeated that took too long. */
const REPEATS = 15;

/** The system counts CPU time in steps of up to 10 ms: so many runs together tell one to a fifth of a millisecond. */
const RUNS_BY_CPU = 50;

/** Measures one run after another. */
export class Stopwatch {
  /** The slowest so far. */
  slowest = { ms: 0, bytes: 0, what: "nothing" };
  /** Runs that were repeated, because they seemed to be too slow. */
  repeated = 0;
  #complaint: string | undefined;

  /** What was too slow since the last time this was asked, if anything was. */
  takeComplaint(): string | undefined {
    const complaint = this.#complaint;
    this.#complaint = undefined;
    return complaint;
  }

  /** Runs something that reads `bytes` bytes, and does not throw. */
  measure<Result>(what: string, bytes: number, run: () => Result): Result {
    const startMs = performance.now();
    const result = run();
    let ms = performance.now() - startMs;
    const boundMs = BOUND_MS * Math.max(1, bytes / BOUND_BYTES);
    if (ms > boundMs) this.repeated++;
    // The slowest is told at the end: it must not be a time in which something else ran.
    for (let count = 0; ms > Math.min(boundMs, this.slowest.ms) && count < REPEATS; count++) {
      const startMs = performance.now();
      run();
      ms = Math.min(ms, performance.now() - startMs);
    }
    if (ms > boundMs) ms = Math.min(ms, cpuMsOf(run));
    if (ms > this.slowest.ms) this.slowest = { ms, bytes, what };
    if (ms > boundMs) this.#complaint = `${what} took ${ms.toFixed(1)} ms for ${bytes} bytes`;
    return result;
  }
}

/** The CPU time that a run takes of this thread. */
function cpuMsOf(run: () => unknown): number {
  const before = process.threadCpuUsage();
  for (let count = 0; count < RUNS_BY_CPU; count++) run();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1_000 / RUNS_BY_CPU;
}
