/**
 * Reads certificates and keys from the files that flags name.
 *
 * In: paths. Out: their text. Refused, by an {@linkcode InputError} that says what to do: a missing or unreadable file.
 */

import { withFlags } from "./permission.ts";

/** A file from the command line cannot be used. The text says why. */
export class InputError extends Error {
  /** Always `"InputError"`. */
  override readonly name = "InputError";
}

/** The text of each named file; others stay `undefined`. */
export async function readPem<Names extends "cert" | "key" | "ca">(
  paths: { readonly [Name in Names]?: string },
  names: readonly Names[],
): Promise<{ [Name in Names]?: string }> {
  const texts: { [Name in Names]?: string } = {};
  for (const name of names) {
    const path = paths[name];
    if (path !== undefined) texts[name] = await readText(path, `--${name}`);
  }
  return texts;
}

async function readText(path: string, flag: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new InputError(`cannot read ${flag} ${path}: ${reasonOf(error, path)}`);
  }
}

function reasonOf(error: unknown, path: string): string {
  if (error instanceof Deno.errors.NotCapable) return `no permission; ${withFlags(`--allow-read=${path}`)}`;
  if (error instanceof Deno.errors.NotFound) return "there is no such file";
  if (error instanceof Deno.errors.PermissionDenied) return "this user may not read it";
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder";
  return error instanceof Error ? error.message : String(error);
}
