/**
 * The command-line server: what `deno task serve` runs.
 *
 * In: flags. Out: what `run.ts` gives, for the commands in the module that `--commands` names, or for the demo
 * commands. Refused, in one line on stderr: what `run.ts` refuses, and a module without commands (1).
 */

import { loadCommands, urlOf } from "./commands_module.ts";
import { demoCommands } from "./demo_commands.ts";
import { ABOUT, pathFlag } from "./flags.ts";
import { isGranted } from "./permission.ts";
import { runProgram } from "./run.ts";
import { inheritedFlags, RUNTIME } from "./worker_process.ts";

export { endWith } from "./end.ts";

const FLAGS = {
  commands: pathFlag("module with the commands: its export commands, its default export, or all its exports"),
  version: ABOUT.version,
};

/**
 * Runs the server.
 *
 * @param args The arguments of the command line.
 * @returns The exit code, after the server has ended.
 */
export function main(args: readonly string[]): Promise<number> {
  return runProgram({
    options: {},
    usage: ["deno task serve [flags]", "deno run --allow-net server.ts [flags]"],
    flags: FLAGS,
    commandsOf: async ({ commands }) => commands === undefined ? demoCommands : await loadCommands(commands),
    async beforeStart({ commands }, { path, files, workers }) {
      // The demo commands start no programs and read no files, so drop these permissions.
      if (commands !== undefined) return await dropOwnRun(workers);
      if (workers === 1) await Deno.permissions.revoke({ name: "run" });
      if (path === undefined && files.cert === undefined) await Deno.permissions.revoke({ name: "read" });
    },
    worker({ commands }) {
      if (commands === undefined) return { flags: [], args: [] };
      const url = urlOf(commands);
      return { flags: [...inheritedFlags(), ...readFlags(url)], args: [`--commands=${url}`] };
    },
  }, args);
}

/** Drops the permission to start Deno, which only workers need. A program that may start anything keeps that. */
async function dropOwnRun(workers: number): Promise<void> {
  if (workers > 1 || isGranted({ name: "run" })) return;
  await Deno.permissions.revoke({ name: "run", command: RUNTIME });
}

/** Flags that let a worker read the module of commands and its imports, as far as this process may read them. */
function readFlags(url: string): string[] {
  if (!url.startsWith("file:")) return [];
  const path = decodeURIComponent(new URL(url).pathname);
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  return [Deno.cwd(), folder, path]
    .filter((path) => isGranted({ name: "read", path }))
    .map((path) => `--allow-read=${path.replaceAll(",", ",,")}`);
}
