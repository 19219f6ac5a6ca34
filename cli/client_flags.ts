/**
 * The client's flags, what they say about themselves, and which of them go together.
 *
 * In: the arguments of a command line. Out: flags and words. Refused, by a `UsageError`: what `arguments.ts` refuses,
 * and flags that mean nothing beside one another.
 */

import config from "../deno.json" with { type: "json" };
import { type Flag, flagOf, type FlagValues, readArguments, toggle, UsageError } from "./arguments.ts";
import { ABOUT, countFlag, describeFlags, limitFlag, secondsFlag } from "./flags.ts";
import { LOAD_FLAGS } from "./run_bench.ts";
import { ADDRESS_FLAGS } from "./server_address.ts";

const OUTPUT_FLAGS = {
  timeout: secondsFlag("how long a call may take; none: without end (default none; with --bench: 30)", {
    zero: false,
    endless: true,
  }),
  maxPayloadBytes: limitFlag(
    "maxPayloadBytes",
    "the largest payload, either way; the server is told, unless it is 57310",
  ),
  json: toggle("print bare JSON, for programs, with exact numbers"),
  hex: toggle("show each frame on stderr, as xxd would, and what is in it: > sent, < received"),
  list: toggle("list the server's commands"),
  format: formatFlag("the format of STATS: prometheus"),
  repeat: countFlag("repeat the call so many times and show how long each took, like ping; 0: until Ctrl-C", 0),
  interval: secondsFlag("from the start of one call to the next, with --repeat (default 1)", { zero: true }),
  bench: toggle("make many calls as fast as possible, and show how fast that was"),
};

const FLAGS = { ...ADDRESS_FLAGS, ...OUTPUT_FLAGS, ...LOAD_FLAGS, ...ABOUT };

/** The client's flags, as they were given. */
export type ClientFlags = FlagValues<typeof FLAGS>;

/** What `--help` says. */
export const HELP = `packline ${config.version}: call a command of a server, and print its reply

Usage: deno run --allow-net client.ts [flags] COMMAND [key=value ...]
       deno run --allow-net client.ts [flags] DELAY SECONDS
       deno run --allow-net client.ts [flags] --list
       deno run --allow-net client.ts [flags]              a prompt; not on a terminal, the lines of stdin

${describeFlags({ ...ADDRESS_FLAGS, ...OUTPUT_FLAGS, ...ABOUT })}

For --bench COMMAND [key=value ...]:

${describeFlags(LOAD_FLAGS)}

A value is JSON if it parses as JSON, else text: times=2 is a number, name=Ada and id=007 are text, id='"2"' too.
What begins with a dash is a flag, unless it is a number such as -1 or comes after --.

What JSON cannot hold is written as an object with one key, by you and in replies:
  {"$binary": "AAEC"}              bytes, as base64
  {"$bigint": "9007199254740993"}  an integer beyond 2^53; a typed one needs no such form, and is not rounded
  {"$number": "NaN"}               also "Infinity", "-Infinity", and "-0", which is sent as 0
A real map that looks like one of these has one more $ before its key.

A stream is printed as it comes, an item a line, each with "more":true; the last line is without.
STATS is printed as a table, unless --json or --format is given; numbers with at most six places, unless --json is.
On a terminal, failures are red, unless NO_COLOR is set, and long lines of tables are broken between words.

Exit code: 0 for a reply with res, 1 for one with err, 2 for a command line that makes no sense, 3 for a server that
cannot be reached, breaks off, or does not answer in time, and for output that cannot be written. Of many calls, the
worst counts. --bench and --repeat, ended by Ctrl-C or SIGTERM, count what there is so far; any other end by a signal is
128 and its number.`;

/** Reads the command line. */
export function readClientArguments(args: readonly string[]): { flags: ClientFlags; words: string[] } {
  const { flags, words } = readArguments(args, FLAGS);
  if (flags.help || flags.version) return { flags, words };
  const { list, bench, repeat, interval, format } = flags;
  if (list && words.length > 0) throw new UsageError(`--list goes without a command, such as "${words[0]}"`);
  if (words.length === 0 && (bench || repeat !== undefined)) throw new UsageError("say which command to call");
  if (format !== undefined && words[0] !== "STATS") throw new UsageError(`--format ${format} is for STATS`);
  if (interval !== undefined && repeat === undefined) throw new UsageError("--interval goes with --repeat");
  exclude(flags, "list", ["bench", "repeat"]);
  exclude(flags, "bench", ["repeat", "hex", "format"]);
  exclude(flags, "json", ["format"]);
  for (const property of Object.keys(LOAD_FLAGS) as (keyof typeof LOAD_FLAGS)[]) {
    if (flags[property] !== undefined && !bench) throw new UsageError(`${flagOf(property)} goes with --bench`);
  }
  return { flags, words };
}

function exclude(flags: ClientFlags, one: keyof ClientFlags, others: readonly (keyof ClientFlags)[]): void {
  for (const other of others) {
    if (flags[one] !== undefined && flags[other] !== undefined) {
      throw new UsageError(`${flagOf(one)} goes without ${flagOf(other)}`);
    }
  }
}

function formatFlag(help: string): Flag<"prometheus"> {
  return {
    takes: "NAME",
    help,
    read(text, flag) {
      if (text === "prometheus") return text;
      throw new UsageError(`${flag} ${text}: the only format is prometheus`);
    },
  };
}
