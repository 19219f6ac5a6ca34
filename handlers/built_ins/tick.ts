/** TICK: a stream to try streams with. It has no number: numbers below 16 belong to the protocol. */

import { MAX_TIMER_MS } from "../../limits.ts";
import { sleep } from "../../transport/clock.ts";
import { builtIn, INVALID_PARAMS_SHAPE, invalidParam, paramsShape } from "./built_in.ts";
import type { Command } from "../command.ts";

/**
 * In: `count`, how many ticks (default: no limit), and `interval`, the seconds between them (default 1). Out: a stream
 * of 1, 2, 3 ..., and at its end the number of ticks. Refused: other values, by `INVALID_PARAMS`. Ends with
 * `GOING_AWAY` when the connection should end soon.
 */
export const TICK: Command<
  { count?: number; interval?: number },
  AsyncGenerator<number, number, void>,
  unknown,
  never
> = builtIn(
  "TICK",
  {
    summary: "Streams 1, 2, 3 ... at an interval of seconds",
    shapes: {
      params: paramsShape({
        count: { type: "number", minimum: 0 },
        interval: { type: "number", minimum: 0, maximum: MAX_TIMER_MS / 1000 },
      }),
      result: { type: "integer", minimum: 1 },
      errors: INVALID_PARAMS_SHAPE,
    },
    async *handler(
      { count = Infinity, interval = 1 }: { count?: number; interval?: number },
      { clock, signal, draining },
    ): AsyncGenerator<number, number, void> {
      if (typeof count !== "number" || !(count >= 0)) throw invalidParam("count", "must be a number >= 0");
      if (typeof interval !== "number" || !(interval >= 0 && interval * 1000 <= MAX_TIMER_MS)) {
        throw invalidParam("interval", `must be a number of seconds from 0 to ${MAX_TIMER_MS / 1000}`);
      }
      const stop = AbortSignal.any([signal, draining]);
      let ticks = 0;
      while (ticks < count) {
        yield ++ticks;
        if (ticks < count) await sleep(clock, interval * 1000, stop);
      }
      return ticks;
    },
  },
);
