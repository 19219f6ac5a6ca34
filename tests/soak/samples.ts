/**
 * How a server is, time after time, and whether it stays as it is.
 *
 * In: samples, each taken while nothing is in flight. Out: a row of a table each; at the end, what has grown.
 */

/** One look at a run, behind a collection of garbage. */
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

/** What must not grow, and by how much the last third of a run may exceed the middle one. */
const FLAT: [name: string, of: (sample: Sample) => number, share: number, slack: number, leastMinutes: number][] = [
  // A runtime takes what it needs and keeps it: for the first minutes, memory says nothing.
  ["heap of the server in MiB", ({ heapMiB }) => heapMiB, 0.05, 2, 3],
  ["resident memory of the server in MiB", ({ residentMiB }) => residentMiB, 0.05, 5, 3],
  ["resident memory of the clients in MiB", ({ clientMiB }) => clientMiB, 0.05, 5, 3],
  ["open files", ({ files }) => files, 0, 5, 0],
  ["timers", ({ timers }) => timers, 0, 5, 0],
];

/** What has grown, a line each. */
export function growth(samples: readonly Sample[]): string[] {
  const third = Math.floor(samples.length / 3);
  const minutes = samples.at(-1)?.minutes ?? 0;
  const middle = samples.slice(-2 * third, -third);
  const last = samples.slice(-third);
  return FLAT.filter(([, , , , leastMinutes]) => minutes >= leastMinutes).flatMap(([name, of, share, slack]) => {
    // The most of each: memory that is given back at times, and connections that are missing, lower a mean by chance.
    const [before, after] = [Math.max(...middle.map(of)), Math.max(...last.map(of))];
    return after > before * (1 + share) + slack
      ? [`growth: ${name}: ${before.toFixed(1)} in the middle third, ${after.toFixed(1)} in the last`]
      : [];
  });
}
