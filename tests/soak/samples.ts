/**
 * How a server is, time after time, and whether it stays as it is.
 *
 * In: samples, each taken while nothing is in flight. Out: a row of a table each; at the end, what has grown.
 */

/** One look at a run. */
export interface Sample {
  minutes: number;
  calls: number;
  /** Calls in which something was made to go wrong. */
  faulty: number;
  callsPerSecond: number;
  p99Ms: number;
  /** Of the server's process. */
  residentMiB: number;
  heapMiB: number;
  files: number;
  timers: number;
  /** Of the clients' process. */
  clientMiB: number;
}

const COLUMNS: [head: string, shown: (sample: Sample) => string][] = [
  ["minutes", ({ minutes }) => minutes.toFixed(2)],
  ["calls", ({ calls }) => calls.toLocaleString("en")],
  ["faulty", ({ calls, faulty }) => `${(100 * faulty / calls).toFixed(2)} %`],
  ["calls/s", ({ callsPerSecond }) => callsPerSecond.toLocaleString("en", { maximumFractionDigits: 0 })],
  ["p99 ms", ({ p99Ms }) => p99Ms.toFixed(1)],
  ["resident MiB", ({ residentMiB }) => residentMiB.toFixed(1)],
  ["heap MiB", ({ heapMiB }) => heapMiB.toFixed(1)],
  ["files", ({ files }) => String(files)],
  ["timers", ({ timers }) => String(timers)],
  ["client MiB", ({ clientMiB }) => clientMiB.toFixed(1)],
];

const WIDTH = 13;

/** The line above the rows. */
export const HEAD = COLUMNS.map(([head]) => head.padStart(WIDTH)).join("");

/** A sample as a row. */
export function row(sample: Sample): string {
  return COLUMNS.map(([, shown]) => shown(sample).padStart(WIDTH)).join("");
}

/** What must not grow, and how much more of it there may be in the last third of a run than in the middle one. */
const FLAT: [name: string, of: (sample: Sample) => number, share: number, slack: number, leastMinutes: number][] = [
  // A runtime fills its heap before it collects: for the first minutes, memory says nothing.
  ["resident memory of the server in MiB", ({ residentMiB }) => residentMiB, 0.05, 5, 3],
  ["resident memory of the clients in MiB", ({ clientMiB }) => clientMiB, 0.05, 5, 3],
  // At rest a connection that was cut is missing, until it is needed again.
  ["open files", ({ files }) => files, 0, 20, 0],
  ["timers", ({ timers }) => timers, 0, 5, 0],
];

/** What has grown, a line each. */
export function growth(samples: readonly Sample[]): string[] {
  const third = Math.floor(samples.length / 3);
  const minutes = samples.at(-1)?.minutes ?? 0;
  const middle = samples.slice(-2 * third, -third);
  const last = samples.slice(-third);
  return FLAT.filter(([, , , , leastMinutes]) => minutes >= leastMinutes).flatMap(([name, of, share, slack]) => {
    const [before, after] = [mean(middle.map(of)), mean(last.map(of))];
    return after > before * (1 + share) + slack
      ? [`growth: ${name}: ${before.toFixed(1)} in the middle third, ${after.toFixed(1)} in the last`]
      : [];
  });
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
