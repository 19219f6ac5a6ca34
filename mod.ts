/**
 * packline: a small binary RPC for Deno. MessagePack in length-prefixed frames over TCP; every call settles.
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

export * from "./server.ts";
export * from "./client/connect.ts";
export { type ErrorCode, RpcError, type RpcErrorOptions } from "./errors.ts";
export { DEFAULT_LIMITS, type Limits } from "./limits.ts";
export { command, middleware, reply } from "./handlers/command.ts";
export type { Command, Commands, Context, Middleware, ReplyFields } from "./handlers/command.ts";
export { accessLog } from "./handlers/access_log.ts";
export type { CallerConnection } from "./handlers/caller_connection.ts";
export type { ErrorOrigin } from "./handlers/error_log.ts";
export { builtIns } from "./handlers/registry.ts";
export type { ServerInfo, ServerStatistics } from "./handlers/server_info.ts";
export type { WorkerOptions } from "./handlers/server_report.ts";
export type { ServerOptions } from "./handlers/server_state.ts";
export type { StandardSchema } from "./handlers/standard_schema.ts";
export { tokens } from "./handlers/tokens.ts";
export type { PeerCertificate } from "./transport/certificate.ts";
export type { Clock, Timer } from "./transport/clock.ts";
export { memoryPair } from "./transport/memory.ts";
export type { ClientTls, ServerTls } from "./transport/tls.ts";
export { type ByteStreams, fromStreams, type Transport } from "./transport/transport.ts";
