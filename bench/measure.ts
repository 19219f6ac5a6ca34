/**
 * Measures for all load generators: latencies in a histogram, and the server's counters at the start and the end of a
 * time window. The warm-up before the window and the time after it do not count.
 *
 * CPU is the system's clock of all threads of a process and of its workers, in nanoseconds, from
 * `/proc/<pid>/task/<thread>/schedstat`, which is at most a tick (1 to 4 ms) behind; memory is `VmRSS` from
 * `/proc/<pid>/status`. Without `/proc` both are `NaN`, which the tables show as a dash.
 */

/** The result of one run of one work on one subject. */
export interface Sample {
  callsPerSecond: number;
  /** Latencies, in µs. */
  p50: number;
  p99: number;
  /** The server's CPU time per call, in µs. */
  serverCpu: number;
  /** The CPU time per call of the load generator or the client library, in µs. */
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
  readonly warmup: Extent;
  readonly window: Extent;
}

/** How long something lasts: at least `ms` and `calls`, but at most `longestMs`. */
export interface Extent {
  readonly ms: number;
  readonly calls: number;
  readonly longestMs: number;
}

/** How long to wait for the last answers, after which calls count as lost. */
export const LAST_ANSWER_MS = 10_000;

/** Measures from its construction until its extent is over. */
export class Measurement {
  readonly #pid: number;
  readonly #extent: Extent;
  readonly #meter: Meter;
  readonly #startMs = performance.now();
  readonly #server: number;
  readonly #client: number;

  constructor(pid: number, extent: Extent, meter: Meter) {
    this.#pid = pid;
    this.#extent = extent;
    this.#meter = meter;
    meter.reset();
    this.#server = cpuMs(pid);
    this.#client = cpuMs(Deno.pid);
  }

  /** Whether it has lasted long enough. */
  isOver(): boolean {
    const { ms, calls, longestMs } = this.#extent;
    const tookMs = performance.now() - this.#startMs;
    return tookMs >= longestMs || (tookMs >= ms && this.#meter.calls >= calls);
  }

  /** The result of the measurement. */
  sample(): Sample {
    const pid = this.#pid;
    const { calls } = this.#meter;
    return {
      callsPerSecond: calls / (performance.now() - this.#startMs) * 1000,
      p50: this.#meter.quantile(0.5),
      p99: this.#meter.quantile(0.99),
      serverCpu: (cpuMs(pid) - this.#server) / calls * 1000,
      clientCpu: (cpuMs(Deno.pid) - this.#client) / calls * 1000,
      rss: rssBytes(pid),
    };
  }
}

/** How often to check whether an extent is over. */
const LOOK_MS = 20;

/**
 * Measures a running load.
 *
 * @param job The server and the times.
 * @param start Starts the load; its promises resolve after the stop, when all calls are answered.
 * @param stop Stops it.
 */
export async function sampleOf(
  { pid, warmup, window }: Window,
  start: (meter: Meter) => Promise<unknown>[],
  stop: () => void,
): Promise<Sample> {
  const meter = new Meter();
  const ended = Promise.all(start(meter));
  const endedEarly = ended.then(() => Promise.reject(new Error("the load ended before the measurement did")));
  endedEarly.catch(() => {});
  const during = async (extent: Extent): Promise<Sample> => {
    const measurement = new Measurement(pid, extent, meter);
    while (!measurement.isOver()) await Promise.race([delay(LOOK_MS), endedEarly]);
    return measurement.sample();
  };
  await during(warmup);
  const sample = await during(window);
  stop();
  const late = delay(LAST_ANSWER_MS).then(() => Promise.reject(new Error("a call was never answered")));
  await Promise.race([ended, late]);
  return sample;
}

/** The CPU time used by a server, in ms. */
export function cpuMs(pid: number): number {
  return sumOver(pid, (process) => {
    let nanoseconds = 0;
    for (const { name } of Deno.readDirSync(`/proc/${process}/task`)) {
      nanoseconds += threadNanoseconds(`/proc/${process}/task/${name}`);
    }
    return nanoseconds / 1e6;
  });
}

function threadNanoseconds(folder: string): number {
  try {
    return Number(Deno.readTextFileSync(`${folder}/schedstat`).split(" ")[0]);
  } catch {
    return 0; // it has ended since the list was read
  }
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

/** The peak memory of a process, in bytes; `NaN` without `/proc`. */
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
