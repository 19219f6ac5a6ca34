/**
 * Runs a service as a program: what `run()` and `deno task serve` have in common.
 *
 * In: a service and a command line. Out: a server, or several workers, that listen until SIGINT, SIGTERM or SIGHUP; one
 * line on stdout with the address; an exit code. Refused, each in one line on stderr: an invalid command line (2), an
 * address it cannot listen on (1).
 */

import config from "../deno.json" with { type: "json" };
import type { Commands } from "../handlers/command.ts";
import type { LogStyle } from "../handlers/log_line.ts";
import { Registry } from "../handlers/registry.ts";
import { resolveLimits } from "../limits.ts";
import { flagOf, type Flags, type FlagValues, readArguments, UsageError } from "./arguments.ts";
import { variableOf } from "./environment.ts";
import { endWith } from "./end.ts";
import { describeFlags } from "./flags.ts";
import { isHangupIgnored } from "./hangup.ts";
import { complain, OutputError, print, standardOutput } from "./output.ts";
import { InputError } from "./input_file.ts";
import { checkRunOptions, type RunOptions } from "./run_options.ts";
import { LIMIT_FLAGS, readSettings, SERVICE_FLAGS, type ServiceSettings } from "./service_flags.ts";
import { serverOptionsOf, start, StartError } from "./start.ts";
import { logEvent } from "./service_log.ts";
import { shutDownOnSignal } from "./stop_signals.ts";
import { table } from "./table.ts";
import { inheritedFlags, workerNumber, type WorkerProgram } from "./worker_process.ts";
import { wrap } from "./wrap.ts";

/** A program around a service. */
interface Program<More extends Flags> {
  /** The service; flags override its options. */
  readonly options: RunOptions;
  /** The command lines in the help. */
  readonly usage: readonly string[];
  /** Flags that only this program has. */
  readonly flags: More;
  /** Loads the commands, if they depend on this program's flags. */
  readonly commandsOf?: (flags: FlagValues<More>) => Promise<Commands>;
  /** Called after the settings are read, and before the program listens. */
  readonly beforeStart?: (flags: FlagValues<More>, settings: ServiceSettings) => Promise<void>;
  /** What to start as a worker. */
  readonly worker: (flags: FlagValues<More>) => Omit<WorkerProgram, "main">;
}

/**
 * Runs a user's own service until it ends. Sets the exit code of the process.
 *
 * @param options The options of `run()`.
 * @returns The exit code.
 * @throws {TypeError | RangeError} If the options are a mistake of the program.
 */
export async function runOwnService(options: RunOptions): Promise<number> {
  checkRunOptions(options);
  const name = Deno.mainModule.split("/").at(-1);
  const code = await runProgram({
    options,
    usage: [`deno run --allow-net ${name} [flags]`],
    flags: {},
    worker: () => ({ flags: [...inheritedFlags(), ...options.workerFlags ?? []], args: Deno.args }),
  }, options.args ?? Deno.args);
  endWith(code);
  return code;
}

/**
 * Runs a program until its service ends.
 *
 * @param program The program.
 * @param args The arguments of the command line.
 * @returns The exit code.
 */
export async function runProgram<More extends Flags>(program: Program<More>, args: readonly string[]): Promise<number> {
  // First of all: once the runtime starts a process or listens to a signal, it handles SIGHUP too.
  const hangupIsIgnored = isHangupIgnored();
  let log: LogStyle = {};
  try {
    const worker = workerNumber();
    if (worker !== undefined) return await runAsWorker(program, worker);
    const { settings, flags } = readSettings(args, program.options, program.flags);
    log = settings.log;
    const options = { ...program.options, commands: await program.commandsOf?.(flags) ?? program.options.commands };
    if (flags.help) {
      await print(wrap(helpOf(program, options)));
      return 0;
    }
    if (flags.version) {
      await print(`packline ${config.version}`);
      return 0;
    }
    await program.beforeStart?.(flags, settings);
    const server = await start(options, settings, { main: Deno.mainModule, ...program.worker(flags) });
    // Before all workers listen, because the first ones already have calls in flight.
    const ended = shutDownOnSignal(server, hangupIsIgnored, settings);
    const how = server.workers > 1 ? `with ${server.workers} workers ` : "";
    // Not by `print()`: a server on a full disk, or whose reader waits, serves all the same.
    if (await (server.listening ?? true)) {
      standardOutput.write(`packline ${config.version} ${how}listening on ${server.address}`);
    }
    const { finished, cut } = await ended;
    const message = `stopped; calls in flight: ${finished} finished, ${cut} cut`;
    if (server.workers > 1) await logEvent({ event: "stopped", message }, log);
    await standardOutput.flush(); // the process may end now
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      await complain(`${error.message}; see --help`);
      return 2;
    }
    if (!(error instanceof StartError || error instanceof OutputError || error instanceof InputError)) throw error;
    await logEvent({ event: "start_failed", message: error.message }, log);
    return 1;
  }
}

async function runAsWorker<More extends Flags>(program: Program<More>, number: number): Promise<number> {
  const { options, commandsOf } = program;
  const commands = commandsOf
    ? await commandsOf(readArguments(Deno.args.slice(0, -2), program.flags).flags)
    : options.commands;
  const { runWorker } = await import("./worker.ts");
  return await runWorker(number, serverOptionsOf({ ...options, commands }));
}

function helpOf<More extends Flags>({ usage, flags }: Program<More>, options: RunOptions): string {
  const commands = new Registry(options.commands ?? {}, options).describe();
  const unixMode = options.mode?.toString(8).padStart(4, "0");
  return `packline ${config.version}: serves these commands

${table(commands.map(({ name, params, summary }) => [`  ${name}`, params.join(" "), summary]))}

Usage: ${usage.join("\n       ")}

${describeFlags({ ...flags, ...SERVICE_FLAGS }, { ...options, unixMode })}

Limits:

${describeFlags(LIMIT_FLAGS, { ...resolveLimits(options) })}

A time has a unit, as in 500ms, 2s, 5m or 1h; a bare number is seconds. A size may have one, as in 64KiB or 1MiB.
A flag with a value can also be set in the environment: ${flagOf("maxInFlight")} is ${
    variableOf("maxInFlight")
  }. A flag wins over the
environment. Reading it needs --allow-env; without this permission it is ignored.

On SIGINT, SIGTERM or SIGHUP the server finishes the calls in flight and exits with 0. A second signal ends it at once,
with exit code 130, 143 or 129. Under nohup, SIGHUP is ignored. With --cert, SIGHUP makes the server read the files of
its certificate again, unless its terminal has closed; it also does so every minute.

Exit codes: 0 after a shutdown, 1 it cannot listen on the address, 2 invalid arguments.`;
}
