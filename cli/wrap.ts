/**
 * Text for a terminal that is narrower than its lines: they are broken between words, not within them.
 *
 * In: lines of prose, or of a table. Out: the same, none longer than the terminal is wide, except for words that are.
 * Refused: nothing. Where stdout is no terminal, lines stay whole.
 */

/** Below its last column, a line goes on if that leaves so much room, and enough for its longest word. */
const LEAST_COLUMNS = 16;

/** Elsewhere it goes on a little further in than it began. */
const INDENT = 4;

/** How wide the terminal is; `Infinity` if stdout is none, or if it does not tell. */
export function terminalColumns(): number {
  return Deno.stdout.isTerminal() ? Deno.consoleSize().columns || Infinity : Infinity;
}

/** The text, with long lines broken. */
export function wrap(text: string, columns: number = terminalColumns()): string {
  return text.split("\n").map((line) => line.length <= columns ? line : broken(line, columns)).join("\n");
}

function broken(line: string, columns: number): string {
  const lines: string[] = [];
  const indent = " ".repeat(indentOf(line, columns));
  let begun = "";
  for (const word of line.match(/\s*\S+/g) ?? []) {
    if (begun.trim() !== "" && begun.length + word.length > columns) {
      lines.push(begun);
      begun = indent + word.trimStart();
    } else begun += word;
  }
  return [...lines, begun].join("\n");
}

/** Where the second line begins: at the last column of a table, or where the terminal leaves room for one. */
function indentOf(line: string, columns: number): number {
  const lastColumn = line.match(/^.*\S {2,}(?=\S)/)?.[0].length ?? 0;
  const longest = Math.max(...line.slice(lastColumn).split(" ").map((word) => word.length));
  if (lastColumn > 0 && columns - lastColumn >= Math.max(LEAST_COLUMNS, longest)) return lastColumn;
  const first = line.length - line.trimStart().length;
  return columns - first - INDENT >= LEAST_COLUMNS ? first + INDENT : 0;
}
