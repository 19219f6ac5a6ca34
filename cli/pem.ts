/**
 * Reads certificates and keys from the files that flags name.
 *
 * In: paths. Out: their text. Refused: what `input_file.ts` refuses.
 */

import { readInput } from "./input_file.ts";

/** The text of each named file; others stay `undefined`. */
export function readPem<Names extends "cert" | "key" | "ca">(
  paths: { readonly [Name in Names]?: string },
  names: readonly Names[],
): { [Name in Names]?: string } {
  const texts: { [Name in Names]?: string } = {};
  for (const name of names) {
    const path = paths[name];
    if (path !== undefined) texts[name] = new TextDecoder().decode(readInput(path, `--${name} ${path}`));
  }
  return texts;
}
