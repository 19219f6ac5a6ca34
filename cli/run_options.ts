/**
 * The options of `run()`.
 *
 * In: an object from a user's program. Out: its type. Refused: options that do not exist, are of another kind, or
 * exclude one another.
 */

import { type ServeOptions, SERVER_OPTIONS } from "../handlers/open_server.ts";
import { LISTEN_OPTIONS } from "../handlers/server.ts";
import { checkOptions, OPTION_KINDS, type OptionKind } from "../limits.ts";
import { checkPlace } from "../transport/listen.ts";

/** Options of `run()`: the options of `serve()`, and options of a program. */
export interface RunOptions extends Omit<ServeOptions, "worker"> {
  /**
   * How long a shutdown waits for calls in flight, in milliseconds.
   *
   * @default {10_000}
   */
  graceMs?: number;
  /**
   * Processes that share the port, each with its own limits; `auto` is one per core. More than one works only on Linux,
   * and needs `--unstable-net` and `--allow-run` for Deno itself.
   *
   * @default {1}
   */
  workers?: number | "auto";
  /**
   * Flags of Deno for the worker processes, such as `--allow-read=data`. They always get the permissions that this
   * process has without restriction (`--allow-read`), and may listen on the address. Deno does not tell a program about
   * permissions with a restriction, so list those here.
   */
  workerFlags?: readonly string[];
  /** The arguments of the command line, instead of `Deno.args`. */
  args?: readonly string[];
}

/** A program has no option `worker`: it is for the worker processes. */
const { worker: _, ...SERVICE_OPTIONS } = SERVER_OPTIONS;

/** What each option must be. */
const RUN_OPTIONS: Record<keyof RunOptions, OptionKind> = {
  ...LISTEN_OPTIONS,
  ...SERVICE_OPTIONS,
  ...{
    graceMs: OPTION_KINDS.grace,
    workers: OPTION_KINDS.workers,
    workerFlags: OPTION_KINDS.texts,
    args: OPTION_KINDS.texts,
  },
};

/**
 * Checks the options.
 *
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is unknown or of another kind, or excludes another.
 */
export function checkRunOptions(options: RunOptions): void {
  checkOptions(options, RUN_OPTIONS);
  checkPlace(options); // here too: a flag may replace what contradicts itself
}
