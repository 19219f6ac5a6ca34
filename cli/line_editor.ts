/**
 * Reads lines from a terminal with the usual shell keys: arrows, history, Tab, Ctrl-C.
 *
 * In: a prompt, earlier lines, the completions for Tab, the hints, the action of Ctrl-C. Out: lines, until Ctrl-D.
 * Refused: nothing. The terminal is restored however the program ends.
 *
 * Lines may be pasted or typed ahead. Each is shown again after its own prompt when it is read, so that its output
 * follows it. Ctrl-C drops the waiting lines.
 *
 * It uses `node:readline`, which needs no permission and handles wide characters. A pasted line of thousands of
 * characters takes it seconds.
 */

import process from "node:process";
import { createInterface, type Interface } from "node:readline";
import { beforeExit } from "./interrupt.ts";
import { textWidth } from "./text_width.ts";

/** The number of lines that the arrow keys go back. */
const HISTORY_SIZE = 1000;

/** Options of the editor. */
interface LineEditorOptions {
  readonly prompt: string;
  /** The candidates for the end of a line, and the part that is already typed. */
  readonly complete: (line: string) => [candidates: string[], begun: string];
  /** The text to show after a line, dimmed; a hint is removed before the next key. */
  readonly hint: (line: string) => string;
  /** Earlier lines, the newest first. */
  readonly history: readonly string[];
  /** Handles Ctrl-C; returns whether it was for a running call, not for the line. */
  readonly interrupt: () => boolean;
}

/** Reads lines from the terminal. */
export class LineEditor {
  readonly #interface: Interface;
  readonly #prompt: string;
  /** Lines that were typed ahead. */
  #typed: string[] = [];
  #wanted: ((line: string | undefined) => void) | undefined;
  #ended = false;
  readonly #release: () => void;
  readonly #hint: (line: string) => string;
  #hintIsShown = false;
  /** Whether lines belong to a call: up to an empty line, or until the call ends. */
  #readsMore = false;
  /** Whether the terminal was closed. */
  isLost = false;

  constructor({ prompt, complete, hint, history, interrupt }: LineEditorOptions) {
    this.#prompt = prompt;
    this.#hint = hint;
    this.#interface = createInterface({
      input: process.stdin,
      output: process.stdout,
      terminal: true,
      prompt,
      completer: complete,
      removeHistoryDuplicates: true,
      history: [...history],
      historySize: HISTORY_SIZE,
    });
    // Without colours, a hint would look like typed text.
    if (!Deno.noColor) {
      process.stdin.prependListener("keypress", () => this.#hideHint());
      // After the effect of the key. The effect of Tab comes late.
      process.stdin.on("keypress", () => setImmediate(() => this.#showHint()));
    }
    process.stdin.prependListener("end", () => this.isLost = true);
    this.#interface.on("line", (line: string) => {
      if (this.isLost) return; // at the end of its input, readline also gives the unfinished line
      if (this.#wanted) this.#hand(line);
      else this.#typed.push(line);
    });
    this.#interface.on("close", () => {
      this.#hideHint();
      // End the line, so that later output starts a new one.
      if (this.#wanted !== undefined) process.stdout.write("\n");
      this.#ended = true;
      this.#hand(undefined);
    });
    this.#interface.on("SIGINT", () => {
      this.#typed = [];
      if (interrupt()) return;
      if (this.#interface.line === "") {
        process.stdout.write("type quit or Ctrl-D to leave\n");
        this.#interface.prompt();
        return;
      }
      this.#clear();
    });
    this.#release = beforeExit(() => this.#interface.close());
    // After Ctrl-Z the input is still paused.
    this.#interface.on("SIGCONT", () => void this.#interface.resume());
  }

  /** Shows the prompt and reads a line; `undefined` at the end. */
  read(): Promise<string | undefined> {
    return this.#next(this.#prompt);
  }

  #next(prompt: string): Promise<string | undefined> {
    const line = this.#typed.shift();
    if (line !== undefined) process.stdout.write(`${prompt}${line}\n`);
    if (line !== undefined || this.#ended) return Promise.resolve(line);
    this.#interface.setPrompt(prompt);
    // The cursor stays after the text typed so far.
    this.#interface.prompt(true);
    return new Promise((resolve) => this.#wanted = resolve);
  }

  /** Reads a line that continues the previous one, without a prompt; `undefined` at the end. */
  async readMore(): Promise<string | undefined> {
    this.#readsMore = true;
    const line = await this.#next("");
    if (!line) this.#readsMore = false;
    return line;
  }

  /**
   * Stops reading lines that continue the previous one. Drops those that were typed ahead for it: they must not become
   * calls.
   *
   * @returns The number of dropped lines.
   */
  dismiss(): number {
    if (!this.#readsMore) return 0;
    this.#readsMore = false;
    this.#hand(undefined);
    const end = this.#typed.indexOf("");
    const dropped = this.#typed.splice(0, end < 0 ? Infinity : end + 1);
    if (this.#interface.line !== "") this.#clear();
    return dropped.filter((line) => line !== "").length;
  }

  /** Restores the terminal. */
  close(): void {
    this.#release();
    this.#interface.close();
  }

  /** Moves to the end of the line, and clears the line. */
  #clear(): void {
    this.#interface.write(null, { ctrl: true, name: "e" });
    this.#interface.write(null, { ctrl: true, name: "u" });
  }

  #showHint(): void {
    const { line, cursor } = this.#interface;
    if (this.#wanted === undefined || this.#hintIsShown || cursor < line.length) return;
    const hint = this.#hint(line);
    // The hint must not continue in the next row, where the next key would not clear it.
    const columns = textWidth(hint);
    if (hint === "" || this.#interface.getCursorPos().cols + columns >= process.stdout.columns) return;
    process.stdout.write(`\x1b[2m${hint}\x1b[22m\x1b[${columns}D`);
    this.#hintIsShown = true;
  }

  #hideHint(): void {
    if (this.#hintIsShown) process.stdout.write("\x1b[K");
    this.#hintIsShown = false;
  }

  #hand(line: string | undefined): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.(line);
  }
}
