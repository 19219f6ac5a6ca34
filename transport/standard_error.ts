/**
 * Lines on stderr that nobody waits for. `console.error` waits until a full pipe is read, and all connections of a server
 * with it.
 *
 * In: lines. Out: the same, in their order, one write at a time and beside the event loop. While stderr takes nothing, some
 * lines are kept; the rest are counted, and the count is written once stderr takes lines again.
 */

/** What is kept while stderr takes nothing. */
const MAX_WAITING_CHARS = 64 * 1024;

/** How long the end of a program may wait for its last lines. */
const FLUSH_MS = 500;

/** Writes lines to an output that may stand still. */
export class LineWriter {
  readonly #write: (bytes: Uint8Array) => Promise<number>;
  #waiting = "";
  #leftOut = 0;
  #writing: Promise<void> | undefined;

  /** @param write Writes some of the bytes, and answers how many. */
  constructor(write: (bytes: Uint8Array) => Promise<number>) {
    this.#write = write;
  }

  /** Writes a line, or counts it. Never throws. */
  write(line: string): void {
    if (this.#waiting.length + line.length > MAX_WAITING_CHARS) {
      this.#leftOut++;
      return;
    }
    this.#waiting += `${line}\n`;
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when all lines have been written, or when that takes too long. Never rejects. */
  async flush(): Promise<void> {
    if (this.#writing === undefined) return;
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, FLUSH_MS);
    await Promise.race([this.#writing, late]);
    clearTimeout(timer);
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting !== "") {
      const note = this.#leftOut === 0
        ? ""
        : `packline: ${this.#leftOut} lines are left out: stderr did not take them\n`;
      const text = this.#waiting + note;
      this.#waiting = "";
      this.#leftOut = 0;
      try {
        let bytes = new TextEncoder().encode(text);
        while (bytes.length > 0) bytes = bytes.subarray(await this.#write(bytes));
      } catch {
        // Nobody can read it any more, and there is nobody else to tell.
      }
    }
    this.#writing = undefined;
  }
}

/** The stderr of this process. */
export const standardError: LineWriter = new LineWriter((bytes) => Deno.stderr.write(bytes));
