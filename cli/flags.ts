/**
 * The flags that both programs have, and parsers for the values of flags.
 *
 * In: the text of a value. Out: the value. Refused, by a `UsageError`: an invalid text, such as port `1.5` or `70000`.
 */

import { checkLimit, DEFAULT_HOSTNAME, DEFAULT_LIMITS, DEFAULT_PORT, type Limits, MAX_TIMER_MS } from "../limits.ts";
import { type Flag, flagOf, type Flags, toggle, UsageError } from "./arguments.ts";
import { table } from "./table.ts";

/** The text for `Infinity`. */
const WITHOUT_END = "none";

const MAX_PORT = 65_535;

/** The longest delay of the runtime's timers. */
const MAX_SECONDS = MAX_TIMER_MS / 1000;

/** `--hostname`. */
export function hostnameFlag(help: string): Flag<string> {
  return { takes: "NAME", help: `${help} (default ${DEFAULT_HOSTNAME})`, read: (text) => text };
}

/** `--port`, at least `least`. */
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

/** A path, for `--unix` and the certificate flags. */
export function pathFlag(help: string): Flag<string> {
  return { takes: "PATH", help, read: (text) => text };
}

/** A whole number, at least `least`. */
export function countFlag(help: string, least: number, short?: string): Flag<number> {
  return {
    takes: "COUNT",
    short,
    help,
    read(text, flag) {
      const count = /^\d+$/.test(text) ? Number(text) : NaN;
      if (Number.isSafeInteger(count) && count >= least) return count;
      throw new UsageError(`${flag} ${text}: it must be a whole number of at least ${least}`);
    },
  };
}

/** The valid times of a flag, besides those above 0. */
interface SecondsOptions {
  /** Whether 0 is valid. */
  readonly zero: boolean;
  /** Whether `none` is valid. */
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

/** A limit, by its name. */
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
        // The error names the option in code, which does not help here.
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

/** The flags for the help, one on each line. */
export function describeFlags(flags: Flags): string {
  return table(
    Object.entries(flags).map(([property, { takes = "", short, help }]) => [
      `  ${short === undefined ? "" : `-${short}, `}${flagOf(property)} ${takes}`,
      help,
    ]),
  );
}
