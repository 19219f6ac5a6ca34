/** INFO (PROTOCOL.md, "Commands"): what this server is, what it allows and which commands it has. */

import { builtIn } from "./built_in.ts";
import type { Command, ServerInfo } from "../command.ts";

/** In: nothing. Out: `{ res: ServerInfo }`. Refused: nothing. */
export const INFO: Command<Record<string, unknown>, { res: ServerInfo }> = builtIn("INFO", {
  immediate: true,
  summary: "Tells name, version, limits and commands",
  handler: (_params: { [name: string]: unknown }, { server }): { res: ServerInfo } => ({ res: server.info() }),
});
