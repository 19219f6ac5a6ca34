/** PING (PROTOCOL.md, "Commands"): answers at once, and tells whether the service is ready. */

import { RpcError } from "../../errors.ts";
import { builtIn, paramsShape } from "./built_in.ts";
import type { Command } from "../command.ts";

/** In: nothing. Out: `"PONG"`. Refused: nothing. */
export const PING: Command<object, "PONG", unknown, never> = builtIn("PING", {
  immediate: true,
  summary: "Answers PONG",
  shapes: { params: paramsShape({}), result: { const: "PONG" }, errors: { NOT_READY: null } },
  handler: (_params: object): "PONG" => "PONG",
});

/** Returns whether the service is ready for calls. */
export type Readiness = () => boolean | Promise<boolean>;

/** In: nothing. Out: `"PONG"` while the service is ready. Refused: a PING at any other time, by `NOT_READY`. */
export function pingIfReady(ready: Readiness): typeof PING {
  const answer = (isReady: boolean) => {
    if (!isReady) throw new RpcError("NOT_READY", "the service is not ready");
    return "PONG" as const;
  };
  return Object.freeze({
    ...PING,
    handler(): "PONG" | Promise<"PONG"> {
      const isReady = ready();
      return typeof isReady === "boolean" ? answer(isReady) : isReady.then(answer);
    },
  });
}
