/**
 * The registry: the commands of a server, and the lookup of a peer's `cmd`.
 *
 * In: the user's commands. Out: a lookup by name or number. Refused: a number used twice; what is no command.
 *
 * A user's command with the name of a built-in command replaces it. A new built-in command is a file in `built_ins/`
 * and a line in {@linkcode builtIns}.
 */

import { BUILT_IN_NUMBERS } from "../codec/message.ts";
import type { OptionKind } from "../limits.ts";
import type { BuiltInOptions } from "./built_ins/built_in.ts";
import { type Command, type Commands, defined } from "./command.ts";
import type { CommandInfo, CommandShapes } from "./server_info.ts";
import { INFO } from "./built_ins/info.ts";
import { PING, pingBehindMiddleware, pingIfReady, type Readiness } from "./built_ins/ping.ts";
import { namesIn, shapesOf } from "./shapes.ts";
import { CommandCounts } from "./statistics.ts";
import { TAP_NAME, Taps } from "./tap.ts";
import { STATS } from "./built_ins/stats.ts";
import { tapOf } from "./built_ins/tap.ts";

/** The commands that every server has by default. */
export const builtIns = { PING, INFO, STATS };

/** The type of the commands every server has, for the types of a client. */
export type BuiltIns = typeof builtIns;

/** A command with its name and its counts. */
export interface RegisteredCommand {
  readonly name: string;
  readonly command: Command;
  readonly counts: CommandCounts;
  /** Whether it is answered even if the server is overloaded. */
  readonly immediate: boolean;
  /** The shapes, made when they are first asked for. */
  shapes: CommandShapes | undefined;
  /** Whether all results of its promises were texts or numbers, which nothing can change; `undefined` before the first. */
  givesPlain: boolean | undefined;
}

/** Notes the result of a promise. */
export function noteResult(entry: RegisteredCommand, result: unknown): void {
  if (result === null || result === undefined) return;
  if (typeof result === "object") entry.givesPlain = false;
  else entry.givesPlain ??= true;
}

/** The options for built-in commands. `ServerOptions` explains each. */
interface RegistryOptions {
  readonly builtIns?: readonly (keyof BuiltIns)[];
  readonly ready?: Readiness;
  readonly middleware?: readonly unknown[];
  readonly tap?: boolean;
}

/** The names of the built-in commands. */
const BUILT_IN_NAMES = Object.keys(builtIns) as (keyof BuiltIns)[];

/** What the option `builtIns` must be. */
export const SOME_BUILT_INS: OptionKind = {
  is: (value) => Array.isArray(value) && value.every((name) => BUILT_IN_NAMES.includes(name)),
  must: `be an array of these: ${BUILT_IN_NAMES.join(", ")}`,
};

/** Numbers below this are looked up in an array, which takes less than half the time. */
const SMALL_NUMBERS = 256;

/** All commands of one server. */
export class Registry {
  /** The readers of TAP. */
  readonly taps = new Taps();
  /** Counts the calls that were answered last: the counts may be read in the middle of their batch. */
  counter: { count(): void } | undefined;
  // Maps, so that a peer's "constructor" or "__proto__" finds nothing.
  readonly #byName = new Map<string, RegisteredCommand>();
  readonly #byNumber = new Map<number, RegisteredCommand>();
  readonly #bySmallNumber = new Array<RegisteredCommand | undefined>(SMALL_NUMBERS).fill(undefined);

  /** @param commands The user's commands. They replace the built-in commands with the same names. */
  constructor(commands: Commands, options: RegistryOptions = {}) {
    const { builtIns: wanted = BUILT_IN_NAMES, ready, middleware = [], tap } = options;
    for (const name of wanted) {
      if (Object.hasOwn(commands, name)) continue;
      const definition: Command = name === "PING" ? pingFor(ready, middleware.length > 0) : builtIns[name];
      this.#add(name, definition, (definition as BuiltInOptions).immediate);
    }
    if (tap && !Object.hasOwn(commands, TAP_NAME)) {
      this.#add(TAP_NAME, tapOf(this.taps, (name) => this.find(name)), true);
    }
    for (const [name, definition] of Object.entries(commands)) {
      if (typeof definition?.handler !== "function" || !Object.hasOwn(definition, "handler")) {
        throw new TypeError(`Cannot register "${name}": it is not a command; make it with command()`);
      }
      this.#add(name, checked(name, definition));
    }
  }

  /** Finds the command for a peer's `cmd`, if there is one. */
  find(cmd: number | string | undefined): RegisteredCommand | undefined {
    if (cmd === undefined) return undefined;
    if (typeof cmd === "string") return this.#byName.get(cmd);
    if (cmd < SMALL_NUMBERS) return this.#bySmallNumber[cmd];
    return this.#byNumber.get(cmd);
  }

  /** All commands. Commands with numbers come first, in the order of their numbers. */
  entries(): RegisteredCommand[] {
    return [...this.#byName.values()].sort((a, b) => (a.command.number ?? Infinity) - (b.command.number ?? Infinity));
  }

  /** All commands, as INFO describes them. */
  describe(withShapes = false): CommandInfo[] {
    return this.entries().map((entry) => {
      const { name, command } = entry;
      const shapes = entry.shapes ??= (command as BuiltInOptions).shapes ?? shapesOf(command);
      return {
        name,
        number: command.number ?? null,
        summary: command.summary ?? "",
        params: command.params ?? namesIn(shapes),
        stream: isStreaming(command),
        ...(command.items === undefined ? {} : { items: true }),
        ...(withShapes ? { shapes } : {}),
      };
    });
  }

  #add(name: string, command: Command, immediate = false): void {
    const counts = new CommandCounts();
    const entry: RegisteredCommand = { name, command, counts, immediate, shapes: undefined, givesPlain: undefined };
    this.#byName.set(name, entry);
    if (command.number === undefined) return;
    const other = this.#byNumber.get(command.number);
    if (other) {
      throw new RangeError(`Cannot register "${name}": the number ${command.number} is taken by "${other.name}"`);
    }
    this.#byNumber.set(command.number, entry);
    if (command.number < SMALL_NUMBERS) this.#bySmallNumber[command.number] = entry;
  }
}

function pingFor(ready: Readiness | undefined, hasMiddleware: boolean): typeof PING {
  const ping = ready === undefined ? PING : pingIfReady(ready);
  return hasMiddleware ? pingBehindMiddleware(ping) : ping;
}

/** Checks a user's command. If its name is in the protocol, it gets the protocol's number, which clients send. */
function checked(name: string, definition: Commands[string]): Command {
  const { number, ...rest } = definition;
  const reserved = BUILT_IN_NUMBERS.get(name);
  if (reserved === undefined) return defined(definition);
  if (number !== undefined && number !== reserved) {
    throw new RangeError(`Cannot register "${name}": its number is ${reserved}, not ${number}`);
  }
  return { ...defined(rest), number: reserved };
}

const AsyncGeneratorFunction = Object.getPrototypeOf(async function* () {});

/** Whether a command answers with a stream, as far as that is known before a call. */
export function isStreaming({ handler, stream }: Command): boolean {
  return stream ?? (handler instanceof Object && Object.getPrototypeOf(handler) === AsyncGeneratorFunction);
}
