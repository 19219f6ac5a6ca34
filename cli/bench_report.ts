/**
 * Formats the result of a load test, for people and for programs.
 *
 * In: a {@linkcode Bench}, running or ended, and its parameters. Out: lines of text with a histogram, one line of
 * progress, or JSON. Refused: nothing.
 */

import type { Bench, Load } from "./bench.ts";
import { toJson } from "./json.ts";
import { ACCURACY } from "./latency_histogram.ts";
import { printable } from "../codec/printable.ts";
import { table } from "./table.ts";
import { terminalColumns, wrap } from "./wrap.ts";

/** The reported percentiles. */
const PERCENTILES = [50, 90, 99, 99.9];

/** The steps in each decade of the histogram. */
const FINE_STEPS = [1, 1.5, 2, 3, 5, 7];
const COARSE_STEPS = [1, 2, 5];

/** The scale starts no lower than 0.1 µs: 10 to this power, in milliseconds. */
const FIRST_POWER = -4;

/** With more rows than this, the histogram uses coarser steps. */
const MAX_FINE_ROWS = 16;

/** The length of the longest bar, and the width of the other columns. */
const BAR_CHARACTERS = 40;
const BESIDE_BAR_CHARACTERS = 32;

/** A load test with its parameters. */
interface BenchResult {
  readonly bench: Bench;
  readonly load: Load;
  readonly connections: number;
}

/** The result as text, as wide as the terminal. */
export function benchReport({ bench, load, connections }: BenchResult): string {
  const columns = terminalColumns();
  const { latencies } = bench;
  const rate = load.rate === undefined ? "" : `, target ${number(load.rate)} calls/s`;
  const failed = failedCalls(bench);
  const allFailed = failed > 0 && failed === bench.settled;
  const outcome = failed === 0 ? "" : `, ${allFailed ? "all" : number(failed)} failed`;
  const lines = [
    `${printable(load.call.name)}: ${number(bench.settled)} calls in ${seconds(bench.elapsedMs)} s${outcome}; ` +
    `${number(connections)} connection${connections === 1 ? "" : "s"}, ${
      number(load.inFlight)
    } in flight on each${rate}`,
  ];
  if (bench.settled === 0) return wrap([...lines, ...troubles(bench)].join("\n"));
  const times: [string, number][] = [
    ["min", latencies.minMs],
    ["mean", latencies.meanMs],
    ...PERCENTILES.map((percent): [string, number] => [`p${percent}`, latencies.percentile(percent)]),
    ["max", latencies.maxMs],
  ];
  const origin = load.rate === undefined ? "" : ", from the time a call was due";
  lines.push(
    "",
    `${callsPerSecond(bench)} ${allFailed ? "failed " : ""}calls/s`,
    "",
    `latency in ms, percentiles within ${(ACCURACY * 100).toFixed(1)} %${origin}:`,
    timesTable(times, columns),
    "",
    ...histogramLines(bench, columns),
    ...troubles(bench),
  );
  return wrap(lines.join("\n"));
}

/** The result for a program; times are in milliseconds unless named otherwise. */
export function benchJson({ bench, load, connections }: BenchResult): string {
  const { latencies } = bench;
  // JSON has no NaN. Digits below 0.1 µs are noise.
  const known = (value: number) => Number.isFinite(value) ? Number(value.toFixed(4)) : null;
  return toJson({
    command: load.call.name,
    params: load.call.params,
    connections,
    inFlight: load.inFlight,
    rate: load.rate ?? null,
    seconds: known(bench.elapsedMs / 1000),
    sent: bench.sent,
    settled: bench.settled,
    unanswered: bench.unanswered,
    overdue: bench.overdue,
    errors: Object.fromEntries([...bench.failures].map(([code, { count }]) => [code, count])),
    callsPerSecond: known(bench.callsPerSecond),
    latencyMs: {
      min: known(latencies.minMs),
      mean: known(latencies.meanMs),
      ...Object.fromEntries(PERCENTILES.map((percent) => [`p${percent}`, known(latencies.percentile(percent))])),
      max: known(latencies.maxMs),
    },
    histogram: histogramOf(bench).map(([upToMs, calls]) => ({ upToMs, calls })),
  });
}

