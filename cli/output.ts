/**
 * Lines on stdout and stderr.
 *
 * In: text. Out: the text and a newline, whole. A reader that has closed the pipe ends it quietly: whoever prints is
 * told, and may stop. Refused, by an {@linkcode OutputError}: what stdout cannot take, such as a disk that is full.
 */

import { printable } from "./printable.ts";

const encoder = new TextEncoder();

/** What was printed has not arrived. */
export class OutputError extends Error {
  /** Always `"OutputError"`. */
  override readonly name = "OutputError";
}

/** Writes lines to stdout; says whether anybody still reads. */
export async function print(text: string): Promise<boolean> {
  try {
    await write(Deno.stdout, text);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return false;
    throw new OutputError(`cannot write to stdout: ${error instanceof Error ? error.message : error}`);
  }
}

/** Writes lines to stderr. Where they cannot go, there is nobody left to tell. */
export async function note(text: string): Promise<void> {
  await write(Deno.stderr, text).catch(() => {});
}

/** Writes to stderr what went wrong, in one line. */
export function complain(text: string): Promise<void> {
  return note(`packline: ${printable(text)}`);
}

async function write(output: { write(bytes: Uint8Array): Promise<number> }, text: string): Promise<void> {
  for (let bytes = encoder.encode(`${text}\n`); bytes.length > 0;) bytes = bytes.subarray(await output.write(bytes));
}
