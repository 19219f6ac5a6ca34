/**
 * Writes lines to stderr without blocking. `console.error` blocks while a pipe is full, and with it all connections of
 * a server.
 *
 * In: lines. Out: the same lines in order, written one at a time and asynchronously. While stderr is blocked, some
 * lines are kept; the rest are dropped and counted, and the count is written later. Refused: nothing.
 */

import { writeToStderr } from "./runtime.ts";

/** The most text kept while stderr is blocked. */
const MAX_WAITING_CHARS = 64 * 1024;

/** The longest wait for the last lines at the end of a program. */
const FLUSH_MS = 500;

/** Writes lines to an output that may block. */
export class LineWriter {
  readonly #write: (bytes: Uint8Array) => Promise<number>;
  #waiting = "";
  #leftOut = 0;
  #noteOf = (count: number): string => `packline: dropped ${count} lines: stderr was blocked`;
  #writing: Promise<void> | undefined;

  /** @param write Writes some of the bytes and returns how many. */
  constructor(write: (bytes: Uint8Array) => Promise<number>) {
    this.#write = write;
  }

  /**
   * Writes a line, or drops and counts it. Never throws.
   *
   * @param line The line, without its end.
   * @param noteOf Makes the line that says how many lines were dropped, if it should look like this one.
   */
  write(line: string, noteOf: (count: number) => string = this.#noteOf): void {
    this.#noteOf = noteOf;
    if (this.#waiting.length + line.length > MAX_WAITING_CHARS) {
      this.#leftOut++;
      return;
    }
    this.#waiting += `${line}\n`;
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when all lines are written or the time is up. Never rejects. */
  async flush(): Promise<void> {
    if (this.#writing === undefined) return;
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, FLUSH_MS);
    await Promise.race([this.#writing, late]);
    clearTimeout(timer);
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting !== "") {
      const note = this.#leftOut === 0 ? "" : `${this.#noteOf(this.#leftOut)}\n`;
      const text = this.#waiting + note;
      this.#waiting = "";
      this.#leftOut = 0;
      try {
        let bytes = new TextEncoder().encode(text);
        while (bytes.length > 0) bytes = bytes.subarray(await this.#write(bytes));
      } catch {
        // The output is closed. There is nowhere else to report this.
      }
    }
    this.#writing = undefined;
  }
}

/** The stderr of this process. */
export const standardError: LineWriter = new LineWriter(writeToStderr);
