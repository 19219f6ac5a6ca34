/**
 * Makes text from a peer safe for a terminal or a log: no character in it is invisible, moves the cursor, starts a
 * line, or changes a colour or the text direction.
 *
 * In: any text. Out: the same, with such characters as `\uXXXX`, which JSON can read back; or one word. Refused: nothing.
 */

/**
 * Control, format (bidi marks, joiners, U+FEFF), private-use and unassigned characters, lone surrogates (C), line and
 * paragraph separators (Z), and characters without a glyph (DI: fillers, variation selectors).
 */
const UNFIT = /[\p{C}\p{Zl}\p{Zp}\p{DI}]/gu;

/** Escapes characters that control a terminal or hide in it. */
export function printable(text: string): string {
  return text.replaceAll(UNFIT, escape);
}

/**
 * Makes a text one word of a line: quoted if it is empty or has spaces, quotes, backslashes or unprintable characters.
 *
 * @param nothing The word for `null`. A text that is the same is quoted.
 */
export function word(text: string | null, nothing = ""): string {
  if (text === null) return nothing;
  const isWord = /^[^\s"\\]+$/.test(text) && printable(text) === text && text !== nothing;
  return isWord ? text : printable(JSON.stringify(text));
}

/** Escapes one character; above U+FFFF, both surrogates. */
function escape(character: string): string {
  return Array.from({ length: character.length }, (_, place) => {
    return `\\u${character.charCodeAt(place).toString(16).padStart(4, "0")}`;
  }).join("");
}
