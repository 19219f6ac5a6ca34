/** PING (PROTOCOL.md, "Commands"): answers at once, with nothing done. */

import { builtIn } from "./built_in.ts";
import type { Command } from "../command.ts";

/** In: nothing. Out: `"PONG"`. Refused: nothing. */
export const PING: Command<object, "PONG"> = builtIn("PING", {
  immediate: true,
  summary: "Answers PONG",
  handler: (_params: object): "PONG" => "PONG",
});
