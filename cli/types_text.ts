/**
 * Helpers for the writers of declarations: text from a server, made safe for source code, and names of types.
 *
 * In: names, summaries and values from any server. Out: text on one line, which cannot end a comment or a quoted text.
 * Refused: nothing.
 */

/** The first line of a file. */
export function madeBy(language: string): string {
  return `Made by client.ts --types ${language}; run it again rather than edit this`;
}

/** A text in double quotes, as TypeScript reads it. */
export function quoted(text: string): string {
  return JSON.stringify(text).replaceAll(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A text for a comment: one line that cannot end the comment. */
export function commented(text: string): string {
  return text.replaceAll(/[^ -~]/gu, (character) => /[\p{L}\p{N}\p{P}\p{S}\p{M}]/u.test(character) ? character : " ")
    .replaceAll("*/", "* /").replaceAll("]]", "] ]").replaceAll(/\s+/g, " ").trim();
}

/** Names of types, each given once: `GREET_ALL` and `Params` become `GreetAllParams`. */
export class TypeNames {
  readonly #given = new Set<string>();

  /** A name for these words. */
  of(...words: string[]): string {
    const joined = words.map(pascal).join("");
    const base = /^[A-Za-z]/.test(joined) ? joined : `Command${joined}`;
    let name = base;
    for (let count = 2; this.#given.has(name.toLowerCase()); count++) name = `${base}${count}`;
    this.#given.add(name.toLowerCase());
    return name;
  }
}

/** `GREET_ALL`, `greet-all` and `greetAll` as `GreetAll`. */
function pascal(word: string): string {
  const parts = word.replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2").match(/[A-Za-z0-9]+/g) ?? [];
  return parts.map((part) => part[0].toUpperCase() + part.slice(1).toLowerCase()).join("");
}
