/**
 * Formats rows of text in aligned columns.
 *
 * In: rows of cells, which may contain text from a peer. Out: lines without trailing spaces; cells are made printable.
 * Refused: nothing.
 */

import { printable } from "../codec/printable.ts";
import { padded, textWidth } from "./text_width.ts";

/** The space between columns. */
const GAP = "  ";

/** Formats the rows; each column is as wide as its widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map(printable));
  const widths: number[] = [];
  for (const row of cells) {
    row.forEach((cell, column) => widths[column] = Math.max(widths[column] ?? 0, textWidth(cell)));
  }
  return cells.map((row) => row.map((cell, column) => padded(cell, widths[column])).join(GAP).trimEnd()).join("\n");
}
