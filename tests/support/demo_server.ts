/** Servers that have the demo's commands, DELAY, ECHO, TALLY and TICK, beside those of a test. */

import { demoCommands } from "../../cli/demo_commands.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import { createServer as createPlain, type ListeningServer, serve as servePlain, type Server } from "../../server.ts";
import type { ServeOptions } from "../../server.ts";

/** `serve()` with the demo's commands. */
export function serve(options: ServeOptions = {}): Promise<ListeningServer> {
  return servePlain({ ...options, commands: { ...demoCommands, ...options.commands } });
}

/** `createServer()` with the demo's commands. */
export function createServer(options: ServerOptions = {}): Server {
  return createPlain({ ...options, commands: { ...demoCommands, ...options.commands } });
}
