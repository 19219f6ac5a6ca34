/**
 * Loads the commands in a module that a flag names.
 *
 * In: a path or a URL. Out: its commands. Refused, by an `InputError` that says what to do: a module that cannot be
 * loaded, that has no commands, or whose commands cannot be served.
 */

import type { Commands } from "../handlers/command.ts";
import { Registry } from "../handlers/registry.ts";
import { messageOf } from "../transport/runtime.ts";
import { InputError } from "./input_file.ts";
import { withFlags } from "./permission.ts";

/** The URL of a module; a path is relative to the working directory. */
export function urlOf(module: string): string {
  if (/^[a-z]+:\/\//.test(module)) return module;
  return new URL(module.replaceAll(/[%?#]/g, encodeURIComponent), `file://${Deno.cwd()}/`).href;
}

/**
 * Loads commands.
 *
 * @param module The path or URL of the module. Its commands are its export `commands`, its default export, or all its
 *   exports.
 * @returns The commands by name.
 * @throws {InputError} If the module cannot be loaded, or has no commands that can be served.
 */
export async function loadCommands(module: string): Promise<Commands> {
  const { commands, default: byDefault, ...exported } = await load(module);
  const found = commands ?? byDefault ?? exported;
  let isEmpty = typeof found !== "object" || found === null;
  try {
    isEmpty ||= Object.keys(found as Commands).length === 0;
    if (!isEmpty) new Registry(found as Commands);
  } catch (error) {
    throw new InputError(`cannot serve ${module}: ${messageOf(error).replace(/^Cannot register /, "")}`);
  }
  if (!isEmpty) return found as Commands;
  throw new InputError(
    `there are no commands in ${module}: export each by its name, as in export const GREET = command(...)`,
  );
}

async function load(module: string): Promise<Record<string, unknown>> {
  try {
    return await import(urlOf(module));
  } catch (error) {
    throw new InputError(`cannot load ${module}: ${reasonOf(error, urlOf(module))}`);
  }
}

/** Why a module cannot be imported: the runtime's text, without advice that does not fit, in one line. */
function reasonOf(error: unknown, url: string): string {
  if (!(error instanceof Error)) return messageOf(error);
  const [, kind, what] = error.message.match(/^Requires (\w+) access to "([^"]+)"/) ?? [];
  if (kind !== undefined) return `no permission; ${withFlags(`--allow-${kind}=${what}`)}`;
  const [, missing] = error.message.match(/^Module not found "([^"]+)"/) ?? [];
  if (missing !== undefined) return missing === url ? "there is no such file" : `its import ${missing} does not exist`;
  const [line] = error.message.split("\n", 1);
  const [, place = import.meta.url] = error.stack?.match(/ at (?:.*\()?(\w+:\S+:\d+:\d+)/) ?? [];
  // The error of a module that was not run has its place in the text, or none.
  const where = place.startsWith(import.meta.url) || line.includes(place) ? "" : ` (at ${place})`;
  return (error instanceof SyntaxError || error instanceof TypeError ? line : `${error.name}: ${line}`) + where;
}
