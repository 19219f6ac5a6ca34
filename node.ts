/**
 * packline for Node and Bun: the exports of `mod.ts`, on their sockets. `run()` and the two programs exist only in
 * Deno.
 *
 * @example A server with a command of its own, and a typed client
 * ```ts
 * import { command, connect, serve } from "./node.ts";
 *
 * const GREET = command(({ name }: { name: string }) => `Hello, ${name}!`);
 * await using server = await serve({ port: 0, commands: { GREET } });
 *
 * await using client = await connect({ port: server.port, commands: { GREET } });
 * const greeting = await client.call.GREET({ name: "Ada" });
 * if (greeting !== "Hello, Ada!") throw new Error(greeting);
 * ```
 *
 * @module
 */

import { type ListeningServer, openListeningServer, openServer, type ServeOptions } from "./handlers/open_server.ts";
import type { Server } from "./handlers/server.ts";
import type { ServerOptions } from "./handlers/server_state.ts";
import { nodeServerNetwork } from "./transport/node_network.ts";

export type { ListeningServer, ServeOptions, Server };
export { connect, dnsServers } from "./client/node.ts";
export type { CallOptions, Client, ClientMiddleware, ConnectOptions, Outcome, StreamOptions } from "./client/node.ts";
export { type ErrorCode, RpcError } from "./errors.ts";
export { DEFAULT_LIMITS, type Limits } from "./limits.ts";
export { accessLog } from "./handlers/access_log.ts";
export { builtIns } from "./handlers/registry.ts";
export type { CallerConnection } from "./handlers/caller_connection.ts";
export { bytes, command, middleware, reply, tracked, unchecked } from "./handlers/command.ts";
export type { Command, Commands, Context, Middleware, Tracked } from "./handlers/command.ts";
export type { StandardSchema } from "./handlers/standard_schema.ts";
export { tokens } from "./handlers/tokens.ts";
export type { PeerCertificate } from "./transport/certificate.ts";
export type { Clock } from "./transport/clock.ts";
export { memoryPair } from "./transport/memory.ts";
export type { ClientTls, ServerTls, TlsSource } from "./transport/tls.ts";
export { fromStreams, type Transport } from "./transport/transport.ts";

/**
 * Listens, and serves every connection. Works like `serve()` in Deno, on the sockets of Node.
 *
 * @param options The address, the commands, and limits that differ from the defaults.
 * @returns The server, listening.
 * @throws {RangeError} If a limit or the port is out of range, or a command's number is taken twice.
 * @throws {TypeError} If an option is unknown or invalid, or a value in `commands` is no command.
 * @throws {TypeError} If the certificate or its key is invalid.
 * @throws {Error} With the code `EADDRINUSE`, if another program listens on this address.
 *
 * @example A server with a clean shutdown
 * ```ts
 * import { command, serve } from "./node.ts";
 * import process from "node:process";
 *
 * const GREET = command(({ name }: { name: string }) => `Hello, ${name}!`);
 * const server = await serve({ port: 0, commands: { GREET } });
 * const end = () => server.shutdown();
 * process.once("SIGTERM", end);
 * await end();
 * process.off("SIGTERM", end);
 * ```
 */
export function serve(options: ServeOptions = {}): Promise<ListeningServer> {
  return openListeningServer(options, nodeServerNetwork);
}

/**
 * Makes a server that does not listen yet. Pass connections to `accept()`, or call `listen()` once or several times.
 * Works like `createServer()` in Deno, on the sockets of Node.
 *
 * @param options The commands, and limits that differ from the defaults.
 * @returns The server.
 * @throws {RangeError} If a limit is out of range, or a command's number is taken twice.
 * @throws {TypeError} If an option is unknown or invalid, or a value in `commands` is no command.
 *
 * @example One server on two ports
 * ```ts
 * import { createServer } from "./node.ts";
 *
 * const server = createServer({ maxInFlight: 64 });
 * const { address } = await server.listen({ port: 0 });
 * const other = await server.listen({ port: 0 });
 * console.log(`listening on ${address} and ${other.address}`);
 * await server.shutdown();
 * ```
 */
export function createServer(options: ServerOptions = {}): Server {
  return openServer(options, nodeServerNetwork);
}
