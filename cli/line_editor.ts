/**
 * Lines typed on a terminal, with the keys that people know from a shell: arrows, history, Tab, Ctrl-C.
 *
 * In: a prompt, what Tab offers, what Ctrl-C does. Out: lines, one by one, until Ctrl-D. Refused: nothing.
 *
 * The keys are those of `node:readline`, which the runtime carries, which needs no permission, and which knows of wide
 * characters and of lines longer than the terminal.
 */

import process from "node:process";
import { createInterface, type Interface } from "node:readline";

/** What the editor is given. */
export interface LineEditorOptions {
  readonly prompt: string;
  /** What could stand at the end of a line, and the part of it that is there already. */
  readonly complete: (line: string) => [candidates: string[], begun: string];
  /** Ctrl-C: says whether it was for something that runs, and not for the line. */
  readonly interrupt: () => boolean;
}

/** Reads lines from the terminal. */
export class LineEditor {
  readonly #interface: Interface;
  /** Lines that were typed before they were asked for. */
  readonly #typed: string[] = [];
  #wanted: ((line: string | undefined) => void) | undefined;
  #ended = false;

  constructor({ prompt, complete, interrupt }: LineEditorOptions) {
    this.#interface = createInterface({
      input: process.stdin,
      output: process.stdout,
      terminal: true,
      prompt,
      completer: complete,
      removeHistoryDuplicates: true,
    });
    this.#interface.on("line", (line: string) => this.#wanted ? this.#hand(line) : this.#typed.push(line));
    this.#interface.on("close", () => {
      this.#ended = true;
      this.#hand(undefined);
    });
    this.#interface.on("SIGINT", () => {
      if (interrupt()) return;
      // The line goes, from its end to its beginning.
      this.#interface.write(null, { ctrl: true, name: "e" });
      this.#interface.write(null, { ctrl: true, name: "u" });
    });
  }

  /** Shows the prompt, and waits for a line; `undefined` at the end. */
  read(): Promise<string | undefined> {
    if (!this.#ended) this.#interface.prompt();
    const line = this.#typed.shift();
    if (line !== undefined || this.#ended) return Promise.resolve(line);
    return new Promise((resolve) => this.#wanted = resolve);
  }

  /** Gives the terminal back. */
  close(): void {
    this.#interface.close();
  }

  #hand(line: string | undefined): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.(line);
  }
}
