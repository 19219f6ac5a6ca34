/**
 * Parses a command line into flags and words.
 *
 * In: the arguments, and the known flags. Out: the value of each flag, and the remaining words unchanged. Refused, by a
 * {@linkcode UsageError}: a flag that is unknown, lacks its value, has a value that it does not take, or is given twice
 * and takes no list.
 *
 * An argument that begins with a dash is a flag, unless it is only the dash, is a number, or comes after `--`. A flag's
 * value follows its name after `=` or as the next argument. Everything else is a word: `-1` stays -1, `007` stays 007.
 * A flag may also have a short name of one letter: `-c 50` is `--connections 50`.
 */

import { parseArgs } from "jsr:@std/cli@^1.0.0/parse-args";
import { closest } from "./closest.ts";

/** The npm copy has no types, so they are declared here. */
const stdParse: (
  args: string[],
  options: { string: string[]; boolean: string[]; collect: string[] },
) => Record<string, unknown> = parseArgs;

/**
 * Marks everything that is not a flag name, so that `parseArgs` does not read `-1` as a flag or `false` as a boolean. A
 * process argument cannot contain it.
 */
const MARK = "\0";

/** A mistake in the command line. The text names the problem and the value. */
export class UsageError extends Error {
  /** Always `"UsageError"`. */
  override readonly name = "UsageError";
}

/** One flag: its help and its parser. */
export interface Flag<Value> {
  /** The name of its value in the help; a flag without one is a switch. */
  readonly takes?: string;
  /** Its help, in one line. */
  readonly help: string;
  /** Its short name of one letter, if it has one. */
  readonly short?: string;
  /** Parses the value; throws a {@linkcode UsageError} that names the flag. */
  readonly read: (text: string, flag: string) => Value;
  /** Joins the values of a flag that may be given several times; without it, a second one is a mistake. */
  readonly join?: (before: Value, next: Value) => Value;
}

/** Flags by property name: `--max-in-flight` sets `maxInFlight`, `--idle-timeout` sets `idleTimeoutMs`. */
// deno-lint-ignore no-explicit-any -- each flag has its own value type
export type Flags = Readonly<Record<string, Flag<any>>>;

/** The values of the given flags. */
export type FlagValues<Known extends Flags> = {
  readonly [Property in keyof Known]?: Known[Property] extends Flag<infer Value> ? Value : never;
};

/** A flag without a value, which is true if given. */
export function toggle(help: string): Flag<boolean> {
  return { help, read: () => true };
}

/** The flag name of a property; the unit of a time is part of its value instead. */
export function flagOf(property: string): string {
  return `--${property.replace(/Ms$/, "").replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Parses a command line. */
export function readArguments<Known extends Flags>(
  args: readonly string[],
  known: Known,
): { flags: FlagValues<Known>; words: string[] } {
  const byName = new Map(Object.entries(known).map(([property, flag]) => [flagOf(property), { property, flag }]));
  const names = [...byName.keys()].map((name) => name.slice(2));
  const isSwitch = (name: string) => byName.get(`--${name}`)?.flag.takes === undefined;
  const longNames = new Map<string, string>();
  for (const [name, { flag }] of byName) if (flag.short !== undefined) longNames.set(`-${flag.short}`, name);
  const parsed = stdParse(mark(args, (name) => longNames.get(name) ?? name, byName), {
    string: ["_", ...names.filter((name) => !isSwitch(name))],
    boolean: names.filter(isSwitch),
    collect: names,
  });
  const flags: Record<string, unknown> = {};
  for (const [name, { property, flag }] of byName) {
    const given = parsed[name.slice(2)] as (string | boolean)[];
    if (given.length === 0) continue;
    if (given.length > 1 && flag.join === undefined) throw new UsageError(`${name} is given ${given.length} times`);
    const values = given.map((each) => {
      const text = typeof each === "string" ? each.slice(MARK.length) : "";
      if (flag.takes !== undefined && text === "") throw new UsageError(`${name} needs a value`);
      return flag.read(text, name);
    });
    flags[property] = flag.join === undefined ? values[0] : values.reduce(flag.join);
  }
  return {
    flags: flags as FlagValues<Known>,
    words: (parsed._ as string[]).map((word) => word.slice(MARK.length)),
  };
}

/** Marks everything except the names of known flags, and replaces short names by long ones. */
function mark(
  args: readonly string[],
  lengthen: (name: string) => string,
  byName: ReadonlyMap<string, { readonly flag: Flag<unknown> }>,
): string[] {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const marked: string[] = [];
  for (const arg of args.slice(0, end)) {
    if (arg === "-" || !arg.startsWith("-") || !Number.isNaN(Number(arg))) {
      marked.push(MARK + arg);
      continue;
    }
    const [name, ...value] = arg.split("=");
    const longName = lengthen(name);
    const flag = byName.get(longName)?.flag;
    if (flag === undefined) throw new UsageError(`unknown flag ${name}${hintFor(name, byName.keys())}`);
    marked.push(longName);
    if (value.length === 0) continue;
    if (flag.takes === undefined) throw new UsageError(`${name} takes no value`);
    marked.push(MARK + value.join("="));
  }
  return [...marked, "--", ...args.slice(end + 1).map((word) => MARK + word)];
}

function hintFor(name: string, known: Iterable<string>): string {
  const meant = closest(name.replace(/^-+/, ""), Array.from(known, (each) => each.slice(2)));
  return meant === undefined ? "" : ` (did you mean --${meant}?)`;
}
