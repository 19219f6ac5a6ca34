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
export * from "./client.ts";
export { type AnyCode, type ErrorCode, RpcError, type RpcErrorOptions } from "./errors.ts";
export { DEFAULT_LIMITS, type Limits } from "./limits.ts";
export { memoryPair } from "./transport/memory.ts";
export type { Clock, Timer } from "./transport/clock.ts";
export type { PeerCertificate } from "./transport/certificate.ts";
export type { ClientTls, ServerTls } from "./transport/tls.ts";
export { type ByteStreams, fromStreams, type Transport } from "./transport/transport.ts";
export {
  type Command,
  command,
  type Commands,
  type Context,
  type Middleware,
  middleware,
  reply,
  type ReplyFields,
  type ServerInfo,
  type ServerStatistics,
  type StandardSchema,
} from "./handlers/command.ts";
export { builtIns } from "./handlers/registry.ts";
export type { ErrorOrigin } from "./handlers/error_log.ts";
export type { WorkerOptions } from "./handlers/server_report.ts";
export type { ServerOptions } from "./handlers/server_state.ts";
