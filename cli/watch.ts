/**
 * `--watch`: repeats a call, and shows each reply in place of the previous one.
 *
 * In: a call and an interval. Out: the replies, on a terminal in place, and the exit code: 0, 1 if a reply had `err`,
 * or 3 if a call got no reply. Such a call is reported, and the next one reconnects. Ctrl-C stops. Refused: nothing.
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { sleep, systemClock } from "../transport/clock.ts";
import { type Exchange, exchange } from "./exchange.ts";
import { untilInterrupted } from "./interrupt.ts";
import { complain } from "./output.ts";
import { textWidth } from "./text_width.ts";

/** The parameters of a watch. */
interface Watch extends Omit<Exchange, "show" | "signal"> {
  /** Formats a reply. */
  readonly present: (fields: Fields) => string;
  /** From the start of one call to the start of the next, in milliseconds. */
  readonly intervalMs: number;
}

/** Repeats the call until Ctrl-C; resolves to the exit code. */
export async function watch({ present, intervalMs, ...call }: Watch): Promise<number> {
  const stop = new AbortController();
  let code = 0;
  await untilInterrupted(async () => {
    let place = new Place();
    while (!stop.signal.aborted) {
      const startMs = performance.now();
      try {
        const show = (fields: Fields) => call.json ? present(fields) : place.replace(present(fields));
        const { failed, isRead } = await exchange({ ...call, show, signal: stop.signal });
        if (failed) code = Math.max(code, 1);
        if (!isRead) return;
      } catch (error) {
        if (stop.signal.aborted) return;
        if (!(error instanceof RpcError)) throw error;
        code = 3;
        await complain(error.toJSON().msg ?? error.code);
        // The error stays, and the next reply comes below it.
        place = new Place();
      }
      const leftMs = startMs + intervalMs - performance.now();
      if (leftMs > 0) await sleep(systemClock, leftMs, stop.signal).catch(() => {});
    }
  }, () => stop.abort());
  return code;
}

/** The lines of a terminal above the cursor that a text fills, and that the next text replaces. */
class Place {
  #rows = 0;

  /** The text, cut to the terminal, after the codes that remove the previous text. */
  replace(text: string): string {
    if (!Deno.stdout.isTerminal()) return `${text}\n`;
    const { columns, rows } = Deno.consoleSize();
    // A terminal of unknown size has 0 rows and columns: then each reply comes below the previous one.
    if (columns === 0 || rows === 0) return `${text}\n`;
    // The cursor stands below the text, so one row fewer fits.
    const lines = text.split("\n").slice(0, rows - 1);
    const back = this.#rows === 0 ? "" : `\x1b[${this.#rows}A\x1b[J`;
    this.#rows = lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(textWidth(line) / columns)), 0);
    return back + lines.join("\n");
  }
}
