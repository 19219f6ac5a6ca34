/**
 * Reads certificates and keys from the files that flags name.
 *
 * In: paths. Out: their text. Refused: what `input_file.ts` refuses.
 */

import { flagOf } from "./arguments.ts";
import { readInput } from "./input_file.ts";

/** The text of each named file; others stay `undefined`. An error names the flag, or what `nameOf` returns. */
export function readPem<Names extends "cert" | "key" | "ca">(
  paths: { readonly [Name in Names]?: string },
  names: readonly Names[],
  nameOf: (name: Names) => string = flagOf,
): { [Name in Names]?: string } {
  const texts: { [Name in Names]?: string } = {};
  for (const name of names) {
    const path = paths[name];
    if (path !== undefined) texts[name] = new TextDecoder().decode(readInput(path, `${nameOf(name)} ${path}`));
  }
  return texts;
}
