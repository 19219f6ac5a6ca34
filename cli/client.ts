/**
 * The command-line client: `deno run --allow-net client.ts DELAY 2`.
 *
 * In: a command, its parameters, flags; without a command, lines from a terminal or stdin. Out: the replies as JSON
 * lines on stdout; the bytes of both sides on stderr, if requested; an exit code. Refused, each in one line on stderr:
 * an invalid command line (2); a server that cannot be reached, disconnects or takes too long, and an output that
 * cannot be written (3).
 */

import config from "../deno.json" with { type: "json" };
import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { textOf } from "../transport/address.ts";
import { UsageError } from "./arguments.ts";
import { type CommandCall, outgoing, readCall } from "./call.ts";
import { type ClientFlags, HELP, readClientArguments } from "./client_flags.ts";
import { endNow } from "./end.ts";
import { textFor } from "./error_text.ts";
import { exchange } from "./exchange.ts";
import { type Direction, tapFrames } from "./frame_tap.ts";
import { hexDump } from "./hex_dump.ts";
import { nameFrame } from "./frame_names.ts";
import { InputError, partsOf } from "./input_file.ts";
import { untilInterrupted } from "./interrupt.ts";
import { complain, note, OutputError, print } from "./output.ts";
import { present } from "./present.ts";
import { repeat } from "./repeat.ts";
import { runBench } from "./run_bench.ts";
import { runScript, scriptLines } from "./script.ts";
import { addressOf, askPermission, dialOrExplain, type GivenAddress } from "./server_address.ts";
import { findCommand, listCommands } from "./server_commands.ts";
import { Session } from "./session.ts";
import { tap } from "./tap.ts";
import { standardInput } from "./values.ts";
import { watch } from "./watch.ts";
import { wrap } from "./wrap.ts";

export { endNow };

const DEFAULT_INTERVAL_SECONDS = 1;

/**
 * Runs the client.
 *
 * @param args The arguments of the command line.
 * @returns The exit code.
 */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const { flags, words } = readClientArguments(args);
    if (flags.help || flags.version) {
      await print(flags.help ? wrap(HELP) : `packline ${config.version}`);
      return 0;
    }
    // Imported only if needed: a plain call does not use these modules.
    if (flags.types !== undefined || flags.check !== undefined) {
      return await (await import("./contract_command.ts")).runContract(flags);
    }
    if (flags.mcp) return await (await import("./mcp.ts")).runMcp(words, flags);
    if (flags.tap) return await runTap(words[0], flags);
    const command = flags.describe !== undefined ? ["INFO", "shapes=true"] : flags.list ? ["INFO"] : words;
    return command.length > 0 ? await runCommand(readCall(command, standardInput()), flags) : await runLines(flags);
  } catch (error) {
    if (error instanceof UsageError) {
      await complain(`${error.message}; see --help`);
      return 2;
    }
    if (!(error instanceof RpcError || error instanceof OutputError || error instanceof InputError)) throw error;
    await complain(error instanceof RpcError ? textFor(error) ?? error.code : error.message);
    return error instanceof RpcError && error.code === "CMD_NOT_FOUND" ? 1 : 3;
  }
}

/** Runs one command: once, repeatedly, or as a load test. */
async function runCommand(call: CommandCall, flags: ClientFlags): Promise<number> {
  const { timeout, json, interval = DEFAULT_INTERVAL_SECONDS, meta, maxPayloadBytes } = flags;
  checkStream(call, flags);
  const frames = outgoing(call, { meta, maxPayloadBytes, timeout });
  const address = addressOf(flags);
  await askPermission(address);
  if (flags.bench) return await runBench(call, { flags, dial: (signal) => dialOrExplain(address, signal) });
  const session = new Session((signal) => dial(address, flags, signal), maxPayloadBytes);
  const show = (fields: Fields) => present(call, fields, flags);
  try {
    if (flags.repeat !== undefined) {
      const intervalMs = interval * 1000;
      return await repeat({ session, call: frames, timeout, json, present: show, count: flags.repeat, intervalMs });
    }
    if (flags.watch !== undefined) {
      return await watch({ session, call: frames, timeout, json, present: show, intervalMs: flags.watch * 1000 });
    }
    let interruption: number | undefined;
    const stop = new AbortController();
    const run = () => exchange({ session, call: frames, timeout, json, show, signal: stop.signal });
    const { items } = frames;
    // If a signal breaks off a stream, its call is cancelled. Without a stream, closing the connection is enough.
    const ending = items === undefined ? await run() : await untilInterrupted(run, (exitCode) => {
      interruption = exitCode;
      if (!session.cancel(items.seq)) stop.abort();
    }).catch((error) => {
      if (interruption === undefined) throw error;
    });
    if (interruption !== undefined) return interruption;
    // For people only, because it takes one more call.
    if (ending?.code === "CMD_NOT_FOUND" && Deno.stderr.isTerminal() && !json && !flags.hex) {
      findCommand(await listCommands(session, { meta, maxPayloadBytes }).catch(() => []), call.name);
    }
    return ending?.failed ? 1 : 0;
  } finally {
    session.close();
  }
}

/** Shows the calls of all clients of the server. */
async function runTap(command: string | undefined, flags: ClientFlags): Promise<number> {
  const { slowMs, json, timeout, meta, maxPayloadBytes } = flags;
  const address = addressOf(flags);
  await askPermission(address);
  const options = { command, slowMs, json, timeout, meta, maxPayloadBytes, address: textOf(address) };
  return await tap({ ...options, dial: (signal) => dial(address, flags, signal) });
}

/** Refuses a stream of items if a flag does not allow it. */
function checkStream({ items }: CommandCall, { repeat, watch, bench }: ClientFlags): void {
  if (items === undefined) return;
  if (watch !== undefined) {
    throw new UsageError(`--watch cannot be used with a stream of items, such as "${items.given}"`);
  }
  const flag = bench ? "--bench" : repeat === undefined ? undefined : "--repeat";
  if (flag !== undefined && items.isStandardInput) {
    throw new UsageError(
      `${flag} cannot send "${items.given}": standard input can be read only once; give a file, as @PATH`,
    );
  }
}

/** Runs calls that are typed or piped. */
async function runLines(flags: ClientFlags): Promise<number> {
  const { timeout, json, meta, maxPayloadBytes } = flags;
  const address = addressOf(flags);
  await askPermission(address);
  const session = new Session((signal) => dial(address, flags, signal), maxPayloadBytes);
  const options = {
    session,
    timeout,
    meta,
    maxPayloadBytes,
    json,
    present: (call: CommandCall, fields: Fields) => present(call, fields, flags),
  };
  try {
    if (!(Deno.stdin.isTerminal() && Deno.stdout.isTerminal())) {
      return await runScript(scriptLines(partsOf(Deno.stdin.readable, "-", "standard input")), options);
    }
    // Imported only if needed, because the editor loads much of the runtime.
    const { runPrompt } = await import("./prompt.ts");
    return await runPrompt({ ...options, address: textOf(address), eager: !flags.hex });
  } finally {
    session.close();
  }
}

async function dial(address: GivenAddress, { hex }: ClientFlags, signal: AbortSignal) {
  const socket = await dialOrExplain(address, signal);
  return hex ? tapFrames(socket, showFrame) : socket;
}

async function showFrame(frame: Uint8Array, direction: Direction): Promise<void> {
  const mark = direction === "sent" ? ">" : "<";
  await note([...hexDump(frame), ...nameFrame(frame, direction)].map((line) => `${mark} ${line}`).join("\n"));
}
