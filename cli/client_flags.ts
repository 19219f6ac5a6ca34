/**
 * The client's flags, their help, and which of them can be combined.
 *
 * In: the arguments of a command line. Out: flags and words. Refused, by a `UsageError`: what `arguments.ts` refuses,
 * and flags that cannot be combined.
 */

import config from "../deno.json" with { type: "json" };
import { type Flag, flagOf, type FlagValues, readArguments, toggle, UsageError } from "./arguments.ts";
import { describedBy } from "./call.ts";
import { setField } from "../codec/text.ts";
import { readInput } from "./input_file.ts";
import { wordsOf } from "./line_words.ts";
import { utf8 } from "./values.ts";
import {
  ABOUT,
  choiceFlag,
  countFlag,
  describeFlags,
  limitFlag,
  pathFlag,
  secondsFlag,
  timeFlag,
  valueFlag,
} from "./flags.ts";
import { LOAD_FLAGS } from "./run_bench.ts";
import { ADDRESS_FLAGS } from "./server_address.ts";

const CALL_FLAGS = {
  meta: metaFlag("send metadata, such as a token; repeatable; token=@PATH reads a file, @@ is a plain @"),
  timeout: secondsFlag("the time limit of a call, for the handler too, or none (default none; with --bench: 30s)", {
    zero: false,
    endless: true,
  }),
  maxPayloadBytes: limitFlag(
    "maxPayloadBytes",
    "the largest payload, both ways; sent to the server unless it is 57310",
  ),
};

const OUTPUT_FLAGS = {
  json: toggle("print bare JSON, for programs, with exact numbers"),
  hex: toggle("dump each frame to stderr like xxd, with its fields: > sent, < received; long ones are cut"),
  list: toggle("list the server's commands"),
  format: formatFlag("the output format of STATS: prometheus"),
  watch: secondsFlag("repeat STATS at this interval until Ctrl-C; on a terminal, in place", { zero: false }),
  tap: toggle("show the calls of a server started with --tap, all or those of one COMMAND, until Ctrl-C"),
  slowMs: timeFlag("with --tap: only calls that took at least this long", { zero: true }),
  repeat: countFlag("repeat the call COUNT times and print round-trip times, like ping (0: until Ctrl-C)", 0),
  interval: secondsFlag("the time from the start of one call to the next, with --repeat (default 1s)", { zero: true }),
  bench: toggle("make many calls as fast as possible and print throughput and latency"),
};

/** Flags that use the server's description of itself, instead of making a call. */
const CONTRACT_FLAGS = {
  types: choiceFlag("print the types of the server's commands for another repository", ["ts", "lua", "python", "json"]),
  check: pathFlag("compare the server with a description that --types json has printed; exit 1 if callers break"),
  mcp: toggle("offer commands, those named or all, as tools to an agent (Model Context Protocol, stdio)"),
};

const FLAGS = { ...ADDRESS_FLAGS, ...CALL_FLAGS, ...OUTPUT_FLAGS, ...CONTRACT_FLAGS, ...LOAD_FLAGS, ...ABOUT };

/** The given flags, and the command that `describe COMMAND` asks about. */
export type ClientFlags = FlagValues<typeof FLAGS> & { readonly describe?: string };

/** Metadata of a call, such as a token. */
export type Metadata = Record<string, string>;

/** The text of `--help`. */
export const HELP = `packline ${config.version}: call a command on a server and print its reply

Usage: deno run --allow-net client.ts [flags] COMMAND [key=value ...] [@PATH or -]
       deno run --allow-net client.ts [flags] describe COMMAND   a command's types; --list shows all commands
       deno run --allow-net client.ts [flags]                    a prompt on a terminal, else calls from stdin

${describeFlags({ ...ADDRESS_FLAGS, ...CALL_FLAGS, ...OUTPUT_FLAGS, ...CONTRACT_FLAGS, ...ABOUT })}

For --bench COMMAND [key=value ...] [@PATH]:
${describeFlags(LOAD_FLAGS)}

A value that parses as JSON is JSON, otherwise it is text: times=2 is a number; name=Ada, id=007 and id='"2"' are text.
key=@PATH reads the value from a file in the same way, key=- from standard input. key=@text:PATH takes the content as
text, key=@bytes:PATH as bytes, with any content (PATH may be -). Text that begins with @ needs quotes: key='"@home"'.
A stream of items has no key: @PATH sends a file in chunks, - each line of standard input as a value, in the prompt up
to an empty line; @text: and @bytes: as above. Other words with a dash are flags, except numbers and words after --.
Values that JSON lacks are objects with one key, in arguments and in replies (a real map like one gets one more $):
  {"$binary": "AAEC"} are bytes, as base64; {"$number": "NaN"} also "Infinity", "-Infinity", and "-0", sent as 0
  {"$bigint": "9007199254740993"} an integer beyond 2^53; in arguments a plain number works too and is not rounded
A stream is printed as it arrives, one item a line, with "more":true in every line but the last. STATS is printed as a
table, unless --json or --format is given. Without --json, numbers have at most six decimals. NO_COLOR: no red failures.
Exit codes: 0 success, 1 the command failed, 2 invalid arguments, 3 no server, no reply in time, no file, a full disk.
Of several, the highest counts. At Ctrl-C or SIGTERM, --bench, --repeat and --watch end as usual; others: 130 or 143.

Examples, in which client.ts is short for deno run --allow-net client.ts:
  client.ts DELAY 2
  client.ts -p 1300 GREET name=Ada times=2
  client.ts -u packlines://api.example --meta token=@token UPLOAD name=film @film.mp4
  client.ts --bench PING -n 20000 -P 16`;

