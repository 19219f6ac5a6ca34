/**
 * Helpers for the writers of declarations: text from a server, made safe for source code, and names of types.
 *
 * In: names, summaries and values from any server. Out: text on one line, which cannot end a comment or a quoted text.
 * Refused: nothing.
 */

import { printable } from "../codec/printable.ts";

/** The first line of a file. */
export function madeBy(language: string): string {
  return `Made by client.ts --types ${language}; run it again rather than edit this`;
}

/** A text in double quotes, as TypeScript reads it. */
export function quoted(text: string): string {
  return printable(JSON.stringify(text));
}

/** A text for a comment: one line that cannot end the comment. */
export function commented(text: string): string {
  return text.replaceAll(/[^ -~]/gu, (character) => printable(character) === character ? character : " ")
    .replaceAll("*/", "* /").replaceAll("]]", "] ]").replaceAll(/\s+/g, " ").trim();
}

/**
 * The comment about a command. It begins with a word of ours: tools obey a comment that begins with `type:`, `mypy:` or
 * `@ts-ignore`.
 */
export function about({ name, summary }: { readonly name: string; readonly summary: string }): string {
  return `Command ${commented(name)}${summary === "" ? "" : `: ${commented(summary)}`}`;
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
