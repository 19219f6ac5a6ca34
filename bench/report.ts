/** Writes the results as text: the tables with the goals. The file also has an introduction to the numbers. */

import { type Goal, GOALS, isMet } from "./goals.ts";
import type { Sample } from "./measure.ts";
import type { Results } from "./plans.ts";
import type { Subject } from "./subjects.ts";
import { figure, median, table } from "./table.ts";
import type { Row, Work } from "./works.ts";

/** The tables of calls, memory and codecs, and how many goals are met. */
export function tables(results: Results): string {
  const { works, memoryWorks } = results.plan;
  const judged = GOALS.filter((goal) => Number.isFinite(goal.figure(results)));
  const met = judged.filter((goal) => isMet(goal, goal.figure(results)));
  return [
    "## Calls\n",
    "Latencies are in µs. CPU is in µs per call, of the server's whole process. The load's CPU is of the load generator or",
    "of the client library. It is marked with `!` if a load generator used more than the server.\n",
    workTable(
      ["calls/s", "p50", "p99", "CPU", "load's CPU"],
      works,
      results,
      (row) => callCells(row, results.samples.get(row)),
    ),
    "\n## Memory\n",
    "Memory of the server, in KiB for each connection, call or stream.\n",
    workTable(["memory"], memoryWorks, results, (row) => [figure(median(results.memory.get(row)) / 1024)]),
    ...results.codecs.size > 0 ? ["\n## Codecs\n", "CPU time per message, in nanoseconds.\n", codecTable(results)] : [],
    `\n${met.length} of ${judged.length} goals are met. [GOALS.md](GOALS.md) says what was tried for the others.`,
  ].join("\n");
}

/** A title for each work, a row for each subject, and one more for each goal beyond the first. */
function workTable<Result>(
  columns: readonly string[],
  works: readonly Work<Result>[],
  results: Results,
  cellsOf: (row: Row<Result>) => string[],
): string {
  const rows: string[][] = [];
  const none = columns.map(() => "");
  for (const work of works) {
    rows.push([work.title, ...none, "", "", "", ""]);
    for (const row of work.rows) {
      const [first = ["", "", "", ""], ...others] = GOALS.filter((goal) => goal.row === row)
        .map((goal) => goalCells(goal, results));
      rows.push(["- " + row.name, ...cellsOf(row), ...first]);
      for (const other of others) rows.push(["", ...none, ...other]);
    }
  }
  return table(["work and subject", ...columns, "compared", "figure", "goal", "met"], rows);
}

function callCells({ isLibrary }: Row, samples: readonly Sample[] | undefined): string[] {
  const middle = (pick: (sample: Sample) => number) => median(samples?.map(pick));
  const cpu = middle((sample) => sample.serverCpu);
  const loadCpu = middle((sample) => sample.clientCpu);
  return [
    figure(middle((sample) => sample.callsPerSecond)),
    figure(middle((sample) => sample.p50)),
    figure(middle((sample) => sample.p99)),
    figure(cpu),
    figure(loadCpu) + (loadCpu > cpu && !isLibrary ? " !" : ""),
  ];
}

function goalCells(goal: Goal, results: Results): string[] {
  const { text, bound, unit, atLeast } = goal;
  const value = goal.figure(results);
  const verdict = Number.isFinite(value) ? isMet(goal, value) ? "yes" : "**no**" : "skipped";
  return [text, `${figure(value)} ${unit}`.trim(), `${atLeast ? ">=" : "<="} ${bound} ${unit}`.trim(), verdict];
}

function codecTable({ codecs }: Results): string {
  const works = Object.keys([...codecs.values()][0][0]);
  return table(
    ["message", ...[...codecs.keys()].map((name) => name === "std" ? "@std/msgpack" : name)],
    works.map((work) => [work, ...[...codecs.values()].map((runs) => figure(median(runs.map((run) => run[work]))))]),
  );
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

- The server and the load generator run on the same machine, over the loopback interface. Compare figures within a
  table section. On another machine the figures differ, and the ratios may differ too.
- Every figure is the median of the rounds (${results.plan.rounds} of them), each with new processes. A compared figure is the median of
  the rounds' ratios. If a figure is within about 10 % of its goal, the next run may give another verdict. If other
  programs run, calls/s and latencies vary more than this: compare CPU.
- With 1,000 in flight, latency is mostly queueing, so a faster server has a lower latency.
- Redis has no \`seq\`, so all rows of a section are compared with the same PING or GET of Redis. Redis does not hash
  command names, and its values are bytes.
- The raw Deno loop knows its requests in advance and decodes nothing. The raw Deno echo writes back what it reads.
  They are lower bounds, not servers.
- Two workers and two load generators need four cores. With fewer cores, the second worker has only the remaining
  time. This machine has ${navigator.hardwareConcurrency}.

![Server CPU a call](results.svg)

${skippedText(skipped)}${tables(results)}
`;
}
