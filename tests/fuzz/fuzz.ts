/**
 * The fuzz: damaged messages by the million, all from one seed, each read in every way the code has to read it.
 *
 * In: how many inputs, and a seed. Out: a report. Each input comes from the seed and its own number alone. One that fails
 * is made smaller and kept in the corpus, see `corpus.ts`; what has to hold is in `codec_checks.ts`,
 * `connection_checks.ts` and `round_trip.ts`.
 */

import { Random } from "../support/random.ts";
import { concat, frame } from "../support/wire.ts";
import { checkPayload, checkStream, type Codec, inspect, SHIPPED, type Verdict } from "./codec_checks.ts";
import { checkConnection } from "./connection_checks.ts";
import type { Serve } from "./conversation.ts";
import { keep, shrink } from "./corpus.ts";
import { hash } from "./describe.ts";
import { anyInput, type Input } from "./inputs.ts";
import { checkRoundTrip } from "./round_trip.ts";
import { GOOD } from "./samples.ts";
import { BOUND_MS, Stopwatch } from "./stopwatch.ts";

/** Every so many inputs, one is also sent to a server, and one batch of sound messages goes there and back. */
const INPUTS_PER_CONNECTION = 20;
const INPUTS_PER_ROUND_TRIP = 50;

/** How a large run is shared out. */
const PART_INPUTS = 20_000;
const THREADS = 2;

/** Failures that are reported and kept. */
const MOST_FAILURES = 10;

const SIDES = ["requests", "replies"] as const;

/** What a run is to do. */
export interface Plan {
  readonly seed: number;
  /** The number of its first input, 0 by default. */
  readonly first?: number;
  readonly inputs: number;
  /** It ends early when so many have failed: the next ones would tell nothing new. */
  readonly mostFailures?: number;
  /** The code to check, the shipped one by default. */
  readonly codec?: Codec;
  readonly serve?: Serve;
}

/** One input that failed, and why. What failed without an input, a round trip, has its number only. */
export interface Failure {
  readonly index: number;
  readonly complaint: string;
  readonly input?: Input;
}

/** What came of a run. */
export interface Report {
  inputs: number;
  bytes: number;
  connections: number;
  roundTrips: number;
  seconds: number;
  slowest: Stopwatch["slowest"];
  /** Runs over the bound that were repeated, and were in time then. */
  repeated: number;
  /** A hash over everything that came out. */
  digest: number;
  /** How often each kind of outcome was met. */
  met: Map<string, number>;
  failures: Failure[];
}

/** What came of a run of nothing. */
const NOTHING: Readonly<Report> = {
  inputs: 0,
  bytes: 0,
  connections: 0,
  roundTrips: 0,
  seconds: 0,
  slowest: new Stopwatch().slowest,
  repeated: 0,
  digest: 0,
  met: new Map(),
  failures: [],
};

/** Runs inputs until there are enough, or enough failures. */
export async function fuzz(plan: Plan): Promise<Report> {
  const { seed, first = 0, inputs, mostFailures = MOST_FAILURES, codec = SHIPPED, serve } = plan;
  const startMs = performance.now();
  const stopwatch = new Stopwatch();
  const report: Report = { ...NOTHING, met: new Map(), failures: [] };
  let index = first;
  const note = (verdict: Verdict, input?: Input) => {
    report.digest = hash(verdict.outcome, report.digest);
    for (const kind of verdict.met ?? []) report.met.set(kind, (report.met.get(kind) ?? 0) + 1);
    const complaint = verdict.complaint ?? stopwatch.takeComplaint();
    if (complaint !== undefined) report.failures.push({ index, complaint, input });
  };

  for (; index < first + inputs && report.failures.length < mostFailures; index++) {
    const random = new Random(hash(`${seed} ${index}`));
    const input = anyInput(random);
    report.inputs++;
    report.bytes += input.bytes.length;
    for (const check of codecChecks(input, codec, stopwatch)) note(await verdictOf(check), input);
    if (index % INPUTS_PER_CONNECTION === 0) {
      note(await verdictOf(() => checkConnection(streamOf(input), serve)), input);
      report.connections++;
    }
    if (index % INPUTS_PER_ROUND_TRIP === 0) {
      note(await verdictOf(() => checkRoundTrip(random, codec)));
      report.roundTrips++;
    }
  }
  report.seconds = (performance.now() - startMs) / 1000;
  return Object.assign(report, { slowest: stopwatch.slowest, repeated: stopwatch.repeated });
}

