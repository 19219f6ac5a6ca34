/**
 * Keeps the lines that were typed at the prompt for the next session.
 *
 * In: lines. Out: those of earlier sessions. A line that begins with a blank is not kept, nor is one that names
 * `--meta`, whose value may be a secret. Refused: nothing; if the program may not use the file, or it cannot be used,
 * the prompt works without it.
 *
 * The file is `packline/history` in the user's folder for state, and only its owner may read it.
 */

import { environment, isGranted } from "./permission.ts";

/** The number of lines that are kept from session to session. */
const MAX_LINES = 1000;

/** The longest line that is kept. */
const MAX_LENGTH = 4096;

/** The lines of earlier sessions, and a place for those of this one. */
export class History {
  readonly #folder = stateFolder();
  /** The newest first. */
  readonly lines: readonly string[] = this.#load();
  #last = this.lines[0];

  /** Keeps a line. */
  add(line: string): void {
    if (this.#folder === undefined || line === this.#last || !isKept(line)) return;
    this.#last = line;
    try {
      Deno.mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      Deno.writeTextFileSync(`${this.#folder}/history`, `${line}\n`, { append: true, mode: 0o600 });
    } catch {
      // A full disk is no reason to disturb a call.
    }
  }

  /** Also shortens the file. It is replaced in one step, because another prompt may be reading it. */
  #load(): string[] {
    if (this.#folder === undefined) return [];
    const path = `${this.#folder}/history`;
    try {
      const lines = Deno.readTextFileSync(path).split("\n").filter((line) => line !== "").slice(-MAX_LINES);
      Deno.writeTextFileSync(`${path}.new`, lines.map((line) => `${line}\n`).join(""), { mode: 0o600 });
      Deno.renameSync(`${path}.new`, path);
      return lines.reverse();
    } catch {
      return [];
    }
  }
}

function isKept(line: string): boolean {
  return /^\S/.test(line) && line.length <= MAX_LENGTH && !line.includes("--meta");
}

/** The folder, if it may be used; `undefined` otherwise. */
function stateFolder(): string | undefined {
  const home = environment("HOME");
  const state = environment("XDG_STATE_HOME") || environment("LOCALAPPDATA") || (home && `${home}/.local/state`);
  if (!state) return undefined;
  const path = `${state}/packline`;
  return isGranted({ name: "read", path }) && isGranted({ name: "write", path }) ? path : undefined;
}
