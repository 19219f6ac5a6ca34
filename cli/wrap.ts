/**
 * Wraps text between words for a narrow terminal.
 *
 * In: lines of prose or of a table. Out: the same, with no line wider than the terminal, except single long words.
 * Refused: nothing. Without a terminal on stdout, lines stay whole.
 */

import { textWidth } from "./text_width.ts";

/** A wrapped line continues under its last column if that leaves this much room, and room for its longest word. */
const LEAST_COLUMNS = 16;

/** Otherwise the line continues with this indent. */
const INDENT = 4;

/** The width of the terminal; `Infinity` if stdout is not one, or it is unknown. */
export function terminalColumns(): number {
  return Deno.stdout.isTerminal() ? Deno.consoleSize().columns || Infinity : Infinity;
}

/** Wraps long lines. */
export function wrap(text: string, columns: number = terminalColumns()): string {
  return text.split("\n").map((line) => textWidth(line) <= columns ? line : broken(line, columns)).join("\n");
}

function broken(line: string, columns: number): string {
  const lines: string[] = [];
  const indent = " ".repeat(indentOf(line, columns));
  let begun = "";
  for (const word of line.match(/\s*\S+/g) ?? []) {
    if (begun.trim() !== "" && textWidth(begun) + textWidth(word) > columns) {
      lines.push(begun);
      begun = indent + word.trimStart();
    } else begun += word;
  }
  return [...lines, begun].join("\n");
}

/** The indent of the second line: under the last column of a table, if there is room. */
function indentOf(line: string, columns: number): number {
  const before = line.match(/^.*\S {2,}(?=\S)/)?.[0] ?? "";
  const lastColumn = textWidth(before);
  // Not by one call of Math.max(): a server's text may have more words than a call has room for.
  const longest = line.slice(before.length).split(" ").reduce((most, word) => Math.max(most, textWidth(word)), 0);
  if (lastColumn > 0 && columns - lastColumn >= Math.max(LEAST_COLUMNS, longest)) return lastColumn;
  const first = line.length - line.trimStart().length;
  return columns - first - INDENT >= LEAST_COLUMNS ? first + INDENT : 0;
}
