/** A service with commands that tell its process and end it; here as a worker. Not a test. */

import { demoCommands } from "../../cli/demo_commands.ts";
import { command, run } from "../../mod.ts";

/** By an error that nobody catches, on its own, of a full heap. */
const WAYS = {
  throw: () => void Promise.reject(new Error("a test wants it")),
  exit: () => Deno.exit(7),
  fill() {
    for (const held: unknown[] = [];;) held.push(new Array(100_000).fill({}));
  },
};

/** What it serves. */
export const mortalCommands = {
  ...demoCommands,
  PROCESS: command({ number: 16, handler: () => Deno.pid }),
  SAY: command({
    number: 18,
    handler({ text }: { text: string }) {
      console.log(text);
      return null;
    },
  }),
  /** Starts a program that outlives its worker, and holds its output open. */
  LEAVE: command({
    number: 19,
    handler() {
      const child = new Deno.Command("sleep", { args: ["60"], stdin: "null" }).spawn();
      child.unref();
      return child.pid;
    },
  }),
  DIE: command({
    number: 17,
    handler({ way }: { way: keyof typeof WAYS }) {
      WAYS[way]();
      return null;
    },
  }),
};

if (import.meta.main) await run({ commands: mortalCommands });
