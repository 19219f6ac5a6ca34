/**
 * Reads a file that the command line names, or standard input.
 *
 * In: a path, or `-` for standard input. Out: its bytes, at once or as a stream. Refused, by an {@linkcode InputError}
 * that says what to do: a missing or unreadable file, or one that is too large to be read at once.
 */

import { joined } from "../codec/compact.ts";
import { messageOf } from "../transport/runtime.ts";
import { withFlags } from "./permission.ts";
import { sizeText } from "./units.ts";

/** The most bytes that are read at once: four times the largest payload, because JSON is longer than a message. */
const MAX_BYTES = 256 * 1024 ** 2;

const PART_BYTES = 65_536;

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
    using file = Deno.openSync(path);
    return readAll(file, given);
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
type Source<Part> = AsyncIterableIterator<Part> & { return(): Promise<unknown> };

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
  try {
    return readAll(Deno.stdin, given);
  } catch (error) {
    throw inputError(error, "-", given);
  }
}

/** All of a file, up to a limit: it may have no end, as /dev/zero. */
function readAll(file: { readSync(part: Uint8Array): number | null }, given: string): Uint8Array {
  const parts: Uint8Array[] = [];
  const part = new Uint8Array(PART_BYTES);
  let length = 0;
  for (let bytes = file.readSync(part); bytes !== null; bytes = file.readSync(part)) {
    length += bytes;
    if (length > MAX_BYTES) {
      throw new InputError(`cannot read ${given}: it has more than ${sizeText(MAX_BYTES)}, which no message can hold`);
    }
    parts.push(part.slice(0, bytes));
  }
  return joined(parts);
}

/** An error of the runtime, in terms of the command line. */
function inputError(error: unknown, path: string, given: string): InputError {
  if (error instanceof InputError) return error;
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
  return messageOf(error);
}
