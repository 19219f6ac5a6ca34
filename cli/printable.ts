/**
 * Text that may come from a peer, made fit for a terminal: nothing in it can move the cursor, start a line or change a
 * colour.
 *
 * In: any text. Out: the same, with control characters and line separators as `\uXXXX`, which JSON reads back.
 * Refused: nothing.
 */

/** The text without control characters (C0, DEL, C1) and without U+2028 and U+2029. */
export function printable(text: string): string {
  // deno-lint-ignore no-control-regex -- finding control characters is what this is for
  return text.replaceAll(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, escape);
}

function escape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
