/**
 * The flags that both scripts have, and the kinds of values that flags take.
 *
 * In: the text of a value. Out: the value. Refused, by a `UsageError`: a text that is not wholly such a value, such as
 * `1.5` or `70000` for a port.
 */

import { checkLimit, DEFAULT_HOSTNAME, DEFAULT_LIMITS, DEFAULT_PORT, type Limits, MAX_TIMER_MS } from "../limits.ts";
import { type Flag, flagOf, type Flags, toggle, UsageError } from "./arguments.ts";
import { table } from "./table.ts";

/** What the library calls `Infinity`. A time of 0 is no time. */
const WITHOUT_END = "none";

const MAX_PORT = 65_535;

/** The longest time a timer of the runtime can hold. */
const MAX_SECONDS = MAX_TIMER_MS / 1000;

/** `--hostname`. */
export function hostnameFlag(help: string): Flag<string> {
  return { takes: "NAME", help: `${help} (default ${DEFAULT_HOSTNAME})`, read: (text) => text };
}

/** `--port`, from `least` up. */
export function portFlag(help: string, least: number): Flag<number> {
  return {
    takes: "NUMBER",
    help: `${help} (default ${DEFAULT_PORT})`,
    read(text, flag) {
      const port = /^\d+$/.test(text) ? Number(text) : NaN;
      if (port >= least && port <= MAX_PORT) return port;
      throw new UsageError(`${flag} ${text}: a port is a whole number from ${least} to ${MAX_PORT}`);
    },
  };
}

/** A path, as `--unix` and the flags for certificates take it. */
export function pathFlag(help: string): Flag<string> {
  return { takes: "PATH", help, read: (text) => text };
}

/** A whole number, from `least` up. */
export function countFlag(help: string, least: number, short?: string): Flag<number> {
  return {
    takes: "COUNT",
    short,
    help,
    read(text, flag) {
      const count = /^\d+$/.test(text) ? Number(text) : NaN;
      if (Number.isSafeInteger(count) && count >= least) return count;
      throw new UsageError(`${flag} ${text}: it must be a whole number from ${least} up`);
    },
  };
}

/** Which times a flag takes beside those above 0. */
interface SecondsOptions {
  /** Whether 0 means something: at once. */
  readonly zero: boolean;
  /** Whether there may be no end. */
  readonly endless?: boolean;
  readonly short?: string;
}

/** A time in seconds. */
export function secondsFlag(help: string, { zero, endless = false, short }: SecondsOptions): Flag<number> {
  return {
    takes: "SECONDS",
    short,
    help,
    read(text, flag) {
      if (endless && text === WITHOUT_END) return Infinity;
      const seconds = /^(\d+\.?|\d*\.\d+)$/.test(text) ? Number(text) : NaN;
      if (seconds <= MAX_SECONDS && (zero || seconds > 0)) return seconds;
      const range = `${zero ? "from" : "above"} 0, up to ${MAX_SECONDS}${endless ? `, or ${WITHOUT_END}` : ""}`;
      throw new UsageError(`${flag} ${text}: a time is a number of seconds ${range}`);
    },
  };
}

/** One of the limits, by its name. */
export function limitFlag(name: keyof Limits, help: string): Flag<number> {
  const unit = name.endsWith("Ms") ? "MILLISECONDS" : name.endsWith("Bytes") ? "BYTES" : "COUNT";
  const inWords = (text: string) => text.replace("Infinity", WITHOUT_END);
  return {
    takes: unit,
    help: `${help} (default ${inWords(String(DEFAULT_LIMITS[name]))})`,
    read(text, flag) {
      try {
        return checkLimit(name, text === WITHOUT_END ? Infinity : /^\d+$/.test(text) ? Number(text) : text);
      } catch (error) {
        // What the limit is called in the library does not help here.
        const [, rule] = (error as RangeError).message.split(/: (.*)/);
        throw new UsageError(`${flag} ${text}: ${inWords(rule)}`);
      }
    },
  };
}

/** `--help` and `--version`. */
export const ABOUT = {
  help: toggle("show this help"),
  version: toggle("show the version"),
};

/** The flags as the help shows them, a line each. */
export function describeFlags(flags: Flags): string {
  return table(
    Object.entries(flags).map(([property, { takes = "", short, help }]) => [
      `  ${short === undefined ? "" : `-${short}, `}${flagOf(property)} ${takes}`,
      help,
    ]),
  );
}
