/**
 * Tests a service: makes a client of a server in the same process, without a socket.
 *
 * In: a server. Out: a client that is connected to it. Refused: what `connect()` refuses.
 *
 * @module
 */

import type { AnyCommands, Served } from "./client/call_types.ts";
import type { Client } from "./client/client.ts";
import { type ConnectOptions, openClient } from "./client/connect_options.ts";
import type { Server } from "./handlers/server.ts";
import { memoryPair } from "./transport/memory.ts";

export { memoryPair };

/**
 * Connects to a server in the same process. The calls run the same code as over a socket, and need no permission.
 *
 * @param server The server. It does not have to listen.
 * @param options Options of `connect()`, except those for the server's address.
 * @returns The client, connected.
 *
 * @example A service and its test
 * ```ts
 * import { command, createServer } from "./mod.ts";
 * import { connectInMemory } from "./testing.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const commands = { GREET: command(({ name }: { name: string }) => `Hello, ${name}!`) };
 *
 * Deno.test("GREET greets by name", async () => {
 *   await using server = createServer({ commands });
 *   await using client = await connectInMemory<typeof commands>(server);
 *   assertEquals(await client.call.GREET({ name: "Ada" }), "Hello, Ada!");
 * });
 * ```
 */
export function connectInMemory<C extends Served<C> = AnyCommands>(
  server: Server,
  options: Omit<
    ConnectOptions<C>,
    "hostname" | "port" | "path" | "url" | "servers" | "tls" | "dial"
  > = {},
): Promise<Client<C>> {
  const dial = () => {
    const [here, there] = memoryPair();
    void server.accept(there);
    return Promise.resolve(here);
  };
  return openClient<C>({ ...options, dial } as ConnectOptions<C>, { open: dial });
}
