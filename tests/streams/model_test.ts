/**
 * Thousands of interleavings of what the ends of streams do, and of what happens to them, compared with a model.
 *
 * `--interleavings N` after `--` asks for more than the default; each has a seed of its own, which is printed if it fails.
 */

import { assert, assertEquals } from "@std/assert";
import { newSeed, Random } from "../support/random.ts";
import { type Broken, runModel } from "./model.ts";

const given = Deno.args.indexOf("--interleavings");
const INTERLEAVINGS = given < 0 ? 2_000 : Number(Deno.args[given + 1]);

/** What must be among the outcomes, for them to show anything. */
const TO_BE_MET = [
  ...["value", "HANDLER", "CANCELLED", "CONNECTION_LOST", "CLOSED", "TIMEOUT"].flatMap((outcome) =>
    ["up", "down", "both"].map((kind) => `${kind} ${outcome}`)
  ),
  ...["up source", "both source", "down left", "both left", "tracked left", "tracked value"],
];

/** Runs the model many times. Returns what was wrong in the first run that has failed, and what was met. */
async function runs(count: number, seed: number, broken?: Broken) {
  const seeds = new Random(seed);
  const met = new Map<string, number>();
  for (let index = 0; index < count; index++) {
    const runSeed = seeds.below(2 ** 32);
    const { faults, outcomes } = await runModel(runSeed, broken);
    for (const outcome of outcomes) met.set(outcome, (met.get(outcome) ?? 0) + 1);
    if (faults.length > 0) return { faults: [`run ${index}, seed ${runSeed}`, ...faults], met };
  }
  return { faults: [], met };
}

Deno.test(`model - ${INTERLEAVINGS} interleavings of streams both ways come out as they must`, async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const { faults, met } = await runs(INTERLEAVINGS, seed);
  console.log(Object.fromEntries([...met].sort()));
  assertEquals(faults, []);
  assertEquals(TO_BE_MET.filter((outcome) => !met.has(outcome)), [], "never met");
});
void assert;
