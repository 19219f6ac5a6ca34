/**
 * Reads a file that the command line names.
 *
 * In: a path. Out: its bytes, at once or as a stream. Refused, by an {@linkcode InputError} that says what to do: a
 * missing or unreadable file.
 */

import { withFlags } from "./permission.ts";

/** A file from the command line cannot be used. The text says why. */
export class InputError extends Error {
  /** Always `"InputError"`. */
  override readonly name = "InputError";
}

/**
 * The content of a file.
 *
 * @param path The file.
 * @param given How the command line names the file, for the error.
 */
export function readInput(path: string, given: string): Uint8Array {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    throw inputError(error, path, given);
  }
}

/** The content of a file as a stream, which reads only on demand. Its errors come unchanged from the runtime. */
export function openInput(path: string, given: string): ReadableStream<Uint8Array> {
  try {
    return Deno.openSync(path).readable;
  } catch (error) {
    throw inputError(error, path, given);
  }
}

/** An error of the runtime, in terms of the command line. */
export function inputError(error: unknown, path: string, given: string): InputError {
  return new InputError(`cannot read ${given}: ${reasonOf(error, path)}`);
}

function reasonOf(error: unknown, path: string): string {
  if (error instanceof Deno.errors.NotCapable) return `no permission; ${withFlags(`--allow-read=${path}`)}`;
  if (error instanceof Deno.errors.NotFound) return "there is no such file";
  if (error instanceof Deno.errors.PermissionDenied) return "this user may not read it";
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder";
  return error instanceof Error ? error.message : String(error);
}
