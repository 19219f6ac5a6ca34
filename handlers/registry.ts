/**
 * The registry: which commands there are, and how a peer's `cmd` finds one.
 *
 * In: the user's commands. Out: a lookup by own name or number. Refused: a name or a number taken twice.
 *
 * A new built-in command is one file beside this one and one line in {@linkcode builtIns}.
 */

import type { BuiltInOptions } from "./built_ins/built_in.ts";
import { type Command, type Commands, defined } from "./command.ts";
import type { CommandInfo } from "./server_info.ts";
import { DELAY } from "./built_ins/delay.ts";
import { INFO } from "./built_ins/info.ts";
import { PING } from "./built_ins/ping.ts";
import { CommandCounts } from "./statistics.ts";
import { parametersOf } from "./validation.ts";
import { STATS } from "./built_ins/stats.ts";
import { TICK } from "./built_ins/tick.ts";

/** The commands every server has. */
export const builtIns = { PING, DELAY, INFO, STATS, TICK };

/** The type of the commands every server has, for the types of a client. */
export type BuiltIns = typeof builtIns;

/** A command in its place: its name, and its counts. */
export interface RegisteredCommand {
  readonly name: string;
  readonly command: Command;
  readonly counts: CommandCounts;
  /** Whether it is answered however busy the server is. */
  readonly immediate: boolean;
}

/** Below it, a number is looked up in an array, in less than half the time. */
const SMALL_NUMBERS = 256;

/** All commands of one server. */
export class Registry {
  // Maps, so that a peer's "constructor" or "__proto__" finds nothing.
  readonly #byName = new Map<string, RegisteredCommand>();
  readonly #byNumber = new Map<number, RegisteredCommand>();
  readonly #bySmallNumber = new Array<RegisteredCommand | undefined>(SMALL_NUMBERS).fill(undefined);

  /** @param commands The user's own, beside the built-in ones. */
  constructor(commands: Commands) {
    for (const [name, definition] of Object.entries(builtIns)) {
      this.#add(name, definition as Command, (definition as BuiltInOptions).immediate);
    }
    for (const [name, definition] of Object.entries(commands)) {
      if (typeof definition?.handler !== "function") {
        throw new TypeError(`Cannot register "${name}": it is not a command; make it with command()`);
      }
      // One that was not made with command() is checked here.
      this.#add(name, defined(definition));
    }
  }

  /** The command a peer means, if there is one. */
  find(cmd: number | string | undefined): RegisteredCommand | undefined {
    if (cmd === undefined) return undefined;
    if (typeof cmd === "string") return this.#byName.get(cmd);
    if (cmd < SMALL_NUMBERS) return this.#bySmallNumber[cmd];
    return this.#byNumber.get(cmd);
  }

  /** All commands, those with numbers first, in their order. */
  entries(): RegisteredCommand[] {
    return [...this.#byName.values()].sort((a, b) => (a.command.number ?? Infinity) - (b.command.number ?? Infinity));
  }

  /** All commands, as INFO tells them. */
  describe(): CommandInfo[] {
    return this.entries().map(({ name, command }) => ({
      name,
      number: command.number ?? null,
      summary: command.summary ?? "",
      params: command.params ?? parametersOf(command.schema),
      stream: isGeneratorFunction(command.handler),
    }));
  }

  #add(name: string, command: Command, immediate = false): void {
    const entry = { name, command, counts: new CommandCounts(), immediate };
    if (this.#byName.has(name)) throw new TypeError(`Cannot register "${name}": the name is taken`);
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

const AsyncGeneratorFunction = Object.getPrototypeOf(async function* () {});

function isGeneratorFunction(handler: unknown): boolean {
  return handler instanceof Object && Object.getPrototypeOf(handler) === AsyncGeneratorFunction;
}
