/** PING (PROTOCOL.md, "Commands"): answers at once, with nothing done. */

import { builtIn } from "./built_in.ts";
import type { Command } from "../command.ts";

/** In: nothing. Out: `{ res: "PONG" }`. Refused: nothing. */
export const PING: Command<Record<string, unknown>, { res: "PONG" }> = builtIn("PING", {
  immediate: true,
  summary: "Answers PONG",
  handler: (_params: { [name: string]: unknown }): { res: "PONG" } => ({ res: "PONG" }),
});
