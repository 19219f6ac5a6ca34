/**
 * The table "who notices what, after how long", in Markdown.
 *
 *     deno run --no-prompt -A tests/network/table.ts [--alive-ms 30000] [--patience-ms 75000]
 *
 * In: the client's `aliveMs`, its default if it is missing; how long is waited for somebody to notice. Out: the table, on
 * stdout. Refused: a machine that permits no network namespaces, with the reason and exit code 1.
 */

import { parseArgs } from "jsr:@std/cli@^1.0.0/parse-args";
import { Network } from "./hosts.ts";
import { type Ending, type Fault, faults, type Observation, observe, type Situation, SITUATIONS } from "./observe.ts";

/** When packets pass again, where they do. */
const HEAL_AFTER_MS = 3_000;

/** How many faults are watched at the same time: each is two processes. */
const AT_A_TIME = 5;

const CALLERS: Record<Situation, string> = {
  call: "a call in flight",
  stream: "a quiet stream",
  next: "the next call on an idle connection",
};

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

function shown(ending: Ending | undefined): string {
  if (ending === undefined) return "-";
  const { code, afterMs, sinceResumed } = ending;
  const time = `${seconds(afterMs)}${sinceResumed ? " of going on" : ""}`;
  return code === undefined ? `nothing within ${time}` : `\`${code}\` after ${time}`;
}

/** Some things done, a few at a time, each result in its place. */
async function mapSome<In, Out>(items: readonly In[], act: (item: In) => Promise<Out>): Promise<Out[]> {
  const results: Out[] = [];
  const waiting = items.entries();
  const work = async () => {
    for (const [index, item] of waiting) results[index] = await act(item);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
  return results;
}

function rows(fault: Fault, observations: Record<Situation, Observation>): string[] {
  return SITUATIONS.map((each, index) => {
    const { caller, handler } = observations[each];
    return `| ${index === 0 ? fault.name : ""} | ${CALLERS[each]} | ${shown(caller)} | ${shown(handler)} |`;
  });
}

if (import.meta.main) {
  const flags = parseArgs(Deno.args, { string: ["alive-ms", "patience-ms"] });
  const problem = await Network.problem();
  if (problem !== undefined) {
    console.error(`no network namespaces here: ${problem}`);
    Deno.exit(1);
  }
  const options = {
    aliveMs: flags["alive-ms"] === undefined ? undefined : Number(flags["alive-ms"]),
    patienceMs: Number(flags["patience-ms"] ?? 75_000),
    healAfterMs: HEAL_AFTER_MS,
  };
  const all = Object.values(faults);
  const observed = await mapSome(all, (fault) => observe(fault, options));
  console.log("| fault | in use | its caller gets | its handler gets |\n| --- | --- | --- | --- |");
  console.log(all.flatMap((fault, index) => rows(fault, observed[index])).join("\n"));
}
