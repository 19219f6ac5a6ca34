/**
 * The command line: arguments to flags and words.
 *
 * In: the arguments, and the flags there are. Out: the value of each flag, and the words between them, as they stand.
 *
 * The rule: what begins with a dash is a flag, wherever it stands, unless it is a number or comes after `--`. A flag's
 * value follows its name behind `=` or as the next argument. Everything else is a word: `-1` stays -1, `007` stays 007.
 * A flag may have a short name as well, of one letter: `-c 50` is `--connections 50`.
 *
 * Refused, by a {@linkcode UsageError}: a flag that is not known, is given twice, lacks its value or takes none.
 */

import { parseArgs } from "jsr:@std/cli@^1.0.0/parse-args";

/** The npm copy has no types: this is where they enter. */
const stdParse: (
  args: string[],
  options: { string: string[]; boolean: string[]; collect: string[] },
) => Record<string, unknown> = parseArgs;

/**
 * Stands before everything that is not the name of a flag, so that `parseArgs` takes `-1` for no flag and `false` for
 * no boolean. The argument of a process cannot hold it.
 */
const MARK = "\0";

/** Someone uses a command line wrongly. The text says what is wrong, with which value. */
export class UsageError extends Error {
  /** Always `"UsageError"`. */
  override readonly name = "UsageError";
}

/** One flag: what the help says about it, and what its text means. */
export interface Flag<Value> {
  /** What its value is called in the help; a flag without one is a switch. */
  readonly takes?: string;
  /** What it is for, in one line. */
  readonly help: string;
  /** One letter that stands for its name, if it has one. */
  readonly short?: string;
  /** The value out of its text; throws a {@linkcode UsageError} that says which flag it is about. */
  readonly read: (text: string, flag: string) => Value;
}

/** Flags by the property that they set: `maxInFlight` is set by `--max-in-flight`. */
// deno-lint-ignore no-explicit-any -- the type of a value is each flag's own
export type Flags = Readonly<Record<string, Flag<any>>>;

/** The values of the flags that were given. */
export type FlagValues<Known extends Flags> = {
  readonly [Property in keyof Known]?: Known[Property] extends Flag<infer Value> ? Value : never;
};

/** A switch: given, it is true. */
export function toggle(help: string): Flag<boolean> {
  return { help, read: () => true };
}

/** The flag that sets a property. */
export function flagOf(property: string): string {
  return `--${property.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Reads a command line. */
export function readArguments<Known extends Flags>(
  args: readonly string[],
  known: Known,
): { flags: FlagValues<Known>; words: string[] } {
  const byName = new Map(Object.entries(known).map(([property, flag]) => [flagOf(property), { property, flag }]));
  const names = [...byName.keys()].map((name) => name.slice(2));
  const isSwitch = (name: string) => byName.get(`--${name}`)?.flag.takes === undefined;
  const longNames = new Map<string, string>();
  for (const [name, { flag }] of byName) if (flag.short !== undefined) longNames.set(`-${flag.short}`, name);
  const parsed = stdParse(mark(args, (name) => longNames.get(name) ?? name, (name) => byName.get(name)?.flag), {
    string: ["_", ...names.filter((name) => !isSwitch(name))],
    boolean: names.filter(isSwitch),
    collect: names,
  });
  const flags: Record<string, unknown> = {};
  for (const [name, { property, flag }] of byName) {
    const [given, ...more] = parsed[name.slice(2)] as (string | boolean)[];
    if (given === undefined) continue;
    if (more.length > 0) throw new UsageError(`${name} is given ${more.length + 1} times`);
    const text = typeof given === "string" ? given.slice(MARK.length) : "";
    if (flag.takes !== undefined && text === "") throw new UsageError(`${name} needs a value`);
    flags[property] = flag.read(text, name);
  }
  return {
    flags: flags as FlagValues<Known>,
    words: (parsed._ as string[]).map((word) => word.slice(MARK.length)),
  };
}

/** Leaves nothing unmarked but the names of known flags, which are then all long. */
function mark(
  args: readonly string[],
  lengthen: (name: string) => string,
  find: (name: string) => Flag<unknown> | undefined,
): string[] {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const marked: string[] = [];
  for (const arg of args.slice(0, end)) {
    if (!arg.startsWith("-") || !Number.isNaN(Number(arg))) {
      marked.push(MARK + arg);
      continue;
    }
    const [name, ...value] = arg.split("=");
    const longName = lengthen(name);
    const flag = find(longName);
    if (flag === undefined) throw new UsageError(`unknown flag ${name}`);
    marked.push(longName);
    if (value.length === 0) continue;
    if (flag.takes === undefined) throw new UsageError(`${name} takes no value`);
    marked.push(MARK + value.join("="));
  }
  return [...marked, "--", ...args.slice(end + 1).map((word) => MARK + word)];
}
