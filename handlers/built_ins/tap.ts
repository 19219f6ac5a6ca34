/** TAP (PROTOCOL.md, "Commands"): a stream of the calls that a server answers, if the server allows it. */

import { MAX_TIMER_MS } from "../../limits.ts";
import { sleep } from "../../transport/clock.ts";
import type { Command } from "../command.ts";
import { TAP_NAME, type TapFilter, type TapReport, type Taps } from "../tap.ts";
import { builtIn, INVALID_PARAMS_SHAPE, invalidParam, paramsShape } from "./built_in.ts";

/** The time between two reports. A report can take a busy server some milliseconds, because other work takes turns. */
const REPORT_MS = 200;

/** The type of TAP: its parameters and its items. */
type TapCommand = Command<
  { command?: string; slow?: number },
  AsyncGenerator<TapReport, never, void>,
  unknown,
  never
>;

/**
 * In: `command`, whose calls to report (default: all), and `slow`, the minimum duration of these calls in milliseconds
 * (default 0). Out: a stream of reports; the first comes at once and is empty. Refused: other values, by
 * `INVALID_PARAMS`; too many readers, by `OVERLOADED`. Ends with `GOING_AWAY` when the connection should end soon.
 *
 * @param taps The readers of the server.
 * @param find Finds a command by its name.
 */
export function tapOf(taps: Taps, find: (name: string) => TapFilter["command"]): TapCommand {
  return builtIn(TAP_NAME, {
    // TAP must work on a busy server too. Readers have their own limit.
    immediate: true,
    timeoutMs: Infinity,
    summary: "Streams a line for each call: who, what, how it ended, how long it took",
    shapes: {
      params: paramsShape({
        command: { type: "string" },
        slow: { type: "number", minimum: 0, maximum: MAX_TIMER_MS },
      }),
      errors: INVALID_PARAMS_SHAPE,
    },
    async *handler(
      { command: name, slow: slowMs = 0 }: { command?: string; slow?: number },
      { clock, signal, draining, server },
    ): AsyncGenerator<TapReport, never, void> {
      if (name !== undefined && typeof name !== "string") throw invalidParam("command", "must be text");
      const command = name === undefined ? undefined : find(name);
      if (name !== undefined && command === undefined) throw invalidParam("command", "the server has no such command");
      if (typeof slowMs !== "number" || !(slowMs >= 0 && slowMs <= MAX_TIMER_MS)) {
        throw invalidParam("slow", `must be a number of milliseconds from 0 to ${MAX_TIMER_MS}`);
      }
      const { worker } = server.info();
      const stop = AbortSignal.any([signal, draining]);
      const tap = taps.open({ command, slowMs });
      try {
        yield { ...taps.report(tap), ...worker !== undefined && { worker } };
        while (true) {
          // The reader has credit now: without it, the generator is not resumed.
          taps.gather(tap);
          do await sleep(clock, REPORT_MS, stop); while (tap.isEmpty);
          yield taps.report(tap);
        }
      } finally {
        taps.close(tap);
      }
    },
  });
}
