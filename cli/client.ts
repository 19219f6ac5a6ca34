/**
 * The client as a program: `deno run --allow-net client.ts DELAY 2`.
 *
 * In: a command, its parameters, flags. Out: the server's replies on stdout, as JSON, a line each; on stderr the bytes
 * of both sides, if they are wanted; an exit code. Refused, each in one line on stderr: a command line it cannot make
 * sense of (2), a server that cannot be reached, breaks off or takes too long, an output that takes no more (3).
 */

import config from "../deno.json" with { type: "json" };
import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_HOSTNAME, DEFAULT_PORT } from "../limits.ts";
import type { Duplex } from "../transport/duplex.ts";
import { type Address, dialAddress, textOf } from "../transport/dialer.ts";
import { type FlagValues, readArguments, toggle, UsageError } from "./arguments.ts";
import { type CommandCall, frameOf, readCall } from "./call.ts";
import { converse } from "./conversation.ts";
import { ABOUT, describeFlags, hostnameFlag, pathFlag, portFlag, secondsFlag } from "./flags.ts";
import { type Direction, tapFrames } from "./frame_tap.ts";
import { hexDump } from "./hex_dump.ts";
import { toJson } from "./json.ts";
import { complain, note, OutputError, print } from "./output.ts";
import { InputError, readPem } from "./pem.ts";
import { commandsOf, commandTable, statisticsTable } from "./reports.ts";

const FLAGS = {
  hostname: hostnameFlag("the server's name or address"),
  port: portFlag("the server's port", 1),
  unix: pathFlag("the server's unix socket, in place of a name and a port"),
  tls: toggle("speaks TLS; implied by --ca, --cert and --key"),
  ca: pathFlag("a file with the authority to trust, PEM"),
  cert: pathFlag("a file with the client's own certificate, PEM, for a server that asks for one"),
  key: pathFlag("a file with its private key, PEM"),
  timeout: secondsFlag("how long to wait for the server (default: for ever)", { zero: false }),
  json: toggle("prints bare JSON, for programs"),
  hex: toggle("shows each frame on stderr, as xxd would: > sent, < received"),
  list: toggle("lists the server's commands"),
  ...ABOUT,
};

const HELP = `packline ${config.version}: calls a command of a server, and prints what it says

Usage: deno run --allow-net client.ts [flags] COMMAND [key=value ...]
       deno run --allow-net client.ts [flags] DELAY SECONDS
       deno run --allow-net client.ts [flags] --list

${describeFlags(FLAGS)}

A value is JSON where it parses as such, else text: times=2 is a number, name=Ada and id=007 are text, id='"2"' too.
What begins with a dash is a flag, unless it is a number such as -1 or comes after --.

What JSON cannot hold is an object with one key, in both directions:
  {"$binary": "AAEC"}              bytes, as base64
  {"$bigint": "9007199254740993"}  an integer beyond 2^53; a typed one needs no such form, and is not rounded
  {"$number": "NaN"}               also "Infinity", "-Infinity", "-0"
A real map that looks like one of these has one more $ before its key.

A stream is printed as it comes, an item a line, each with "more":true; the last line is without.
STATS is printed as a table, unless --json is given.

Exit code: 0 for a reply with res, 1 for one with err, 2 for a command line that makes no sense, 3 for a server that
cannot be reached, breaks off, or does not answer in time, and for output that cannot be written.`;

/**
 * Runs the client.
 *
 * @param args The arguments of the command line.
 * @returns The exit code.
 */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const { flags, words } = readArguments(args, FLAGS);
    if (flags.help || flags.version) {
      await print(flags.help ? HELP : `packline ${config.version}`);
      return 0;
    }
    if (flags.list && words.length > 0) throw new UsageError(`--list goes without a command, such as "${words[0]}"`);
    return await run(readCall(flags.list ? ["INFO"] : words), flags);
  } catch (error) {
    if (error instanceof UsageError) {
      await complain(`${error.message}; see --help`);
      return 2;
    }
    if (!(error instanceof RpcError || error instanceof OutputError || error instanceof InputError)) throw error;
    await complain(error instanceof RpcError ? error.toJSON().msg ?? error.code : error.message);
    return 3;
  }
}

/** Makes the call, and prints what comes. */
async function run(call: CommandCall, flags: FlagValues<typeof FLAGS>): Promise<number> {
  const { timeout } = flags;
  const request = frameOf(call);
  const address = await addressOf(flags);
  const deadline = timeout === undefined ? new AbortController().signal : AbortSignal.timeout(timeout * 1000);
  let socket: Duplex | undefined;
  try {
    socket = await dial(address, deadline);
    deadline.addEventListener("abort", () => socket?.close?.());
    deadline.throwIfAborted();
    let failed = false;
    for await (const { fields, more } of converse(flags.hex ? tapFrames(socket, showFrame) : socket, request)) {
      failed = "err" in fields;
      if (!await print(present(call, more ? { ...fields, more } : fields, flags))) break;
    }
    return failed ? 1 : 0;
  } catch (error) {
    if (deadline.aborted) throw new RpcError("TIMEOUT", `no reply within ${timeout} s`);
    throw error;
  } finally {
    socket?.close?.();
  }
}

async function addressOf(flags: FlagValues<typeof FLAGS>): Promise<Address> {
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, unix: path, ca, cert, key } = flags;
  const withTls = flags.tls || ca !== undefined || cert !== undefined || key !== undefined;
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--cert and --key go together");
  if (path !== undefined && withTls) throw new UsageError("--unix goes without TLS");
  return { hostname, port, path, tls: withTls ? await readPem(flags, ["ca", "cert", "key"]) : undefined };
}

async function dial(address: Address, deadline: AbortSignal): Promise<Duplex> {
  try {
    return await dialAddress(address, deadline);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    const { path } = address;
    const flags = path === undefined
      ? `--allow-net=${textOf(address)}`
      : `--allow-net=unix:${path} --allow-read=${path} --allow-write=${path}`;
    throw new RpcError("CONNECTION_LOST", `no permission to reach ${textOf(address)}; run it with ${flags}`);
  }
}

/** A reply as the flags want it. */
function present({ name }: CommandCall, fields: Fields, { json, list }: FlagValues<typeof FLAGS>): string {
  if (list && "res" in fields) {
    const commands = commandsOf(fields.res);
    if (commands === undefined) throw new RpcError("BAD_REPLY", "the server does not list its commands");
    return json ? toJson(commands) : commandTable(commands);
  }
  if (json) return toJson(fields);
  return (name === "STATS" ? statisticsTable(fields.res) : undefined) ?? `you said ${toJson(fields)}`;
}

async function showFrame(frame: Uint8Array, direction: Direction): Promise<void> {
  const mark = direction === "sent" ? ">" : "<";
  await note(hexDump(frame).map((line) => `${mark} ${line}`).join("\n"));
}
