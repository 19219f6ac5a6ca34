/**
 * The client's entry point in Node and Bun: `connect()` over their sockets, and the types that carry a command's
 * parameters and reply to its caller.
 *
 * In: an address, or any other way to get a transport; the commands, as a value or as a type alone. Out: a
 * {@linkcode Client}. Refused: what `connect_options.ts` refuses; names and parameters that the commands do not have,
 * by the compiler.
 */

import { nodeNetwork, resolveDns } from "../transport/node_network.ts";
import { type DnsOptions, serversByName } from "../transport/address.ts";
import type { AnyCommands, Served } from "./call_types.ts";
import type { Client } from "./client.ts";
import { type ConnectOptions, openClient } from "./connect_options.ts";

export { RpcError } from "../errors.ts";
export type * from "./connect.ts";

/**
 * Connects to a server. Like `connect()` in Deno, over the sockets of Node.
 *
 * @param options The server's address, its commands, and options that differ from the defaults.
 * @returns The client, connected.
 * @throws {RpcError} `CONNECTION_LOST`, if the server cannot be reached; its text says why, and `cause` holds the
 * error. `CLOSED`, if `signal` aborts first.
 * @throws {RangeError} If a limit, the port or the timeout is out of range.
 * @throws {TypeError} If an option is unknown or invalid.
 *
 * @example A server and its client in Node
 * ```ts
 * import { command, connect, serve } from "../node.ts";
 *
 * const commands = { ADD: command(({ a, b }: { a: number; b: number }) => a + b) };
 * await using server = await serve({ port: 0, commands });
 * await using client = await connect<typeof commands>({ port: server.port });
 * const sum = await client.call.ADD({ a: 1, b: 2 });
 * if (sum !== 3) throw new Error(`expected 3, got ${sum}`);
 * ```
 */
export function connect<C extends Served<C> = AnyCommands>(options: ConnectOptions<C> = {}): Promise<Client<C>> {
  return openClient(options, nodeNetwork);
}

/**
 * Makes a function that finds servers by name in the DNS, for `connect({ servers })`. Like `dnsServers()` in Deno.
 *
 * @param options The host and its port, or the service.
 * @returns A function that resolves with the current servers, each as `host:port`.
 * @throws {TypeError} If the options name neither a host nor a service, or both.
 * @throws {RangeError} If the port is out of range.
 *
 * @example Every address of a name is a server
 * ```ts
 * import { connect, dnsServers } from "../node.ts";
 *
 * const servers = dnsServers({ hostname: "api.internal", port: 1235 });
 * await using client = await connect({ servers, lazy: true });
 * ```
 */
export function dnsServers(options: DnsOptions): () => Promise<string[]> {
  return serversByName(options, resolveDns);
}
