/**
 * `--repeat`: repeats one call and reports round-trip times, like ping.
 *
 * In: a call, a count and an interval. Out: each reply with its time, a summary, and the exit code: 0 if every call got
 * `res`, 1 if some got `err`, 3 if some were lost. A call without a reply is lost, and the next one reconnects. Ctrl-C
 * stops; the running call does not count. Refused: nothing.
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { sleep, systemClock } from "../transport/clock.ts";
import { deadlineIn, type Exchange, exchange } from "./exchange.ts";
import { untilInterrupted } from "./interrupt.ts";
import { toJson } from "./json.ts";
import { complain, print } from "./output.ts";

/** The parameters of a repetition. */
interface Repetition extends Omit<Exchange, "show"> {
  /** Formats a reply, as a line or a part of one. */
  readonly present: (fields: Fields) => string;
  /** The number of calls; 0 means until Ctrl-C. */
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
        if (json) return toJson({ call, ms: Number(ms), reply: fields });
        const text = present(fields);
        return more ? text : `${text}${text.includes("\n") ? "\n" : "  "}${ms} ms`;
      };
      const { failed, isRead } = await exchange({ ...repetition, show });
      times.answered(endMs - startMs, failed);
      if (!isRead) return;
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

/** The times of calls, kept as sums because their number is unlimited. */
export class CallTimes {
  /** The number of calls without a reply. */
  lost = 0;
  /** The number of calls answered with `err`. */
  failed = 0;
  #answered = 0;
  #minMs = Infinity;
  #maxMs = 0;
  #meanMs = 0;
  /** The sum of squared differences from the mean (Welford's method avoids subtracting large numbers). */
  #squares = 0;

  /** Records a call that got its last reply. */
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
