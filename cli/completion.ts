/**
 * Completes a line at Tab: names of commands, then names of their parameters. Hints at the parameters that are missing.
 *
 * In: the line up to the cursor, and the commands from the server's INFO. Out: the candidates, and the part of them
 * that is already typed; or the hint. Refused: nothing.
 */

import { printable } from "../codec/printable.ts";
import { UsageError } from "./arguments.ts";
import { namesItems } from "./given_items.ts";
import { wordsOf } from "./line_words.ts";
import { ITEMS_PARAM } from "./reports.ts";

/** A command with its parameters. */
export interface KnownCommand {
  readonly name: string;
  readonly params: readonly string[];
  /** Whether it takes a stream of items. */
  readonly items?: boolean;
}

/** The prompt's own commands. */
const PROMPT_WORDS = ["describe ", "help", "quit"];

/** The flag that a line can have, before or after its command. Its value is the next word, or follows after `=`. */
const META = "--meta";

/** The candidates for the end of the line. */
export function completionsOf(line: string, commands: readonly KnownCommand[]): [candidates: string[], begun: string] {
  const [begun] = line.match(/\S*$/) as RegExpMatchArray;
  const words = callWords(line.slice(0, line.length - begun.length));
  if (words === undefined) return [[], begun];
  const names = commands.map(({ name }) => `${name} `);
  const candidates = words.length === 0
    ? [...names, ...PROMPT_WORDS]
    : words.length === 1 && words[0] === "describe"
    ? names
    : (commands.find(({ name }) => name === words[0])?.params ?? [])
      .map((param) => `${param}=`)
      .filter((param) => !words.some((word) => word.startsWith(param)));
  return [candidates.filter((candidate) => candidate.startsWith(begun)), begun];
}

/** The parameters that a call lacks so far, to be shown after the line; empty if none is missing or known. */
export function hintOf(line: string, commands: readonly KnownCommand[]): string {
  const [name, ...given] = callWords(line) ?? [];
  const { params = [], items = false } = commands.find((command) => command.name === name) ?? {};
  // A word without = is an unfinished name, or the short form of DELAY.
  if (given.some((word) => !word.includes("=") && !namesItems(word))) return "";
  const missing = params.map((param) => `${param}=`).filter((param) => !given.some((word) => word.startsWith(param)));
  if (items && !given.some(namesItems)) missing.push(ITEMS_PARAM);
  return missing.length === 0 ? "" : `${/\s$/.test(line) ? "" : " "}${missing.join(" ")}`;
}

/** The words of a line without `--meta`; `undefined` while its value is missing, or a quote or a bracket is open. */
function callWords(line: string): string[] | undefined {
  let words: string[];
  try {
    words = wordsOf(line);
  } catch (error) {
    if (error instanceof UsageError) return undefined;
    throw error;
  }
  if (words.at(-1) === META) return undefined;
  return words.filter((word, place) => word !== META && words[place - 1] !== META && !word.startsWith(`${META}=`));
}

/** The commands in a reply to INFO; malformed entries are skipped. */
export function knownCommands(listed: readonly unknown[]): KnownCommand[] {
  return listed.flatMap((command) => {
    const { name, params = [], items } = (command ?? {}) as Record<string, unknown>;
    if (!isWord(name) || !Array.isArray(params)) return [];
    return [{ name, params: params.filter(isWord), items: items === true }];
  });
}

/** Whether a value is a text that can be typed as one word, and shows all its characters. */
function isWord(value: unknown): value is string {
  return typeof value === "string" && /^\S+$/.test(value) && printable(value) === value;
}
