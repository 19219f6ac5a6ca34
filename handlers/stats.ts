/** STATS (contract section 3): what has happened since the server started. */

import { builtIn } from "./built_in.ts";
import type { Command, ServerStatistics } from "./command.ts";

/** In: nothing. Out: `{ res: ServerStatistics }`. Refused: nothing. */
export const STATS: Command<Record<string, unknown>, { res: ServerStatistics }> = builtIn({
  number: 4,
  summary: "Tells counts of calls, errors, connections and bytes",
  handler: (_params: { [name: string]: unknown }, { server }): { res: ServerStatistics } => ({
    res: server.statistics(),
  }),
});
