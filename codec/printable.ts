/**
 * Text that may come from a peer, made fit for a terminal or a log: nothing in it moves the cursor, starts a line, changes
 * a colour or the direction of what stands beside it, and nothing in it is invisible.
 *
 * In: any text. Out: the same, with such characters as `\uXXXX`, which JSON reads back. Refused: nothing.
 */

/**
 * Controls, format characters (bidi marks, joiners, U+FEFF), private and unassigned ones, halves of surrogate pairs (C),
 * line and paragraph separators (Z), and what is drawn as nothing (DI: fillers, variation selectors).
 */
const UNFIT = /[\p{C}\p{Zl}\p{Zp}\p{DI}]/gu;

/** The text without characters that act on a terminal or hide in it. */
export function printable(text: string): string {
  return text.replaceAll(UNFIT, escape);
}

/** Beyond U+FFFF, both halves. */
function escape(character: string): string {
  return Array.from({ length: character.length }, (_, place) => {
    return `\\u${character.charCodeAt(place).toString(16).padStart(4, "0")}`;
  }).join("");
}
