/**
 * Runs the benchmark: packline and its peers, on one machine in one run.
 *
 * In: `--quick` for one short round, `--save` to write RESULTS.md, results.svg and chart.svg. Out: tables on stdout,
 * progress on stderr. However it ends, it leaves no process running.
 */

import { chart } from "./chart.ts";
import { machine } from "./machine.ts";
import { FULL, measureAll, QUICK, subjectsOf } from "./plans.ts";
import { plot } from "./plot.ts";
import { leaveNoProcess } from "./process.ts";
import { report, skippedText, tables } from "./report.ts";
import { reasonToSkip, type Subject } from "./subjects.ts";

const unknown = Deno.args.find((argument) => !["--quick", "--save"].includes(argument));
if (unknown !== undefined) {
  console.error(`Unknown option ${unknown}. Usage: deno task bench [--quick] [--save]`);
  Deno.exit(2);
}

const plan = Deno.args.includes("--quick") ? QUICK : FULL;
await leaveNoProcess(async () => {
  const skipped = new Map<Subject, string>();
  for (const subject of subjectsOf(plan)) {
    const reason = await reasonToSkip(subject);
    if (reason !== undefined) skipped.set(subject, reason);
  }
  console.error(skippedText(skipped));
  const results = await measureAll(plan, skipped);
  console.log(`${skippedText(skipped)}${tables(results)}`);
  if (Deno.args.includes("--save")) {
    await Deno.writeTextFile(new URL("RESULTS.md", import.meta.url), report(results, skipped, await machine()));
    await Deno.writeTextFile(new URL("results.svg", import.meta.url), plot(results));
    await Deno.writeTextFile(new URL("chart.svg", import.meta.url), chart(results));
  }
});
