/**
 * The client's entry point in Deno: `connect()`, and the types that carry a command's parameters and reply to its
 * caller.
 *
 * In: an address, or any other way to get a transport; the commands, as a value or as a type alone. Out: a
 * {@linkcode Client}. Refused: what `connect_options.ts` refuses; names and parameters that the commands do not have,
 * by the compiler.
 */

import { denoNetwork } from "../transport/deno_network.ts";
import type { AnyCommands, Served } from "./call_types.ts";
import type { Client } from "./client.ts";
import { type ConnectOptions, openClient } from "./connect_options.ts";

export { RpcError } from "../errors.ts";
export type { Client, ConnectOptions };
export type { AnyCommands };
export type { Outcome } from "./call_types.ts";
export type { CallOptions, StreamOptions } from "./call_options.ts";
export type { LinkState } from "./link.ts";
export type { ClientMiddleware, Meta, OutgoingCall } from "./call_sender.ts";
export type { RetryBudgetOptions } from "./retries.ts";
export type { ClientState } from "./rpc_client.ts";
export type { ServerStatus } from "./servers.ts";
export type { ClientStatistics, SentCalls } from "./calls.ts";
export type { BuiltIns } from "../handlers/registry.ts";
export { type DnsOptions, dnsServers } from "../transport/address.ts";

/**
 * Connects to a server.
 *
 * @param options The server's address, its commands, and options that differ from the defaults.
 * @returns The client, connected.
 * @throws {RpcError} `CONNECTION_LOST`, if the server cannot be reached; its text says why, and `cause` holds the
 * error. `CLOSED`, if `signal` aborts first.
 * @throws {Deno.errors.NotCapable} If the program has no permission for the network.
 * @throws {RangeError} If a limit, the port or the timeout is out of range.
 * @throws {TypeError} If an option is unknown or invalid.
 *
 * @example A typed client without the server's code: names are completed, and replies are typed
 * ```ts
 * import { command, connect, serve } from "../mod.ts";
 *
 * const commands = { ADD: command(({ a, b }: { a: number; b: number }) => a + b) };
 * await using server = await serve({ port: 0, commands });
 *
 * await using client = await connect<typeof commands>({ port: server.port });
 * const sum = await client.call.ADD({ a: 1, b: 2 });
 * if (sum.toFixed(1) !== "3.0") throw new Error(`expected 3, got ${sum}`);
 * ```
 */
export function connect<C extends Served<C> = AnyCommands>(options: ConnectOptions<C> = {}): Promise<Client<C>> {
  return openClient(options, denoNetwork);
}
