/** Writes the results as text: the tables, the goals, and in the file an introduction to the numbers. */

import { judge, type Verdict } from "./goals.ts";
import type { Sample } from "./measure.ts";
import { FLOOR, GRPC, PACKLINE, type Subject } from "./subjects.ts";
import { figure, median, table } from "./table.ts";
import { CODECS, LIBRARY, type Results, type Work } from "./works.ts";

const MIB = 1024 * 1024;

/** The median of one figure over all rounds, as text. */
function middle(samples: readonly Sample[] | undefined, pick: (sample: Sample) => number): string {
  return figure(median((samples ?? []).map(pick)));
}

/** The tables of works, codecs, memory and steps. */
export function tables(results: Results): string {
  return [
    "## Calls\n",
    "Latencies in µs; CPU in µs per call, of the server's whole process; memory in MiB, under load.\n",
    callsTable(results.works),
    "\n## Codecs\n",
    "Nanoseconds of CPU per message.\n",
    codecTable(results),
    "\n## Idle connections\n",
    `The server's memory per connection, with ${figure(results.idleConnections)} open; each has made one call.\n`,
    table(
      ["server", "KiB a connection"],
      [...results.idle].map(([{ name }, bytes]) => [name, figure(median(bytes) / 1024)]),
    ),
    "\n## Larger payloads\n",
    "An echo of binary data, one call at a time on one connection.\n",
    stepTable(results.payloads, "bytes", true),
    "\n## More connections\n",
    "PING on all connections at once, and again after the last reply, so latency is mostly queueing.\n",
    stepTable(results.connections, "connections", false),
    "\n## Workers\n",
    "One worker compared with two on one port. CPU and memory are of all processes of the server. The load generator uses",
    "the same cores: almost nothing if a call computes for 1 ms, so a second worker has a free core; as much as a worker",
    "if the call is a PING, so on two cores a second worker gets only what the first leaves.\n",
    callsTable(results.workers),
    "\n## Ratios\n",
    table(["goal", "wanted", "measured", "reached"], judge(results).map(verdictRow)),
  ].join("\n");
}

function callsTable(works: Results["works"]): string {
  const header = ["work and server", "calls/s", "p50", "p99", "p99.9", "server CPU", "client CPU", "memory"];
  const rows: string[][] = [];
  for (const [work, subjects] of works) {
    rows.push([work.title, "", "", "", "", "", "", ""]);
    for (const [subject, samples] of subjects) rows.push(["- " + subject.name, ...callCells(work, samples)]);
  }
  return table(header, rows);
}

function callCells(work: Work, samples: readonly Sample[]): string[] {
  return [
    middle(samples, (sample) => sample.callsPerSecond),
    middle(samples, (sample) => sample.p50),
    middle(samples, (sample) => sample.p99),
    middle(samples, (sample) => sample.p999),
    middle(samples, (sample) => sample.serverCpu),
    work === LIBRARY ? middle(samples, (sample) => sample.clientCpu) : "",
    middle(samples, (sample) => sample.rss / MIB),
  ];
}

function codecTable({ codecs }: Results): string {
  const works = Object.keys(codecs.get("packline")?.[0] ?? {});
  return table(
    ["work", ...CODECS.map((name) => name === "std" ? "@std/msgpack" : name)],
    works.map((work) => [
      work,
      ...CODECS.map((name) => figure(median((codecs.get(name) ?? []).map((times) => times[work])))),
    ]),
  );
}

function stepTable(steps: Map<number, Map<Subject, Sample[]>>, unit: string, perByte: boolean): string {
  const subjects = [PACKLINE, FLOOR];
  const columns = (subject: Subject) => [
    `${subject.name}: p50, µs`,
    "CPU, µs a call",
    ...perByte ? ["CPU, ns a byte"] : [],
  ];
  return table(
    [unit, ...subjects.flatMap(columns)],
    [...steps].map(([step, by]) => [
      figure(step),
      ...subjects.flatMap((subject) => {
        const samples = by.get(subject);
        return [
          middle(samples, (sample) => sample.p50),
          middle(samples, (sample) => sample.serverCpu),
          ...perByte ? [middle(samples, (sample) => sample.serverCpu * 1000 / step)] : [],
        ];
      }),
    ]),
  );
}

function verdictRow({ goal, figure: value, bound, unit, atLeast, reached }: Verdict): string[] {
  const verdict = Number.isFinite(value) ? reached ? "yes" : "**no**" : "skipped";
  return [goal, `${atLeast ? ">=" : "<="} ${bound} ${unit}`.trim(), `${figure(value)} ${unit}`.trim(), verdict];
}

/** The skipped subjects and the reasons. */
export function skippedText(skipped: ReadonlyMap<Subject, string>): string {
  return [...skipped].map(([{ name }, reason]) => `Skipped: ${name}: ${reason}.\n`).join("");
}

/** The report for the file; the machine and the caveats come first. */
export function report(results: Results, skipped: ReadonlyMap<Subject, string>, machine: string): string {
  return `# Benchmark results

Written by \`deno task bench --save\`; see [README.md](README.md) for what is measured and how.

${machine}
## Before you read the numbers

- Server and load run on the same machine, over the loopback interface. Compare figures within a table; on another
  machine the figures differ, and perhaps the ratios.
- Every figure is the median of the rounds (${results.rounds} of them), each with new processes; a ratio is the median of the
  rounds' ratios. A result within about 10 % of its goal may miss it in the next run.
- CPU is counted in steps of 10 ms: about 1.5 % of a busy round, and more for a server that is mostly idle.
- The load generator is a Deno program. With one call at a time it causes much of the latency, the same for all
  servers. If the server is faster (the raw loop, Redis), calls/s shows the generator's limit, so compare CPU.
- With 1,000 in flight, latency is mostly queueing, so a faster server has a lower latency.
- ${GRPC.name} is loaded by its own client, because it uses HTTP/2; its latencies include that client's time.
- Redis has no \`seq\`: in that work it does plain PINGs, for comparison. Its PING does less than packline's: no map, no names.
- The raw Deno loop knows its requests in advance and decodes nothing: it is a lower bound, not a server. It has a
  buffer of 64 KiB for each connection, so it needs much memory.

![Server CPU a call](results.svg)

${skippedText(skipped)}${tables(results)}
`;
}
