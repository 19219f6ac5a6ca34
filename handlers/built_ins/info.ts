/** INFO (PROTOCOL.md, "Commands"): what this server is, what it allows and which commands it has. */

import { builtIn, INVALID_PARAMS_SHAPE, invalidParam, paramsShape } from "./built_in.ts";
import type { Command } from "../command.ts";
import { INFO_SHAPE, type ServerInfo } from "../server_info.ts";

/**
 * In: `shapes`, whether to include the shapes of the commands (default: no). Out: `ServerInfo`. Refused: a `shapes`
 * that is not a boolean, by `INVALID_PARAMS`.
 */
export const INFO: Command<{ shapes?: boolean }, ServerInfo, unknown, never> = builtIn("INFO", {
  immediate: true,
  summary: "Returns name, version, limits and commands",
  shapes: { params: paramsShape({ shapes: { type: "boolean" } }), result: INFO_SHAPE, errors: INVALID_PARAMS_SHAPE },
  handler({ shapes = false }: { shapes?: boolean }, { server }): ServerInfo {
    if (typeof shapes !== "boolean") throw invalidParam("shapes", "must be true or false");
    return server.info(shapes);
  },
});
