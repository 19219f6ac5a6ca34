/**
 * Lines on stdout and stderr, and a status on the last line of a terminal.
 *
 * In: text. Out: the text and a newline, whole. A reader that has closed the pipe ends it quietly: whoever prints is
 * told, and may stop. What failed is red on a terminal, unless `NO_COLOR` is set. The status is there until the next
 * line, and on a terminal only. Refused, by an {@linkcode OutputError}: what stdout cannot take, such as a disk that is
 * full.
 */

import { printable } from "../codec/printable.ts";
import { standardError } from "../transport/standard_error.ts";

const encoder = new TextEncoder();

/** To the first column, and all behind it gone. */
const CLEAR_LINE = "\r\x1b[K";

let statusIsShown = false;

/** What was printed has not arrived. */
export class OutputError extends Error {
  /** Always `"OutputError"`. */
  override readonly name = "OutputError";
}

/** Writes lines to stdout; says whether anybody still reads. */
export async function print(text: string, { failed = false }: { failed?: boolean } = {}): Promise<boolean> {
  showStatus("");
  try {
    await write(Deno.stdout, failed && Deno.stdout.isTerminal() ? red(text) : text);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return false;
    throw new OutputError(`cannot write to stdout: ${error instanceof Error ? error.message : error}`);
  }
}

/** Writes lines to stderr. Where they cannot go, there is nobody left to tell; where nobody reads them, they are not waited for. */
export async function note(text: string): Promise<void> {
  showStatus("");
  standardError.write(text);
  await standardError.flush();
}

/** Writes to stderr what went wrong, in one line. */
export function complain(text: string): Promise<void> {
  const line = `packline: ${printable(text)}`;
  return note(Deno.stderr.isTerminal() ? red(line) : line);
}

/** Shows on a terminal what is going on, in place of what it showed before; an empty text takes it away. */
export function showStatus(text: string): void {
  if (text === "" && !statusIsShown || !Deno.stderr.isTerminal()) return;
  statusIsShown = text !== "";
  Deno.stderr.writeSync(encoder.encode(CLEAR_LINE + text));
}

function red(text: string): string {
  return Deno.noColor ? text : `\x1b[31m${text}\x1b[39m`;
}

async function write(output: { write(bytes: Uint8Array): Promise<number> }, text: string): Promise<void> {
  for (let bytes = encoder.encode(`${text}\n`); bytes.length > 0;) bytes = bytes.subarray(await output.write(bytes));
}
