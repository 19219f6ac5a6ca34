/** DELAY (PROTOCOL.md, "Commands"): sleeps, and returns how long. Stops at once if the call is aborted. */

import { RpcError } from "../../errors.ts";
import { MAX_TIMER_MS } from "../../limits.ts";
import { sleep } from "../../transport/clock.ts";
import { builtIn, paramsShape } from "./built_in.ts";
import { type Command, type Context, reply, type ReplyWith } from "../command.ts";

/** The longest sleep: the maximum of a timer, about 24 days. */
const MAX_SLEEP_SECONDS = MAX_TIMER_MS / 1000;

// Made once: one read can contain thousands of requests to refuse.
const INVALID_SLEEP = new RpcError("INVALID_SLEEP");

type Slept = ReplyWith<"DONE", { slept: number }>;

/**
 * In: `sleep`, seconds. Out: `{ res: "DONE", slept }`, the measured seconds. Refused: a `sleep` that is not a number
 * from 0 to the maximum of a timer, by `INVALID_SLEEP`.
 */
export const DELAY: Command<{ sleep: number }, Slept, unknown, never> = builtIn("DELAY", {
  summary: "Waits, and returns the measured time",
  shapes: {
    params: paramsShape({ sleep: { type: "number", minimum: 0, maximum: MAX_SLEEP_SECONDS } }, ["sleep"]),
    result: { const: "DONE" },
    errors: { INVALID_SLEEP: null },
  },
  // Not async: an error that is thrown at once costs a fifth of a rejected promise.
  handler({ sleep: seconds }: { sleep: number }, context): Promise<Slept> {
    if (typeof seconds !== "number" || !(seconds >= 0 && seconds <= MAX_SLEEP_SECONDS)) throw INVALID_SLEEP;
    return delay(seconds, context);
  },
});

async function delay(seconds: number, { clock, signal }: Context): Promise<Slept> {
  const startMs = clock.now();
  await sleep(clock, seconds * 1000, signal);
  return reply("DONE", { slept: (clock.now() - startMs) / 1000 });
}