/** The progress so far. */
export function benchProgress(bench: Bench, load: Load): string {
  const part = Math.max(
    Number.isFinite(load.calls) ? bench.settled / load.calls : 0,
    Number.isFinite(load.durationMs) ? bench.elapsedMs / load.durationMs : 0,
  );
  const failed = failedCalls(bench);
  return `${Math.min(100, Math.floor(part * 100))} %, ${number(bench.settled)} calls, ` +
    `${number(Math.round(bench.callsPerSecond || 0))} calls/s${failed > 0 ? `, ${number(failed)} failed` : ""}`;
}

/** The number of failed calls. */
export function failedCalls(bench: Bench): number {
  return [...bench.failures.values()].reduce((sum, { count }) => sum + count, 0);
}

function troubles(bench: Bench): string[] {
  const lines: string[] = [];
  for (const [code, { count, text }] of bench.failures) {
    lines.push(printable(`failed with ${code}: ${number(count)}${text === "" ? "" : ` (${text})`}`));
  }
  if (bench.unanswered > 0) lines.push(`still in flight: ${number(bench.unanswered)}`);
  if (bench.overdue > 0) lines.push(`due but never sent: ${number(bench.overdue)}; the rate is too high`);
  return lines.length > 0 ? ["", ...lines] : [];
}

/** Names and times in two rows, or in two columns on a narrow terminal. */
function timesTable(times: readonly [name: string, ms: number][], columns: number): string {
  const rows = times.map(([name, ms]) => [pad(name), pad(milliseconds(ms))]);
  const wide = table([rows.map(([name]) => name), rows.map(([, ms]) => ms)]);
  return wide.indexOf("\n") <= columns ? wide : table(rows);
}

/** A bar for each step between the shortest and the longest latency. */
function histogramLines(bench: Bench, columns: number): string[] {
  const rows = histogramOf(bench);
  const barCharacters = Math.max(1, Math.min(BAR_CHARACTERS, columns - BESIDE_BAR_CHARACTERS));
  const most = Math.max(...rows.map(([, calls]) => calls));
  return table(rows.map(([upToMs, calls]) => [
    pad(`<= ${upToMs}`),
    "#".repeat(Math.ceil(calls / most * barCharacters)).padEnd(barCharacters),
    `${(calls / bench.settled * 100).toFixed(2).padStart(6)} %`,
    pad(number(calls)),
  ])).split("\n");
}

/** The number of calls above the previous bound and up to this one. */
function histogramOf({ latencies, settled }: Bench): [upToMs: number, calls: number][] {
  if (settled === 0) return [];
  const fine = boundsOf(latencies.minMs, latencies.maxMs, FINE_STEPS);
  const bounds = fine.length <= MAX_FINE_ROWS ? fine : boundsOf(latencies.minMs, latencies.maxMs, COARSE_STEPS);
  const sums = latencies.cumulative(bounds);
  // The longest latency is within the last bound, but the middle of its bucket may be above that bound.
  sums[sums.length - 1] = settled;
  return bounds.map((upToMs, row) => [upToMs, sums[row] - (sums[row - 1] ?? 0)]);
}

/** The steps of a scale, from the first one at or above the shortest latency to the first at or above the longest. */
function boundsOf(minMs: number, maxMs: number, steps: readonly number[]): number[] {
  const bounds: number[] = [];
  // A latency of 0 has no power of ten.
  const first = Math.max(Math.floor(Math.log10(minMs)), FIRST_POWER);
  for (let power = first; bounds.length === 0 || bounds[bounds.length - 1] < maxMs; power++) {
    for (const step of steps) {
      // As text, because 3 * 10 ** -1 is not 0.3.
      const bound = Number(`${step}e${power}`);
      if (bound >= minMs && !(bounds[bounds.length - 1] >= maxMs)) bounds.push(bound);
    }
  }
  return bounds;
}

/** Outcomes per second; with a fraction if they are few. */
function callsPerSecond({ callsPerSecond: rate }: Bench): string {
  return number(rate < 10 ? Number(rate.toFixed(2)) : Math.round(rate));
}

function number(value: number): string {
  return value.toLocaleString("en-US");
}

/** Three decimals for short times, fewer for long ones. */
function milliseconds(ms: number): string {
  return ms.toFixed(ms < 10 ? 3 : ms < 100 ? 2 : 1);
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(ms < 10_000 ? 3 : 1);
}

function pad(text: string): string {
  return text.padStart(8);
}
