/**
 * `--repeat`: one call again and again, and how long each took, as ping does it.
 *
 * In: what a call needs; how often and how far apart. Out: each reply with its time, a summary at the end, and the exit
 * code: 0 if every call got `res`, 1 if some got `err`, 3 if some were lost. A call that gets no reply is lost, and the
 * next one dials again. Ctrl-C ends it; the call that is then under way does not count.
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { sleep, systemClock } from "../transport/clock.ts";
import { deadlineIn, type Exchange, exchange } from "./exchange.ts";
import { untilInterrupted } from "./interrupt.ts";
import { toJson } from "./json.ts";
import { complain, print } from "./output.ts";

/** What is repeated, and how. */
export interface Repetition extends Omit<Exchange, "show"> {
  /** How a reply looks, as a line of its own or as part of one. */
  readonly present: (fields: Fields) => string;
  /** How often; 0 is until Ctrl-C. */
  readonly count: number;
  /** From the start of one call to the start of the next, in milliseconds. */
  readonly intervalMs: number;
}

/** Repeats the call; resolves to the exit code. */
export async function repeat(repetition: Repetition): Promise<number> {
  const stop = new AbortController();
  const times = new CallTimes();
  await untilInterrupted(() => callAll(repetition, times, stop.signal), () => {
    stop.abort();
    repetition.session.close();
  });
  await print(repetition.json ? toJson(times.toJSON()) : `\n${times}`);
  return times.lost > 0 ? 3 : times.failed > 0 ? 1 : 0;
}

async function callAll(repetition: Repetition, times: CallTimes, stop: AbortSignal): Promise<void> {
  const { count, intervalMs, present, session, json, timeout } = repetition;
  for (let call = 1; count === 0 || call <= count; call++) {
    const roundMs = performance.now();
    try {
      await session.connect(AbortSignal.any([stop, deadlineIn(timeout)]));
      const startMs = performance.now();
      let endMs = NaN;
      const show = (fields: Fields, more: boolean) => {
        endMs = performance.now();
        const ms = (endMs - startMs).toFixed(3);
        if (json) return toJson({ call, ms: Number(ms), reply: more ? { ...fields, more } : fields });
        const text = present(more ? { ...fields, more } : fields);
        return more ? text : `${text}${text.includes("\n") ? "\n" : "  "}${ms} ms`;
      };
      const ending = await exchange({ ...repetition, show });
      times.answered(endMs - startMs, ending === "err");
      if (ending === "unread") return;
    } catch (error) {
      if (stop.aborted) return;
      if (!(error instanceof RpcError)) throw error;
      times.lost++;
      const { err, msg = err } = error.toJSON();
      if (json) await print(toJson({ call, lost: err, msg }));
      else await complain(`call ${call} is lost: ${msg}`);
    }
    if (call === count) return;
    const leftMs = roundMs + intervalMs - performance.now();
    if (leftMs > 0) await sleep(systemClock, leftMs, stop).catch(() => {});
    if (stop.aborted) return;
  }
}

/** How long calls took, kept as sums: there may be any number of them. */
export class CallTimes {
  /** Calls without a reply. */
  lost = 0;
  /** Calls that were answered with `err`. */
  failed = 0;
  #answered = 0;
  #minMs = Infinity;
  #maxMs = 0;
  #meanMs = 0;
  /** The sum of the squares of what each differs from the mean (Welford's way: no large numbers are subtracted). */
  #squares = 0;

  /** A call got its last reply. */
  answered(milliseconds: number, failed: boolean): void {
    this.#answered++;
    if (failed) this.failed++;
    this.#minMs = Math.min(this.#minMs, milliseconds);
    this.#maxMs = Math.max(this.#maxMs, milliseconds);
    const difference = milliseconds - this.#meanMs;
    this.#meanMs += difference / this.#answered;
    this.#squares += difference * (milliseconds - this.#meanMs);
  }

  /** For programs. */
  toJSON(): Record<string, number> {
    const { lost, failed } = this;
    const counts = { sent: this.#answered + lost, answered: this.#answered, failed, lost };
    if (this.#answered === 0) return counts;
    return {
      ...counts,
      minMs: rounded(this.#minMs),
      avgMs: rounded(this.#meanMs),
      maxMs: rounded(this.#maxMs),
      stddevMs: rounded(Math.sqrt(this.#squares / this.#answered)),
    };
  }

  /** For people. */
  toString(): string {
    const { sent, answered, failed, lost, minMs, avgMs, maxMs, stddevMs } = this.toJSON();
    const counts = `${sent} sent, ${answered} answered${failed > 0 ? ` (${failed} with err)` : ""}, ${lost} lost`;
    if (answered === 0) return counts;
    const times = [minMs, avgMs, maxMs, stddevMs].map((milliseconds) => milliseconds.toFixed(3)).join("/");
    return `${counts}\nmin/avg/max/stddev ${times} ms`;
  }
}

function rounded(milliseconds: number): number {
  return Number(milliseconds.toFixed(3));
}
