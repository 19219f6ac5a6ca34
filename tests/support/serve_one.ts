/** A server for a single connection. */

import { createServer } from "./demo_server.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import type { Transport } from "../../transport/transport.ts";

/** Serves the connection; resolves when it has ended, and the server with it. */
export async function serveOne(transport: Transport, options: ServerOptions = {}): Promise<void> {
  const server = createServer(options);
  await server.accept(transport);
  await server.shutdown();
}
