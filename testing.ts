/**
 * Tests a service: makes a client of a server in the same process, without a socket.
 *
 * In: a server. Out: a client that is connected to it. Refused: what `connect()` refuses, and an address.
 *
 * @module
 */

import type { AnyCommands, Served } from "./client/call_types.ts";
import type { Client } from "./client/client.ts";
import { checkOptions, CONNECT_OPTIONS, type ConnectOptions, openClient } from "./client/connect_options.ts";
import type { Server } from "./handlers/server.ts";
import { memoryPair } from "./transport/memory.ts";

export { memoryPair };

/** The options of `connect()` that say where a server is. */
const ADDRESS: readonly string[] = ["hostname", "port", "path", "url", "servers", "tls", "dial"];

/** What each other option must be. */
const MEMORY_OPTIONS = Object.fromEntries(Object.entries(CONNECT_OPTIONS).filter(([name]) => !ADDRESS.includes(name)));

/**
 * Connects to a server in the same process. The calls run the same code as over a socket, and need no permission.
 *
 * @param server The server. It does not have to listen.
 * @param options Options of `connect()`, except those for the server's address.
 * @returns The client, connected.
 * @throws {TypeError} If it is no server, or an option is unknown, invalid, or one for the server's address.
 * @throws {RangeError} If a limit or the timeout is out of range.
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
export async function connectInMemory<C extends Served<C> = AnyCommands>(
  server: Server,
  options: Omit<
    ConnectOptions<C>,
    "hostname" | "port" | "path" | "url" | "servers" | "tls" | "dial"
  > = {},
): Promise<Client<C>> {
  if (typeof server?.accept !== "function") {
    throw new TypeError("Cannot connect: the server must be what createServer() or serve() gives");
  }
  checkOptions(options, MEMORY_OPTIONS);
  const dial = () => {
    const [here, there] = memoryPair();
    void server.accept(there);
    return Promise.resolve(here);
  };
  return await openClient<C>({ ...options, dial } as ConnectOptions<C>, { open: dial });
}
