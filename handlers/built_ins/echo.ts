/** ECHO (PROTOCOL.md, "Commands"): gives back what it was given. It has no number: it is called by its name. */

import { builtIn } from "./built_in.ts";
import type { Command } from "../command.ts";

/** In: `data`, anything (default: nil). Out: the same. Refused: nothing. */
export const ECHO: Command<{ data?: unknown }, unknown> = builtIn("ECHO", {
  summary: "Answers with the data that it was given",
  params: ["data"],
  handler: ({ data = null }: { data?: unknown }): unknown => data,
});
