/**
 * Saves the lines that were typed at the prompt, for later sessions.
 *
 * In: lines. Out: the lines of earlier sessions. A line is not saved if it begins with a blank, or if it has a flag,
 * because the value of `--meta` may be a secret. Refused: nothing. If the file cannot or may not be used, the prompt
 * works without it.
 *
 * The file is `packline/history` in the user's folder for state, and only its owner may read it.
 */

import { environment, isGranted } from "./permission.ts";

/** The largest number of saved lines. */
const MAX_LINES = 1000;

/** The longest line that is saved. */
const MAX_LENGTH = 4096;

/** Gives the lines of earlier sessions, and saves new ones. */
export class History {
  readonly #folder = stateFolder();
  /** The lines of earlier sessions, the newest first. */
  readonly lines: readonly string[] = this.#load();
  #last = this.lines[0];

  /** Saves a line. */
  add(line: string): void {
    if (this.#folder === undefined || line === this.#last || !isKept(line)) return;
    this.#last = line;
    try {
      Deno.mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      Deno.writeTextFileSync(`${this.#folder}/history`, `${line}\n`, { append: true, mode: 0o600 });
    } catch {
      // A full disk must not disturb a call.
    }
  }

  /**
   * Loads the lines, and shortens the file. The file is replaced in one step, because another prompt may be reading it.
   */
  #load(): string[] {
    if (this.#folder === undefined) return [];
    const path = `${this.#folder}/history`;
    let lines: string[] = [];
    try {
      lines = Deno.readTextFileSync(path).split("\n").filter((line) => line !== "").slice(-MAX_LINES);
      // A link to the file stays a link.
      const target = Deno.lstatSync(path).isSymlink ? Deno.realPathSync(path) : path;
      Deno.writeTextFileSync(`${target}.new`, lines.map((line) => `${line}\n`).join(""), { mode: 0o600 });
      Deno.renameSync(`${target}.new`, target);
    } catch {
      // There is none yet, or its folder cannot be written.
    }
    return lines.reverse();
  }
}

/** A flag may be misspelt, as in `-meta token=sesame`. */
function isKept(line: string): boolean {
  return /^\S/.test(line) && line.length <= MAX_LENGTH && !/--meta|(^|\s)['"]?-+[a-z]/i.test(line);
}

/** The folder, if it may be used; `undefined` otherwise. */
function stateFolder(): string | undefined {
  let state: string | undefined;
  try {
    const home = environment("HOME");
    state = environment("XDG_STATE_HOME") || environment("LOCALAPPDATA") || (home && `${home}/.local/state`);
  } catch {
    // A path that is not UTF-8 cannot be used.
  }
  if (!state) return undefined;
  const path = `${state}/packline`;
  return isGranted({ name: "read", path }) && isGranted({ name: "write", path }) ? path : undefined;
}
