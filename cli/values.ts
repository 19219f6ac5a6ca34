/**
 * Reads the value of a parameter: typed, from a file, or from standard input.
 *
 * In: the text after `name=`. Out: the value. Refused, by a `UsageError`: a number or form that is not valid on the
 * wire, a file that should be text and is not UTF-8, standard input if it cannot be read; by an `InputError`: a file
 * that cannot be read.
 *
 * | text          | value                                                             |
 * | ------------- | ----------------------------------------------------------------- |
 * | anything else | JSON if it parses as JSON, otherwise the text                     |
 * | `@PATH`       | the content of the file, read in the same way: it must be UTF-8   |
 * | `@text:PATH`  | the content as text, even if it is JSON                           |
 * | `@bytes:PATH` | the content as bytes                                              |
 * | `-`           | standard input, as `@-`; also `@text:-` and `@bytes:-`            |
 *
 * The command line decides between text and bytes, not the content: an upload must not become text because its bytes
 * happen to be valid UTF-8.
 */

import { UsageError } from "./arguments.ts";
import { readInput, readStandardInput } from "./input_file.ts";
import { fromJson } from "./json.ts";

/** Lines. `return()` ends them at once, even if the next line never comes. */
export type LineSource = AsyncIterable<string> & { return(): Promise<unknown> };

/** The ways in which a call can read standard input. It can be read only once. */
export interface StandardInput {
  /** All of it, as the value of a parameter; `given` is how the command line names it. */
  readAll?(given: string): Uint8Array;
  /** Its bytes as they come, as the stream of items. */
  stream?(): ReadableStream<Uint8Array>;
  /** The lines that follow, if they are typed at the prompt. */
  lines?(): LineSource;
}

/** The kind and the path in `@PATH`, `@text:PATH`, `@bytes:PATH` and `-`; no path in any other text. */
export function sourceIn(text: string): { kind?: string; path?: string } {
  const [, kind, path] = /^@(?:(text|bytes):)?(.*)$/s.exec(text === "-" ? "@-" : text) ?? [];
  return { kind, path };
}

/** Reads a value; `name` is its parameter. */
export function readValue(name: string, text: string, input: StandardInput): unknown {
  const { kind, path } = sourceIn(text);
  if (path === undefined) return typed(text);
  if (path === "") {
    throw new UsageError(`${name}=${text} needs a path after it; write ${name}='"${text}"' for the text`);
  }
  const given = `${name}=${text}`;
  const bytes = path === "-" ? readAllFor(given, input) : readInput(path, given);
  if (kind === "bytes") return bytes;
  const content = utf8(bytes, kind === "text");
  if (content === undefined) {
    throw new UsageError(`${given} is not text in UTF-8; write ${name}=@bytes:${path} to send its bytes`);
  }
  return kind === "text" ? content : typed(content);
}

/** The standard input of the program. */
export function standardInput(): StandardInput {
  let isRead = false;
  return {
    readAll(given) {
      if (isRead) throw new UsageError("standard input can be the value of only one parameter");
      isRead = true;
      return readStandardInput(given);
    },
    stream() {
      if (isRead) throw new UsageError("standard input is the value of a parameter, so it cannot be the stream too");
      isRead = true;
      return Deno.stdin.readable;
    },
  };
}

/**
 * The text; `undefined` if the bytes are not UTF-8.
 *
 * @param keepsMark Whether a byte order mark belongs to the text.
 */
export function utf8(bytes: Uint8Array, keepsMark = false): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: keepsMark }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** The value of a text: JSON if it parses as JSON, otherwise the text. */
export function typed(text: string): unknown {
  try {
    return fromJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}

function readAllFor(given: string, input: StandardInput): Uint8Array {
  if (input.readAll !== undefined) return input.readAll(given);
  throw new UsageError(`${given} cannot be read: standard input has the calls themselves`);
}
