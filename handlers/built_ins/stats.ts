/** STATS (PROTOCOL.md, "Commands"): what has happened since the server started. */

import { builtIn, INVALID_PARAMS_SHAPE, invalidParam, paramsShape } from "./built_in.ts";
import type { Command } from "../command.ts";
import { type ServerStatistics, STATISTICS_SHAPE } from "../server_info.ts";

/**
 * In: `all`, whether to sum the counts of all workers (default: only the worker that answers). Out: `ServerStatistics`.
 * Refused: an `all` that is not a boolean, by `INVALID_PARAMS`.
 */
export const STATS: Command<{ all?: boolean }, ServerStatistics, unknown, never> = builtIn("STATS", {
  immediate: true,
  summary: "Counts calls, errors, connections and bytes",
  shapes: { params: paramsShape({ all: { type: "boolean" } }), result: STATISTICS_SHAPE, errors: INVALID_PARAMS_SHAPE },
  handler({ all = false }: { all?: boolean }, { server }) {
    if (typeof all !== "boolean") throw invalidParam("all", "must be true or false");
    return all ? server.statisticsOfAll() : server.statistics();
  },
});
