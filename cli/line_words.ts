/**
 * Splits a typed line into the words of a call.
 *
 * In: a line. Out: its words, as from a command line. Refused, by a `UsageError`: an unclosed quote or bracket.
 *
 * Spaces separate words. A JSON value may contain spaces, from its first quote or bracket to the closing one:
 * `name="Ada L"`, `list=[1, 2]`. Single quotes are removed and their text is used as it is: `name='Ada L'`.
 */

import { UsageError } from "./arguments.ts";

const CLOSING: Record<string, string> = { "{": "}", "[": "]" };

/** The words of a line. */
export function wordsOf(line: string): string[] {
  const words: string[] = [];
  let position = 0;
  while (true) {
    while (isBlank(line[position])) position++;
    if (position >= line.length) return words;
    let word = "";
    // A value starts at the word's start and after its first "=".
    let atValue = true;
    let hasKey = false;
    while (position < line.length && !isBlank(line[position])) {
      const character = line[position];
      let end = position + 1;
      if (atValue && character === "'") {
        end = endOfQuote(line, position);
        word += line.slice(position + 1, end - 1);
      } else {
        if (atValue && (character === '"' || character in CLOSING)) end = endOfJson(line, position);
        else if (hasKey || character !== "=") end = endOfRun(line, end, hasKey);
        word += line.slice(position, end);
      }
      atValue = character === "=" && !hasKey;
      hasKey ||= atValue;
      position = end;
    }
    words.push(word);
  }
}

function isBlank(character: string | undefined): boolean {
  return character !== undefined && /\s/.test(character);
}

/** The index of the next special character: a space, or the first "=". Reading a long word letter by letter is slow. */
function endOfRun(line: string, start: number, hasKey: boolean): number {
  let end = start;
  while (end < line.length && !isBlank(line[end]) && (hasKey || line[end] !== "=")) end++;
  return end;
}

/** The index after the quote that closes the one at `start`. */
function endOfQuote(line: string, start: number): number {
  const quote = line[start];
  for (let position = start + 1; position < line.length; position++) {
    if (line[position] === quote) return position + 1;
    if (quote === '"' && line[position] === "\\") position++;
  }
  throw new UsageError(`a ${quote} is not closed`);
}

/** The index after the JSON text that starts at `start` with a quote or a bracket. */
function endOfJson(line: string, start: number): number {
  const open: string[] = [];
  for (let position = start; position < line.length; position++) {
    const character = line[position];
    if (character === '"') position = endOfQuote(line, position) - 1;
    else if (character in CLOSING) open.push(CLOSING[character]);
    else if (character === open.at(-1)) open.pop();
    if (open.length === 0) return position + 1;
  }
  throw new UsageError(`a ${open.at(-1)} is missing`);
}
