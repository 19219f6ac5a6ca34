/**
 * Lines typed on a terminal, with the keys that people know from a shell: arrows, history, Tab, Ctrl-C.
 *
 * In: a prompt, what Tab offers, what Ctrl-C does. Out: lines, one by one, until Ctrl-D. Refused: nothing. Whatever ends
 * the program, the terminal is then as it was: with echo, and a line at a time.
 *
 * Lines may come before they are asked for, pasted or typed ahead: each is shown again behind a prompt of its own when its
 * turn comes, so that what it leads to stands below it. Ctrl-C takes away those that wait.
 *
 * The keys are those of `node:readline`, which the runtime carries, which needs no permission, and which knows of wide
 * characters and of lines longer than the terminal.
 */

import process from "node:process";
import { createInterface, type Interface } from "node:readline";
import { beforeExit } from "./interrupt.ts";

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
  readonly #prompt: string;
  /** Lines that were typed before they were asked for. */
  #typed: string[] = [];
  #wanted: ((line: string | undefined) => void) | undefined;
  #ended = false;
  readonly #release: () => void;

  constructor({ prompt, complete, interrupt }: LineEditorOptions) {
    this.#prompt = prompt;
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
      // Whoever writes to the terminal next begins a line.
      if (this.#wanted !== undefined) process.stdout.write("\n");
      this.#ended = true;
      this.#hand(undefined);
    });
    this.#interface.on("SIGINT", () => {
      this.#typed = [];
      if (interrupt()) return;
      if (this.#interface.line === "") {
        process.stdout.write("quit or Ctrl-D ends this\n");
        this.#interface.prompt();
        return;
      }
      // The line goes, from its end to its beginning.
      this.#interface.write(null, { ctrl: true, name: "e" });
      this.#interface.write(null, { ctrl: true, name: "u" });
    });
    this.#release = beforeExit(() => this.#interface.close());
    // Back from Ctrl-Z, with its input still held.
    this.#interface.on("SIGCONT", () => void this.#interface.resume());
  }

  /** Shows the prompt, and waits for a line; `undefined` at the end. */
  read(): Promise<string | undefined> {
    const line = this.#typed.shift();
    if (line !== undefined) process.stdout.write(`${this.#prompt}${line}\n`);
    if (line !== undefined || this.#ended) return Promise.resolve(line);
    // With the cursor behind what has been typed of the line so far.
    this.#interface.prompt(true);
    return new Promise((resolve) => this.#wanted = resolve);
  }

  /** Gives the terminal back. */
  close(): void {
    this.#release();
    this.#interface.close();
  }

  #hand(line: string | undefined): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.(line);
  }
}
