/** INFO (PROTOCOL.md, "Commands"): what this server is, what it allows and which commands it has. */

import { builtIn } from "./built_in.ts";
import type { Command } from "../command.ts";
import type { ServerInfo } from "../server_info.ts";

/** In: nothing. Out: `ServerInfo`. Refused: nothing. */
export const INFO: Command<object, ServerInfo, unknown, never> = builtIn("INFO", {
  immediate: true,
  summary: "Tells name, version, limits and commands",
  handler: (_params: object, { server }): ServerInfo => server.info(),
});
