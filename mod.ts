/**
 * packline is a typed RPC library for Deno: write functions on a server, and call them from another process. Every call
 * ends with its result or an error code.
 *
 * @example A server with a command of its own, and a typed client
 * ```ts
 * import { command, connect, serve } from "./mod.ts";
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

export { createServer, run, serve } from "./server.ts";
export type { ListeningServer, RunOptions, ServeOptions, Server } from "./server.ts";
export { connect, dnsServers } from "./client/connect.ts";
export type {
  CallOptions,
  Client,
  ClientMiddleware,
  ConnectOptions,
  Outcome,
  StreamOptions,
} from "./client/connect.ts";
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
