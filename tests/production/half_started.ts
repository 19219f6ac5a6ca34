/** A service of two workers, the second of which hangs before it serves. Not a test. */

import { command, run } from "../../mod.ts";

export const commands = {
  /** Is answered at the beginning of a shutdown. */
  HOLD: command(async (_params: object, { draining }) => {
    await new Promise((resolve) => draining.addEventListener("abort", resolve));
    return "finished";
  }),
};

if (Deno.args.at(-1) === "2" && Deno.args.at(-2) === "--packline-worker") {
  console.error("worker 2 hangs");
  setInterval(() => {}, 1_000_000); // a socket to a database that does not answer, for example
  await new Promise(() => {});
}
if (import.meta.main) await run({ commands, workers: 2, graceMs: 100 });
