/**
 * Writes lines to stdout or stderr without blocking. `console.log` and `console.error` block while a pipe is full, and
 * with them all connections of a server.
 *
 * In: lines. Out: the same lines in order, written asynchronously, each in one piece if it has at most 4 KiB. While the
 * output is blocked, some lines are kept; the rest are dropped and counted, and so are lines that cannot be written, as on
 * a full disk. The count is written later. Refused: nothing.
 */

import { isNamed, writeToStderr } from "./runtime.ts";

/** The most text kept while the output is blocked: a log of all calls can be 10 MB per second. */
const MAX_WAITING_CHARS = 1024 * 1024;

/** The longest wait for the last lines at the end of a program. */
const FLUSH_MS = 500;

/**
 * If several processes write to one pipe, as workers do, Linux keeps each write of up to this size together. A part of a
 * longer one may come in the middle of another's line.
 */
const WHOLE_BYTES = 4_096;

const NEWLINE = 0x0a;

/** How long to wait for room in a full output that another program has made non-blocking. */
const FULL_MS = 10;

/**
 * Writes all of a text.
 *
 * @param text The text.
 * @param write Writes some of the bytes and returns how many.
 * @throws The error of `write`, unless it means that the output is full for now.
 */
export async function writeText(text: string, write: (bytes: Uint8Array) => Promise<number>): Promise<void> {
  await writeBytes(new TextEncoder().encode(text), write);
}

/** Writes bytes that end with a newline, in parts that another process does not interrupt. */
async function writeLines(lines: Uint8Array, write: (bytes: Uint8Array) => Promise<number>): Promise<void> {
  for (let bytes = lines; bytes.length > 0;) {
    const end = (bytes.lastIndexOf(NEWLINE, WHOLE_BYTES - 1) + 1) || bytes.indexOf(NEWLINE) + 1;
    await writeBytes(bytes.subarray(0, end), write);
    bytes = bytes.subarray(end);
  }
}

async function writeBytes(bytes: Uint8Array, write: (bytes: Uint8Array) => Promise<number>): Promise<void> {
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(await write(bytes));
    } catch (error) {
      if (!isNamed(error, "WouldBlock")) throw error;
      await new Promise((resolve) => setTimeout(resolve, FULL_MS));
    }
  }
}

/** Writes lines to an output that may block. */
export class LineWriter {
  readonly #write: (bytes: Uint8Array) => Promise<number>;
  #waiting = "";
  #leftOut = 0;
  /** Whether the output ends inside a line, because the disk was full there. */
  #isCut = false;
  #noteOf: (count: number) => string;
  #writing: Promise<void> | undefined;

  /**
   * @param name The name of the output.
   * @param write Writes some of the bytes and returns how many.
   */
  constructor(name: string, write: (bytes: Uint8Array) => Promise<number>) {
    this.#write = write;
    this.#noteOf = (count) => `packline: dropped ${count} lines: ${name} was blocked or full`;
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
      const text = this.#waiting;
      const leftOut = this.#leftOut;
      this.#waiting = "";
      const lost = await this.#tryToWrite(text);
      this.#leftOut += lost;
      if (lost > 0 || leftOut === 0) continue;
      if (await this.#tryToWrite(`${this.#noteOf(leftOut)}\n`) === 0) this.#leftOut -= leftOut;
    }
    this.#writing = undefined;
  }

  /** Writes lines, after the end of one that was cut. Returns how many could not be written. */
  async #tryToWrite(text: string): Promise<number> {
    const bytes = new TextEncoder().encode(this.#isCut ? `\n${text}` : text);
    let written = 0;
    try {
      await writeLines(bytes, async (part) => {
        const size = await this.#write(part);
        written += size;
        return size;
      });
    } catch {
      // The output is closed or full. There is nowhere else to report this.
    }
    const unwritten = bytes.subarray(Math.max(written, this.#isCut ? 1 : 0));
    if (written > 0) this.#isCut = bytes[written - 1] !== NEWLINE;
    return unwritten.filter((byte) => byte === NEWLINE).length;
  }
}

/** The stderr of this process. */
export const standardError: LineWriter = new LineWriter("stderr", writeToStderr);
