/**
 * Measures for all load generators: latencies in a histogram, and the server's counters at the start and the end of a
 * time window. The warm-up before the window and the time after it do not count.
 *
 * CPU is user and system time of the whole process, with all threads and workers, from `/proc/<pid>/stat`; memory is
 * `VmRSS` from `/proc/<pid>/status`. Without `/proc` both are `NaN`, which the tables show as a dash.
 */

/** The result of one run of one work on one subject. */
export interface Sample {
  callsPerSecond: number;
  /** Latencies, in µs. */
  p50: number;
  p99: number;
  p999: number;
  /** The server's CPU time per call, in µs. */
  serverCpu: number;
  /** The client's CPU time per call, in µs; meaningful only if a client library is measured. */
  clientCpu: number;
  /** The server's memory under load, in bytes. */
  rss: number;
}

/** Counts calls and their latencies, in buckets 1.1 % apart. */
export class Meter {
  calls = 0;
  readonly #buckets = new Uint32Array(64 * 32);

  /** Records calls that took this long, in ms. */
  record(milliseconds: number, calls: number): void {
    this.calls += calls;
    const bucket = Math.round(64 * Math.log2(milliseconds * 1000));
    this.#buckets[Math.min(Math.max(bucket, 0), this.#buckets.length - 1)] += calls;
  }

  /** Resets all counts at the start of the window. */
  reset(): void {
    this.calls = 0;
    this.#buckets.fill(0);
  }

  /** The quantile of the latencies, in µs. */
  quantile(part: number): number {
    if (this.calls === 0) return NaN;
    let left = part * this.calls;
    for (let bucket = 0; bucket < this.#buckets.length; bucket++) {
      left -= this.#buckets[bucket];
      if (left <= 0) return 2 ** (bucket / 64);
    }
    return NaN;
  }
}

/** The server to measure, and the times. */
export interface Window {
  /** The server's process. */
  pid: number;
  warmupMs: number;
  windowMs: number;
}

/** Requests unanswered after this time count as lost. */
const LAST_ANSWER_MS = 10_000;

/**
 * Measures a running load.
 *
 * @param window The server and the times.
 * @param start Starts the load; its promises resolve after the stop, when all calls are answered.
 * @param stop Stops it.
 */
export async function sampleOf(
  { pid, warmupMs, windowMs }: Window,
  start: (meter: Meter) => Promise<unknown>[],
  stop: () => void,
): Promise<Sample> {
  const meter = new Meter();
  const ended = Promise.all(start(meter));
  const endedEarly = ended.then(() => Promise.reject(new Error("the load ended before the measurement did")));
  endedEarly.catch(() => {});
  await Promise.race([delay(warmupMs), endedEarly]);
  meter.reset();
  const before = { ms: performance.now(), server: cpuMs(pid), client: cpuMs(Deno.pid) };
  await Promise.race([delay(windowMs), endedEarly]);
  const { calls } = meter;
  const after = { ms: performance.now(), server: cpuMs(pid), client: cpuMs(Deno.pid) };
  const sample = {
    callsPerSecond: calls / (after.ms - before.ms) * 1000,
    p50: meter.quantile(0.5),
    p99: meter.quantile(0.99),
    p999: meter.quantile(0.999),
    serverCpu: (after.server - before.server) / calls * 1000,
    clientCpu: (after.client - before.client) / calls * 1000,
    rss: rssBytes(pid),
  };
  stop();
  const late = delay(LAST_ANSWER_MS).then(() => Promise.reject(new Error("a call was never answered")));
  await Promise.race([ended, late]);
  return sample;
}

/** The CPU time used by a server, in ms, in steps of 10 ms. */
export function cpuMs(pid: number): number {
  return sumOver(pid, (process) => {
    const stat = Deno.readTextFileSync(`/proc/${process}/stat`);
    // The second field is a name in parentheses, with any content.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  });
}

/** For how long a server's main thread has waited for a core, in ms; `NaN` without `/proc`. */
export function starvedMs(pid: number): number {
  try {
    return Number(Deno.readTextFileSync(`/proc/${pid}/schedstat`).split(" ")[1]) / 1e6;
  } catch {
    return NaN;
  }
}

/** The memory used by a server, in bytes. */
export function rssBytes(pid: number): number {
  return sumOver(
    pid,
    (process) => Number(Deno.readTextFileSync(`/proc/${process}/status`).match(/VmRSS:\s+(\d+)/)?.[1]) * 1024,
  );
}

/** The most memory that a process has ever used, in bytes; `NaN` without `/proc`. */
export function peakRssBytes(pid: number): number {
  return sumOver(
    pid,
    (process) => Number(Deno.readTextFileSync(`/proc/${process}/status`).match(/VmHWM:\s+(\d+)/)?.[1]) * 1024,
  );
}

/** Sums a figure over a server's process and its children, the workers; `NaN` without `/proc`. */
function sumOver(pid: number, figureOf: (process: number) => number): number {
  try {
    const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim().split(" ").filter(Boolean);
    return [pid, ...children.map(Number)].reduce((sum, process) => sum + figureOf(process), 0);
  } catch {
    return NaN;
  }
}

export function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
