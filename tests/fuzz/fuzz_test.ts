/**
 * A tenth of what `deno task fuzz` runs, from a seed that is other each time; the corpus; and the same inputs under a flag
 * of the runtime that lets a map's keys change its prototype.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { newSeed } from "../support/random.ts";
import { ALL_REFUSALS } from "./codec_checks.ts";
import { readCorpus } from "./corpus.ts";
import { complaintAbout, fuzzInParallel, keepFailures, table } from "./fuzz.ts";

const SEED = newSeed();
const INPUTS = 100_000;
const INPUTS_UNDER_FLAG = 5_000;

/** What has to be among the outcomes, for them to show anything. */
const TO_BE_MET = [
  ...[...ALL_REFUSALS, "a value", "Request", "ReceivedReply", "BadFrame", "Truncated"],
  ...["Settings", "Cancel", "Credit", "RequestItem", "RequestEnd", "UnknownControl"],
  ...["Going", "RequestCredit", "UnknownNotice"],
  ...[
    "a success",
    "an item",
    "a grant",
    "closed",
    "BAD_FRAME",
    "INVALID_MESSAGE",
    "CMD_NOT_FOUND",
    "INVALID_SLEEP",
    "REFUSED",
  ],
];

Deno.test(`${INPUTS} damaged inputs are read or refused, in time and in order (seed ${SEED})`, async () => {
  console.log(`seed ${SEED}`);
  const report = await fuzzInParallel({ inputs: INPUTS, seed: SEED });
  console.log(table(report));
  assertEquals(await keepFailures(report, SEED), []);
  assertEquals(report.inputs, INPUTS);
  assertEquals(TO_BE_MET.filter((kind) => !report.met.has(kind)), [], "never met");
});

Deno.test("every input that has ever failed is read or refused now", async () => {
  const corpus = await readCorpus();
  assert(corpus.length > 0);
  for (const input of corpus) assertEquals(await complaintAbout(input), undefined, input.name);
});

Deno.test(`the same comes of ${INPUTS_UNDER_FLAG} inputs under --unstable-unsafe-proto (seed ${SEED})`, async () => {
  const [plain, unsafe] = await Promise.all([digestUnder([]), digestUnder(["--unstable-unsafe-proto"])]);
  assertEquals(unsafe, plain);
});

/** What `deno task fuzz` prints for a digest, when the runtime is started with some flags. */
async function digestUnder(flags: string[]): Promise<string> {
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--allow-read", ...flags, new URL("main.ts", import.meta.url).pathname],
      ...["--inputs", `${INPUTS_UNDER_FLAG}`, "--seed", `${SEED}`],
    ],
    stderr: "inherit",
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert(success, text);
  const [digest] = text.match(/digest \w+/) ?? [""];
  assertMatch(digest, /^digest \w+$/);
  return digest;
}
