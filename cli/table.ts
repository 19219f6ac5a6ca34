/**
 * Rows of text in aligned columns.
 *
 * In: rows of cells; cells may hold text from a peer. Out: lines. Refused: nothing; a cell is made printable, and no
 * line has blanks at its end.
 */

import { printable } from "../codec/printable.ts";

/** Between two columns. */
const GAP = "  ";

/** The rows as lines; each column as wide as its widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map(printable));
  const widths: number[] = [];
  for (const row of cells) row.forEach((cell, column) => widths[column] = Math.max(widths[column] ?? 0, cell.length));
  return cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join(GAP).trimEnd()).join("\n");
}