/** The same on all cores of a small machine. The report is that of the parts in their order, whoever ran them. */
export async function fuzzInParallel({ seed, inputs }: Plan, onPart = (_inputs: number) => {}): Promise<Report> {
  const startMs = performance.now();
  const firsts = Array.from({ length: Math.ceil(inputs / PART_INPUTS) }, (_, part) => part * PART_INPUTS);
  const reports: Report[] = [];
  let next = 0;
  const work = async () => {
    const worker = new Worker(import.meta.resolve("./worker.ts"), { type: "module" });
    try {
      while (next < firsts.length) {
        const part = next++;
        const first = firsts[part];
        reports[part] = await ask(worker, { seed, first, inputs: Math.min(PART_INPUTS, inputs - first) });
        onPart(reports[part].inputs);
      }
    } finally {
      worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: THREADS }, work));
  return { ...reports.reduce(merged, NOTHING), seconds: (performance.now() - startMs) / 1000 };
}

function ask(worker: Worker, plan: Plan): Promise<Report> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(`a thread has failed: ${event.message}`));
    };
    worker.postMessage(plan);
  });
}

function merged(one: Report, other: Report): Report {
  const met = new Map(one.met);
  for (const [kind, times] of other.met) met.set(kind, (met.get(kind) ?? 0) + times);
  return {
    inputs: one.inputs + other.inputs,
    bytes: one.bytes + other.bytes,
    connections: one.connections + other.connections,
    roundTrips: one.roundTrips + other.roundTrips,
    seconds: one.seconds + other.seconds,
    slowest: one.slowest.ms > other.slowest.ms ? one.slowest : other.slowest,
    repeated: one.repeated + other.repeated,
    digest: hash(`${one.digest} ${other.digest}`),
    met,
    failures: [...one.failures, ...other.failures].slice(0, MOST_FAILURES),
  };
}

/** PING. */
const FIRST = frame(new Uint8Array([0x81, 0xa3, 0x63, 0x6d, 0x64, 1]));

/** One check. What it throws is a fault of the code that it checks, and a complaint as any other. */
type Check = () => Verdict | Promise<Verdict>;

async function verdictOf(check: Check): Promise<Verdict> {
  try {
    return await check();
  } catch (error) {
    return { outcome: String(error), complaint: `a check threw ${inspect(error)}` };
  }
}

/** An input, read as all that it can be read as. */
function codecChecks(input: Input, codec: Codec, stopwatch: Stopwatch): Check[] {
  const stream = streamOf(input);
  const checkSide = (side: typeof SIDES[number]) => () => checkStream(stream, side, codec, stopwatch);
  if (input.kind === "stream") return SIDES.map(checkSide);
  // A payload has been read once already: there, one side is enough.
  return [() => checkPayload(input.bytes, codec, stopwatch), checkSide(SIDES[stream.length % 2])];
}

/** A payload in its frame, between good ones, since a first message has a rule of its own; a stream as it is. */
function streamOf({ kind, bytes }: Input): Uint8Array {
  return kind === "payload" ? concat(FIRST, frame(bytes), frame(GOOD)) : bytes;
}

/** What is wrong with what one input leads to, if anything is: all that a run does with it, and for certain. */
export async function complaintAbout(input: Input, codec = SHIPPED, serve?: Serve): Promise<string | undefined> {
  const stopwatch = new Stopwatch();
  const stream = streamOf(input);
  const checks: Check[] = [
    ...(input.kind === "payload" ? [() => checkPayload(input.bytes, codec, stopwatch)] : []),
    ...SIDES.map((side) => () => checkStream(stream, side, codec, stopwatch)),
    () => checkConnection(stream, serve),
  ];
  const verdicts: Verdict[] = [];
  for (const check of checks) verdicts.push(await verdictOf(check));
  return verdicts.find(({ complaint }) => complaint !== undefined)?.complaint ?? stopwatch.takeComplaint();
}

/** Keeps the failures of a run, each as small as it can be; tells what they are and where. */
export async function keepFailures({ failures }: Report, seed: number): Promise<string[]> {
  const lines: string[] = [];
  for (const { index, complaint, input } of failures) {
    const from = `seed ${seed}, input ${index}`;
    if (input === undefined) {
      lines.push(`${from}: ${complaint}`);
      continue;
    }
    const smaller = await shrink(input, async (input) => await complaintAbout(input) !== undefined);
    const name = await keep(smaller, `${from}: ${await complaintAbout(smaller) ?? complaint}`);
    lines.push(`${from}, kept as ${name}: ${complaint}`);
  }
  return lines;
}

/** A report for people. */
export function table(report: Report): string {
  const { inputs, bytes, seconds, slowest } = report;
  return [
    `${inputs} inputs, ${(bytes / 1e6).toFixed(1)} MB, in ${seconds.toFixed(1)} s; digest ${
      report.digest.toString(16)
    }`,
    `${report.connections} connections, ${report.roundTrips} round trips`,
    `slowest: ${slowest.ms.toFixed(2)} ms, ${slowest.what} of ${slowest.bytes} bytes (bound: ${BOUND_MS} ms; ` +
    `${report.repeated} repeated)`,
    ...[...report.met].sort(([, one], [, other]) => other - one).map(([kind, times]) =>
      `${String(times).padStart(10)} ${kind}`
    ),
    `failures: ${report.failures.length}`,
  ].join("\n");
}
