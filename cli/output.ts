/**
 * Writes lines to stdout and stderr, and a status to the last line of a terminal.
 *
 * In: text. Out: the text and a newline. If the reader has closed the pipe, `print` returns false. Failures are red on
 * a terminal, unless `NO_COLOR` is set. The status is shown until the next line, and only on a terminal. Refused, by an
 * {@linkcode OutputError}: text that cannot be written to stdout, as on a full disk.
 */

import { printable } from "../codec/printable.ts";
import { LineWriter, standardError, writeText } from "../transport/line_writer.ts";
import { messageOf } from "../transport/runtime.ts";

const encoder = new TextEncoder();

/** Moves to the first column and clears the line. */
const CLEAR_LINE = "\r\x1b[K";

const writeToStdout = (bytes: Uint8Array) => Deno.stdout.write(bytes);

let statusIsShown = false;

/** Printed text could not be written. */
export class OutputError extends Error {
  /** Always `"OutputError"`. */
  override readonly name = "OutputError";
}

/** Writes lines to stdout; returns whether there is still a reader. */
export async function print(text: string, { failed = false }: { failed?: boolean } = {}): Promise<boolean> {
  showStatus("");
  try {
    await writeText(`${failed && Deno.stdout.isTerminal() ? red(text) : text}\n`, writeToStdout);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return false;
    throw new OutputError(`cannot write to stdout: ${messageOf(error)}`);
  }
}

/** Passes on the output of other programs to stdout, without waiting for its reader. */
export const standardOutput: LineWriter = new LineWriter("stdout", writeToStdout);

/** Writes lines to stderr; ignores errors and does not wait long for a blocked reader. */
export async function note(text: string): Promise<void> {
  showStatus("");
  standardError.write(text);
  await standardError.flush();
}

/** Writes an error to stderr, in one line. */
export function complain(text: string): Promise<void> {
  const line = `packline: ${printable(text)}`;
  return note(Deno.stderr.isTerminal() ? red(line) : line);
}

/** Replaces the status on a terminal; an empty text clears it. */
export function showStatus(text: string): void {
  if (text === "" && !statusIsShown || !Deno.stderr.isTerminal()) return;
  statusIsShown = text !== "";
  try {
    Deno.stderr.writeSync(encoder.encode(CLEAR_LINE + text));
  } catch {
    // A terminal may be stopped by Ctrl-S, and another program may have made it non-blocking. A status may be missing.
  }
}

/** The text in red, unless `NO_COLOR` is set. */
export function red(text: string): string {
  return Deno.noColor ? text : `\x1b[31m${text}\x1b[39m`;
}
