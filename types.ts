/** Types that the public types use. The compiler and an editor show them; a program does not need to name them. */

export type { ItemSource, MaybeItems, WithItems } from "./client/call_options.ts";
export type * from "./client/call_types.ts";
export type { AnyCode } from "./errors.ts";
export type { CallerConnection } from "./handlers/caller_connection.ts";
export type * from "./handlers/command.ts";
export type * from "./handlers/mistakes.ts";
export type * from "./handlers/server_info.ts";
export type * from "./handlers/standard_schema.ts";
export type {
  AnyCommands,
  BuiltIns,
  ClientState,
  ClientStatistics,
  DnsOptions,
  LinkState,
  Meta,
  Outcome,
  OutgoingCall,
  RetryBudgetOptions,
  SentCalls,
  ServerStatus,
} from "./client/connect.ts";
export type { RpcErrorOptions } from "./errors.ts";
export type { ErrorOrigin } from "./handlers/event_log.ts";
export type { LogFormat, LogLevel, LogStyle } from "./handlers/log_line.ts";
export type { WorkerOptions } from "./handlers/server_report.ts";
export type { ServerOptions } from "./handlers/server_state.ts";
export type { Listener, ListenOptions, ShutdownReport } from "./handlers/server.ts";
export type { PeerCertificate } from "./transport/certificate.ts";
export type { Clock, Timer } from "./transport/clock.ts";
export type { ClientTls, ServerTls, TlsSource } from "./transport/tls.ts";
export type { ByteStreams } from "./transport/transport.ts";
export type { UpgradeInfo } from "./transport/upgraded_web_socket.ts";
