/**
 * Runs the benchmark: packline, a raw loop, a naive pipeline, Redis, grpc-js and Node, on one machine in one run.
 *
 * In: `--quick` for one short round, `--save` to write RESULTS.md and results.svg. Out: tables on stdout, progress on
 * stderr. However it ends, it leaves no process running.
 */

import { machine } from "./machine.ts";
import { plot } from "./plot.ts";
import { Process } from "./process.ts";
import { report, skippedText, tables } from "./report.ts";
import { reasonToSkip, type Subject, SUBJECTS } from "./subjects.ts";
import { FULL, measureAll, QUICK } from "./works.ts";

const unknown = Deno.args.find((argument) => !["--quick", "--save"].includes(argument));
if (unknown !== undefined) {
  console.error(`Unknown option ${unknown}. Usage: deno task bench [--quick] [--save]`);
  Deno.exit(2);
}
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => {
    Process.killAll();
    Deno.exit(130);
  });
}

try {
  const skipped = new Map<Subject, string>();
  for (const subject of SUBJECTS) {
    const reason = await reasonToSkip(subject);
    if (reason !== undefined) skipped.set(subject, reason);
  }
  console.error(skippedText(skipped));
  const results = await measureAll(Deno.args.includes("--quick") ? QUICK : FULL, skipped);
  console.log(`${skippedText(skipped)}${tables(results)}`);
  if (Deno.args.includes("--save")) {
    await Deno.writeTextFile(new URL("RESULTS.md", import.meta.url), report(results, skipped, await machine()));
    await Deno.writeTextFile(new URL("results.svg", import.meta.url), plot(results));
  }
} finally {
  Process.killAll();
}
