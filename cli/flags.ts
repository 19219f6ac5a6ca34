/**
 * The flags that both programs have, and parsers for the values of flags.
 *
 * In: the text of a value. Out: the value. Refused, by a `UsageError`: an invalid text, such as port `1.5` or `70000`.
 */

import {
  checkLimit,
  DEFAULT_HOSTNAME,
  DEFAULT_LIMITS,
  DEFAULT_PORT,
  type Limits,
  MAX_TIMER_MS,
  MAY_BE_ENDLESS,
} from "../limits.ts";
import { HOSTNAME, MAX_PORT } from "../transport/address.ts";
import { type Flag, flagOf, type Flags, toggle, UsageError } from "./arguments.ts";
import { table } from "./table.ts";
import { readSize, readTime, sizeText, timeText, WITHOUT_END } from "./units.ts";

/** `--hostname`. */
export function hostnameFlag(help: string): Flag<string> {
  return {
    takes: "NAME",
    help: `${help} (default ${DEFAULT_HOSTNAME})`,
    read(text, flag) {
      // An address of IPv6 without brackets has more colons.
      const [, host, port] = /^(\[.*\]|[^:]+):(\d+)$/.exec(text) ?? [];
      if (port !== undefined) {
        throw new UsageError(`${flag} ${text}: give the port on its own, as --hostname ${host} --port ${port}`);
      }
      if (!HOSTNAME.is(text)) throw new UsageError(`${flag} ${text}: it must ${HOSTNAME.must}`);
      return text;
    },
  };
}

/**
 * A flag whose invalid values have one error.
 *
 * @param takes The name of its value in the help.
 * @param read Parses the value; `undefined` if it is invalid.
 * @param rule What a value must be, for the error.
 */
export function valueFlag<Value>(
  takes: string,
  help: string,
  read: (text: string) => Value | undefined,
  rule: string,
): Flag<Value> {
  return {
    takes,
    help,
    read(text, flag) {
      const value = read(text);
      if (value !== undefined) return value;
      throw new UsageError(`${flag} ${text}: ${rule}`);
    },
  };
}

/** The whole number in a text; `undefined` if there is none, or it is out of range. */
export function wholeNumber(text: string, least: number, most: number): number | undefined {
  const number = /^\d+$/.test(text) ? Number(text) : NaN;
  return number >= least && number <= most ? number : undefined;
}

/** `--port`, at least `least`. */
export function portFlag(help: string, least: number): Flag<number> {
  const read = (text: string) => wholeNumber(text, least, MAX_PORT);
  const rule = `a port is a whole number from ${least} to ${MAX_PORT}`;
  return valueFlag("NUMBER", `${help} (default ${DEFAULT_PORT})`, read, rule);
}

/** A path, for `--unix` and the certificate flags. */
export function pathFlag(help: string): Flag<string> {
  return { takes: "PATH", help, read: (text) => text };
}

/** One of the given words. */
export function choiceFlag<Word extends string>(help: string, words: readonly Word[]): Flag<Word> {
  const listed = words.join(", ");
  const read = (text: string) => words.find((word) => word === text);
  return valueFlag("WORD", `${help}: ${listed}`, read, `it must be one of ${listed}`);
}

/** A whole number, at least `least`. */
export function countFlag(help: string, least: number, short?: string, most = Number.MAX_SAFE_INTEGER): Flag<number> {
  const read = (text: string) => wholeNumber(text, least, most);
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  return { ...valueFlag("COUNT", help, read, `it must be a whole number ${range}`), short };
}

/** The values that a time flag accepts, besides times from 1 ms up. */
interface TimeOptions {
  /** Whether 0 is valid. */
  readonly zero: boolean;
  /** Whether `none` is valid. */
  readonly endless?: boolean;
  readonly short?: string;
}

/** A time, in milliseconds. */
export function timeFlag(help: string, { zero, endless = false, short }: TimeOptions): Flag<number> {
  return {
    takes: "TIME",
    short,
    help,
    read(text, flag) {
      if (endless && text === WITHOUT_END) return Infinity;
      const ms = readTime(text);
      const orNone = endless ? `, or ${WITHOUT_END}` : "";
      if (ms === undefined) {
        throw new UsageError(`${flag} ${text}: write a time as 500ms, 2s, 5m or 1h${orNone}; a bare number is seconds`);
      }
      if (ms <= MAX_TIMER_MS && ms >= (zero ? 0 : 1)) return ms;
      throw new UsageError(
        `${flag} ${text}: it must be from ${zero ? "0" : "1ms"} to ${timeText(MAX_TIMER_MS)}${orNone}`,
      );
    },
  };
}

/** A time, in seconds. */
export function secondsFlag(help: string, options: TimeOptions): Flag<number> {
  const flag = timeFlag(help, options);
  return { ...flag, read: (text, name) => flag.read(text, name) / 1000 };
}

/** A limit, by its name. */
export function limitFlag(name: keyof Limits, help: string): Flag<number> {
  const byDefault = DEFAULT_LIMITS[name];
  if (name.endsWith("Ms")) {
    const endless = MAY_BE_ENDLESS.has(name);
    return timeFlag(`${help} (default ${timeText(byDefault)})`, { zero: false, endless });
  }
  const isSize = name.endsWith("Bytes");
  const read = isSize ? readSize : (text: string) => wholeNumber(text, 0, Infinity);
  return {
    takes: isSize ? "SIZE" : "COUNT",
    help: `${help} (default ${isSize ? sizeText(byDefault) : byDefault})`,
    read(text, flag) {
      try {
        return checkLimit(name, read(text) ?? text);
      } catch (error) {
        // The error names the option in code, which does not help here.
        const [, rule] = (error as RangeError).message.split(/: (.*)/);
        throw new UsageError(`${flag} ${text}: ${rule}${isSize ? ", such as 4096, 64KiB or 1MiB" : ""}`);
      }
    },
  };
}

/** `--help` and `--version`. */
export const ABOUT = {
  help: toggle("show this help"),
  version: toggle("show the version"),
};

/**
 * The flags for the help, one on each line.
 *
 * @param flags The flags.
 * @param own The values that a service has given in code, which are its defaults.
 */
export function describeFlags(flags: Flags, own: Readonly<Record<string, unknown>> = {}): string {
  return table(
    Object.entries(flags).map(([property, { takes = "", short, help }]) => [
      `  ${short === undefined ? "" : `-${short}, `}${flagOf(property)} ${takes}`,
      own[property] === undefined
        ? help
        : help.replace(/(?<=\(default )[^)]*/, () => valueText(property, own[property])),
    ]),
  );
}

/** The value of an option, as its flag takes it. */
function valueText(property: string, value: unknown): string {
  if (property.endsWith("Ms")) return timeText(value as number);
  return property.endsWith("Bytes") ? sizeText(value as number) : String(value);
}
