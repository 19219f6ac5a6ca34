/**
 * What `deno task fuzz` starts:
 *
 *     deno task fuzz [--inputs 1000000] [--seed 5]
 *
 * Out: the seed, a line now and then, the report. Exit code 1 if an input has failed; it is in the corpus then.
 */

import { parseArgs } from "jsr:@std/cli@^1.0.0/parse-args";
import { newSeed } from "../support/random.ts";
import { fuzzInParallel, keepFailures, table } from "./fuzz.ts";

const options = parseArgs(Deno.args, {
  string: ["inputs", "seed"],
  default: { inputs: "1000000", seed: `${newSeed()}` },
});
const [inputs, seed] = [Number(options.inputs), Number(options.seed)];
if (!Number.isSafeInteger(inputs) || !Number.isSafeInteger(seed) || inputs < 1) {
  console.error("--inputs and --seed take whole numbers");
  Deno.exit(2);
}

console.log(`seed ${seed}`);
let [done, told] = [0, 0];
const report = await fuzzInParallel({ inputs, seed }, (inputs) => {
  done += inputs;
  if (done - told >= 100_000) console.log(`${told = done} inputs`);
});
console.log(table(report));
for (const line of await keepFailures(report, seed)) console.log(line);
if (report.failures.length > 0) Deno.exitCode = 1;