const CALL_KINDS = ["list", "describe", "json", "hex", "format", "watch", "repeat", "bench"] as const;
const CONTRACT_EXCLUDES: readonly (readonly (keyof ClientFlags)[])[] = [
  ["types", "check", "mcp", ...CALL_KINDS],
  ["check", "mcp", ...CALL_KINDS],
  ["mcp", ...CALL_KINDS],
];

/** Parses the command line. */
export function readClientArguments(args: readonly string[]): { flags: ClientFlags; words: string[] } {
  const { words, flags: given } = readArguments(args, FLAGS);
  const flags: ClientFlags = { ...given, describe: describedBy(words) };
  if (flags.help || flags.version) return { flags, words };
  const { list, bench, repeat, interval, format, watch, tap, slowMs } = flags;
  if (list && words.length > 0) throw new UsageError(`--list cannot be used with a command, such as "${words[0]}"`);
  if (words.length === 0 && (bench || repeat !== undefined)) throw new UsageError("specify a command to call");
  if (format !== undefined && words[0] !== "STATS") throw new UsageError(`--format ${format} works only with STATS`);
  if (watch !== undefined && words[0] !== "STATS") throw new UsageError("--watch works only with STATS");
  if (interval !== undefined && repeat === undefined) throw new UsageError("--interval needs --repeat");
  for (const [one, ...others] of CONTRACT_EXCLUDES) exclude(flags, one, others);
  const contract = flags.types !== undefined ? "--types" : flags.check !== undefined ? "--check" : undefined;
  if (contract !== undefined && words.length > 0) {
    throw new UsageError(`${contract} cannot be used with a command, such as "${words[0]}"`);
  }
  if (slowMs !== undefined && !tap) throw new UsageError("--slow needs --tap");
  if (tap && words.length > 1) {
    throw new UsageError(`--tap takes one command, and no parameters, such as "${words[1]}"`);
  }
  exclude(flags, "tap", ["list", "describe", "bench", "repeat", "watch", "format"]);
  exclude(flags, "list", ["bench", "repeat"]);
  exclude(flags, "describe", ["bench", "repeat"]);
  exclude(flags, "bench", ["repeat", "hex", "format"]);
  exclude(flags, "json", ["format"]);
  exclude(flags, "watch", ["bench", "repeat", "format", "hex"]);
  for (const property of Object.keys(LOAD_FLAGS) as (keyof typeof LOAD_FLAGS)[]) {
    if (flags[property] !== undefined && !bench) throw new UsageError(`${flagOf(property)} needs --bench`);
  }
  return { flags, words };
}

function exclude(flags: ClientFlags, one: keyof ClientFlags, others: readonly (keyof ClientFlags)[]): void {
  for (const other of others) {
    if (flags[one] !== undefined && flags[other] !== undefined) {
      throw new UsageError(`${one === "describe" ? one : flagOf(one)} cannot be used with ${flagOf(other)}`);
    }
  }
}

/** Flags of a single call, on a line of the prompt or of a script. */
const LINE_FLAGS = { meta: CALL_FLAGS.meta };

/**
 * Reads a line of the prompt or of a script.
 *
 * @param line The words of a call, and its own `--meta`.
 * @param meta The metadata of the command line, for all lines. The line's own replaces it, key by key.
 */
export function readLine(line: string, meta: Metadata | undefined): { words: string[]; meta: Metadata | undefined } {
  const { flags, words } = readArguments(wordsOf(line), LINE_FLAGS);
  return { words, meta: flags.meta === undefined ? meta : { ...meta, ...flags.meta } };
}

/** Texts by key. No error text contains a value, because it may be a secret. */
function metaFlag(help: string): Flag<Metadata> {
  return {
    takes: "KEY=TEXT",
    help,
    read(given, flag) {
      const [, key, text] = /^([^=]+)=(.*)$/s.exec(given) ?? [];
      if (key === undefined) throw new UsageError(`${flag} needs KEY=TEXT`);
      const meta: Metadata = {};
      setField(meta, key, textOf(text, `${flag} ${key}`));
      return meta;
    },
    join(before, next) {
      const twice = Object.keys(next).find((key) => Object.hasOwn(before, key));
      if (twice !== undefined) throw new UsageError(`--meta gives "${twice}" twice`);
      return { ...before, ...next };
    },
  };
}

/** The text itself or, after `@`, the content of a file without its last newline; `@@` stands for `@`. */
function textOf(text: string, flag: string): string {
  if (!text.startsWith("@") || text.startsWith("@@")) return text.replace(/^@/, "");
  const content = utf8(readInput(text.slice(1), `${flag}=${text}`));
  if (content === undefined) throw new UsageError(`${flag}=${text} is not text in UTF-8`);
  return content.replace(/\r?\n$/, "");
}

function formatFlag(help: string): Flag<"prometheus"> {
  const read = (text: string) => text === "prometheus" ? text : undefined;
  return valueFlag("NAME", help, read, "the only format is prometheus");
}
