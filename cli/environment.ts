/**
 * Flags from the environment: `--max-in-flight` is also `PACKLINE_MAX_IN_FLIGHT`.
 *
 * In: the known flags. Out: the value of each variable that is set. Refused, by a `UsageError`: an invalid value.
 * Variables that the program has no permission to read count as not set: a setting must not need a permission.
 */

import { flagOf, type Flags, type FlagValues } from "./arguments.ts";
import { environment } from "./permission.ts";

/** The variable of a flag. */
export function variableOf(property: string): string {
  return `PACKLINE_${flagOf(property).slice(2).replaceAll("-", "_").toUpperCase()}`;
}

/** Reads the environment; an empty value counts as not set. Switches, such as `--help`, have no variable. */
export function readEnvironment<Known extends Flags>(known: Known): FlagValues<Known> {
  const values: Record<string, unknown> = {};
  for (const [property, flag] of Object.entries(known)) {
    const variable = variableOf(property);
    if (flag.takes === undefined) continue;
    const text = environment(variable);
    if (text) values[property] = flag.read(text, variable);
  }
  return values as FlagValues<Known>;
}
