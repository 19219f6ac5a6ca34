/**
 * Reads the word of a command line that names the caller's stream of items.
 *
 * In: a word. Out: the source of the items, which reads only as fast as they are taken. Refused, by a `UsageError`: a
 * word without a path, standard input if it cannot be read, a line that is not UTF-8 or not a valid value on the wire;
 * by an `InputError`: a file that cannot be read, or not to its end.
 *
 * | word                        | items                                                            |
 * | --------------------------- | ---------------------------------------------------------------- |
 * | `@PATH`, `@bytes:PATH`      | the bytes of the file, in chunks                                 |
 * | `@text:PATH`                | its lines, each as text                                          |
 * | `-`, `@-`                   | the lines of standard input, each a value as after `name=`       |
 * | `@text:-`, `@bytes:-`       | its lines as text; its bytes, in chunks                          |
 */

import { PIECE_BYTES } from "../session/item_sender.ts";
import { UsageError } from "./arguments.ts";
import { openInput, partsOf } from "./input_file.ts";
import { linesOf } from "./lines.ts";
import { type LineSource, sourceIn, type StandardInput, typed } from "./values.ts";

/** The most bytes of a line for each byte of the largest item: as JSON, a value is longer than on the wire. */
const LINE_SHARE = 8;

/** The most bytes of an item besides its chunk: its call, the names of its fields, the length of the chunk. */
const ITEM_FIELDS_BYTES = 32;

/** The items of a stream. */
type ItemIterator = AsyncIterator<unknown, unknown, void>;

/** A stream of items that has not begun. */
export interface GivenItems {
  /** The word. */
  readonly given: string;
  /** Whether the items come from standard input, which can be read only once and may be typed by hand. */
  readonly isStandardInput: boolean;
  /** Begins the stream. `return()` ends it at once, even while it waits for an item. */
  open(maxPayloadBytes: number): ItemIterator;
}

/** Whether a word names a stream of items. The value of a parameter follows `name=` instead. */
export function namesItems(word: string): boolean {
  return word === "-" || word.startsWith("@");
}

/** Reads a word that names a stream of items. */
export function readGivenItems(given: string, input: StandardInput): GivenItems {
  const { kind, path = "" } = sourceIn(given);
  if (path === "") throw new UsageError(`${given} needs a path after it`);
  const isStandardInput = path === "-";
  const isText = kind === "text";
  const isLines = isText || isStandardInput && kind === undefined;
  const { lines } = input;
  if (isStandardInput && isLines && lines !== undefined) {
    const valuesIn = (source: LineSource) => stoppable(valuesOf(source, given, isText), source);
    return { given, isStandardInput, open: () => valuesIn(lines()) };
  }
  const stream = isStandardInput ? streamOf(given, input) : undefined;
  return {
    given,
    isStandardInput,
    open(maxPayloadBytes) {
      const bytes = partsOf(stream ?? openInput(path, given), path, given);
      const items = isLines
        ? valuesOf(strictLines(bytes, given, maxPayloadBytes), given, isText)
        : chunksOf(bytes, chunkBytesFor(maxPayloadBytes));
      return stoppable(items, bytes);
    },
  };
}

function chunkBytesFor(maxPayloadBytes: number): number {
  return Math.max(1, Math.min(PIECE_BYTES, maxPayloadBytes - ITEM_FIELDS_BYTES));
}

function streamOf(given: string, { stream }: StandardInput): ReadableStream<Uint8Array> {
  if (stream !== undefined) return stream();
  throw new UsageError(`${given} cannot be read: standard input has the calls themselves`);
}

/** The items of a generator. `return()` ends its source, because a generator cannot be ended while it waits. */
function stoppable(items: AsyncGenerator<unknown, void>, source: { return(): Promise<unknown> }): ItemIterator {
  return {
    next: () => items.next(),
    async return() {
      await source.return();
      return { done: true, value: undefined };
    },
  };
}

async function* chunksOf(bytes: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Uint8Array, void> {
  for await (const part of bytes) {
    for (let start = 0; start < part.length; start += maxBytes) yield part.subarray(start, start + maxBytes);
  }
}

/** The lines of text in UTF-8. A line that is much longer than an item is refused. */
async function* strictLines(
  bytes: AsyncIterable<Uint8Array>,
  given: string,
  maxPayloadBytes: number,
): AsyncGenerator<string, void> {
  try {
    yield* linesOf(bytes, { fatal: true, maxBytes: LINE_SHARE * maxPayloadBytes });
  } catch (error) {
    if (error instanceof RangeError) {
      throw new UsageError(`a line of ${given} is too long: an item has at most ${maxPayloadBytes} bytes`);
    }
    if (!(error instanceof TypeError)) throw error;
    const asBytes = given.replace(/^@(text:)?/, "");
    throw new UsageError(`${given} is not text in UTF-8; write @bytes:${asBytes} to send its bytes`);
  }
}

async function* valuesOf(lines: AsyncIterable<string>, given: string, isText: boolean): AsyncGenerator<unknown, void> {
  let number = 0;
  for await (const line of lines) {
    number++;
    const text = line.replace(/\r$/, "");
    yield isText ? text : valueAt(number, text, given);
  }
}

function valueAt(number: number, text: string, given: string): unknown {
  try {
    return typed(text);
  } catch (error) {
    throw error instanceof UsageError ? new UsageError(`line ${number} of ${given}: ${error.message}`) : error;
  }
}
