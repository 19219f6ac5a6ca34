/** ECHO (PROTOCOL.md, "Commands"): returns its data or its stream. It has no number: it is called by its name. */

import { builtIn, paramsShape } from "./built_in.ts";
import type { Command } from "../command.ts";

/** In: `data` (default: nil), or a stream. Out: the same; for a stream, each item and then nil. Refused: nothing. */
export const ECHO: Command<{ data?: unknown }, unknown, unknown, unknown> = builtIn("ECHO", {
  summary: "Returns its data, or the items of its stream",
  shapes: { params: paramsShape({ data: {} }), errors: {} },
  handler: ({ data = null }: { data?: unknown }, { items }): unknown => items ?? data,
});
