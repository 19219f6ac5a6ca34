/**
 * The server of the restart experiment, as a program with the flags of every service: `--port`, `--workers`, `--grace`.
 *
 * In: calls that take a while, and streams that are quiet most of the time. Out: their answers.
 */

import { command, type Context, run } from "../../mod.ts";
import { sleep } from "../../transport/clock.ts";

const commands = {
  WORK: command(async ({ workMs }: { workMs: number }, { clock, signal }) => {
    await sleep(clock, workMs, signal);
    return "DONE";
  }),
  WATCH: command(async function* ({ watchMs }: { watchMs: number }, { clock, signal, draining }: Context) {
    yield "the only item";
    await sleep(clock, watchMs, AbortSignal.any([signal, draining]));
    return "DONE";
  }),
};

export type RestartingCommands = typeof commands;

// A new process may listen before the old one has ended.
if (import.meta.main) await run({ commands, reusePort: true });
