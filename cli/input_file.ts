/**
 * Reads a file that the command line names, or standard input.
 *
 * In: a path, or `-` for standard input. Out: its bytes, at once or as a stream. Refused, by an {@linkcode InputError}
 * that says what to do: a missing or unreadable file.
 */

import { joined } from "../codec/compact.ts";
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

/** A source that can be ended while it is read. */
export type Source<Part> = AsyncIterableIterator<Part> & { return(): Promise<unknown> };

/** The parts of a stream. Its errors become {@linkcode InputError}s. */
export function partsOf(stream: ReadableStream<Uint8Array>, path: string, given: string): Source<Uint8Array> {
  const reader = stream.getReader();
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      try {
        return await reader.read() as IteratorResult<Uint8Array>;
      } catch (error) {
        throw inputError(error, path, given);
      }
    },
    async return() {
      await reader.cancel().catch(() => {}); // the stream has already failed
      return { done: true, value: undefined };
    },
  };
}

/** All of standard input. */
export function readStandardInput(given: string): Uint8Array {
  const parts: Uint8Array[] = [];
  const part = new Uint8Array(65_536);
  try {
    for (let bytes = Deno.stdin.readSync(part); bytes !== null; bytes = Deno.stdin.readSync(part)) {
      parts.push(part.slice(0, bytes));
    }
  } catch (error) {
    throw inputError(error, "-", given);
  }
  return joined(parts);
}

/** An error of the runtime, in terms of the command line. */
function inputError(error: unknown, path: string, given: string): InputError {
  return new InputError(`cannot read ${given}: ${reasonOf(error, path)}`);
}

function reasonOf(error: unknown, path: string): string {
  if (error instanceof Deno.errors.NotCapable) {
    // Some files, such as /dev/stdin and /proc/self/environ, need more than the permission to read.
    const needsAll = error.message.startsWith("Requires all access");
    return `no permission; ${withFlags(needsAll ? "--allow-all" : `--allow-read=${path}`)}`;
  }
  if (error instanceof Deno.errors.NotFound) return "there is no such file";
  if (error instanceof Deno.errors.PermissionDenied) return "this user may not read it";
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder";
  return error instanceof Error ? error.message : String(error);
}
