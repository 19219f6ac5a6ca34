/** PING (PROTOCOL.md, "Commands"): answers at once, and tells whether the service is ready. */

import { RpcError } from "../../errors.ts";
import { type Clock, within } from "../../transport/clock.ts";
import { builtIn, paramsShape } from "./built_in.ts";
import type { Command, Context } from "../command.ts";

/** In: nothing. Out: `"PONG"`. Refused: nothing. */
export const PING: Command<object, "PONG", unknown, never> = builtIn("PING", {
  immediate: true,
  summary: "Answers PONG",
  shapes: { params: paramsShape({}), result: { const: "PONG" }, errors: { NOT_READY: null } },
  handler: (_params: object): "PONG" => "PONG",
});

/** Returns whether the service is ready for calls. */
export type Readiness = () => boolean | Promise<boolean>;

/**
 * How long the service may take to say whether it is ready. Clients also use PING to find out whether the server is
 * alive, and wait for 2 s or longer: a check or a middleware that waits for a dead database must not look like a dead
 * server.
 */
const READY_MS = 1_000;

/** How long a PING may take with middleware: more than the service, so that its `NOT_READY` comes first. */
const MIDDLEWARE_MS = 1_500;

/** In: nothing. Out: `"PONG"` while the service is ready. Refused: a PING at any other time, by `NOT_READY`. */
export function pingIfReady(ready: Readiness): typeof PING {
  const answer = (isReady: boolean) => {
    if (!isReady) throw notReady("the service is not ready");
    return "PONG" as const;
  };
  // What the service has not answered yet. All PINGs wait for the same answer: anyone may send very many, and the
  // service may ask its database each time.
  let asked: Promise<boolean> | undefined;
  const ask = (clock: Clock): boolean | Promise<boolean> => {
    const isReady = ready();
    if (typeof isReady === "boolean") return isReady;
    return asked = inTime(isReady, clock).finally(() => asked = undefined);
  };
  return Object.freeze({
    ...PING,
    handler(_params: object, { clock }: Context): "PONG" | Promise<"PONG"> {
      const isReady = asked ?? ask(clock);
      return typeof isReady === "boolean" ? answer(isReady) : isReady.then(answer);
    },
  });
}

function inTime(isReady: Promise<boolean>, clock: Clock): Promise<boolean> {
  const late = () => notReady(`the service has not said within ${READY_MS} ms whether it is ready`);
  return within(clock, READY_MS, isReady, late);
}

/** In: a PING. Out: the same behind middleware, which may not hold it for longer. */
export function pingBehindMiddleware(ping: typeof PING): typeof PING {
  return Object.freeze({ ...ping, timeoutMs: MIDDLEWARE_MS });
}

function notReady(text: string): RpcError {
  return new RpcError("NOT_READY", text);
}
