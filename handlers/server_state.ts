/**
 * Holds the state that all connections of one server share: the commands, limits, middleware, counts and clock.
 *
 * In: the options of `serve()`. Out: the shared state. Refused: invalid options.
 */

import { RpcError } from "../errors.ts";
import { type Limits, resolveLimits } from "../limits.ts";
import { type Clock, systemClock } from "../transport/clock.ts";
import { LongReads, type SharedTurns } from "../session/read_pace.ts";
import { type Swept, TimerWheel } from "../session/deadlines.ts";
import { YieldBudget } from "../session/yield_budget.ts";
import type { CallerConnection } from "./caller_connection.ts";
import type { Commands, Middleware } from "./command.ts";
import type { ServerReport } from "./server_info.ts";
import type { ErrorOrigin } from "./event_log.ts";
import type { LogFormat, LogLevel } from "./log_line.ts";
import { MiddlewareChain } from "./middleware.ts";
import { type BuiltIns, Registry } from "./registry.ts";
import { ServerLog } from "./server_log.ts";
import { Report, type WorkerOptions } from "./server_report.ts";
import { Starts } from "./starts.ts";
import { ServerCounts } from "./statistics.ts";

/** Options of a server, without its address. */
export interface ServerOptions extends Partial<Limits> {
  /** Your commands, by name. */
  commands?: Commands;
  /**
   * The built-in commands of the server. Others fail with `CMD_NOT_FOUND`. A command with the same name in `commands`
   * always replaces the built-in one.
   *
   * @default {["PING", "INFO", "STATS"]}
   */
  builtIns?: readonly (keyof BuiltIns)[];
  /**
   * Whether clients may watch all calls with the command TAP: caller, command, time, outcome, duration and bytes, but
   * never parameters, results or `meta`. Without it, TAP fails with `CMD_NOT_FOUND`. Every client may call TAP, unless
   * a `middleware` refuses it.
   *
   * @default {false}
   */
  tap?: boolean;
  /**
   * Whether the service is ready for calls. While this returns false, or takes longer than a second, PING fails with
   * `NOT_READY`, so that a load balancer or an orchestrator waits. Other commands still work, but packline's client for
   * Deno, Node and Bun sends no calls over a new connection, except its first one, until its PING succeeds. It should not
   * throw: PING then fails with `INTERNAL`, which does not keep these clients away. Without it, a server is always ready.
   */
  ready?: () => boolean | Promise<boolean>;
  /**
   * Middleware around every handler, the first outermost, also of the built-in commands. If it holds a PING for longer
   * than 1.5 s, PING fails with `DEADLINE_EXCEEDED`, so that clients do not take the server for dead.
   */
  middleware?: readonly Middleware[];
  /**
   * Called for each new connection, before its first call. `connection.state` is for the service's own data about it.
   */
  onConnect?: (connection: CallerConnection) => void;
  /** Called when a connection has ended, after its handlers were aborted. Use it to clean up. */
  onClose?: (connection: CallerConnection) => void;
  /**
   * Whether results are checked with their command's `result` schema. An invalid result is an error of the handler.
   * This takes time for each call, and is intended for tests.
   *
   * @default {false}
   */
  checkResults?: boolean;
  /**
   * Receives these errors: an unexpected one of a handler, middleware or hook, a connection that cannot be accepted, a
   * frame that arrives too slowly, a certificate that cannot be renewed. By default each is one line on stderr; similar
   * errors give one line a second with a count.
   */
  onError?: (error: unknown, origin: ErrorOrigin) => void;
  /**
   * What is logged on stderr (docs/production.md has every event). `error`: errors of the service, if there is no
   * `onError`. `warn`: also errors of its environment. `info`: also start and shutdown. `debug`: also each connection.
   *
   * @default {"info"}
   */
  logLevel?: LogLevel;
  /**
   * The format of the log: `text` for people, or `json` for programs.
   *
   * @default {"text"}
   */
  logFormat?: LogFormat;
  /**
   * The web pages that may call this server over WebSocket, by their exact origins, such as `https://app.example`. `*`
   * allows every page, for services whose calls carry their own token and do not use cookies. If the option is set,
   * even to `[]`, programs may also open WebSockets, because they send no origin. Without it, WebSockets are refused
   * (docs/web.md).
   */
  webOrigins?: readonly string[];
  /** The clock; a test can use a fake one. */
  clock?: Clock;
  /** Random numbers from 0 to 1 for the variation of `maxConnectionAgeMs`. A test may choose them. */
  random?: () => number;
  /** Set if this server is one of several workers. */
  worker?: WorkerOptions;
}

/** An open connection, as the server sees it. */
export interface OpenConnection extends Swept {
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  /**
   * Ends the connection within this time. A client that wants notices gets one, and is served until it leaves. For any
   * other client, running calls are answered, new calls are refused, and silence closes the connection.
   */
  drain(graceMs: number): void;
  /** Ends the grace period: open calls fail, and the connection closes. Returns how many calls failed. */
  cut(why: string): number;
  /** Closes it immediately. */
  close(): void;
}

/** One server's shared state. */
export class ServerState implements SharedTurns {
  readonly limits: Limits;
  readonly clock: Clock;
  readonly registry: Registry;
  readonly middleware: MiddlewareChain;
  readonly counts = new ServerCounts();
  readonly deadlines: TimerWheel;
  /** Tells a connection whether others must be served first. */
  readonly yieldBudget: YieldBudget;
  /**
   * The number of running handlers, and the last one that began; the memory of running and waiting requests, and of
   * items that no handler has taken, in bytes; partly read long messages.
   */
  readonly load = { handlers: 0, starts: new Starts(), bytes: 0, longReads: new LongReads() };
  /**
   * A shutdown: whether it waits for calls, until the end of its grace period; whether new connections are refused,
   * because the port is closed; the calls that finished meanwhile, and those that were cut at its end.
   */
  readonly drain = { isWaiting: false, isRefusing: false, finishedCalls: 0, cutCalls: 0 };
  /** The open connections. */
  readonly connections = new Set<OpenConnection>();
  readonly log: ServerLog;
  /** The data of INFO and STATS. */
  readonly report: ServerReport;

  constructor(options: ServerOptions) {
    this.limits = resolveLimits(options);
    this.clock = options.clock ?? systemClock;
    this.registry = new Registry(options.commands ?? {}, options);
    this.middleware = new MiddlewareChain(options.middleware ?? [], options.checkResults);
    this.deadlines = new TimerWheel(this.clock);
    this.yieldBudget = new YieldBudget(this.clock);
    const { logFormat, logLevel, worker } = options;
    this.log = new ServerLog(this.clock, { logFormat, logLevel, worker: worker?.number }, options.onError);
    this.report = new Report(this, options.worker);
  }

  /**
   * Called before each connection is accepted. Returns a promise if the open connections must be served first. A
   * shutdown does not wait: it accepts all pending connections.
   */
  restBeforeConnection(): Promise<void> | undefined {
    return this.drain.isWaiting ? undefined : this.yieldBudget.countConnection();
  }

  /** Why one more connection is refused; `undefined` if there is room. A refusal is counted and logged. */
  refusalOf(peer: string | undefined): RpcError | undefined {
    if (this.drain.isRefusing) return new RpcError("SHUTTING_DOWN");
    const { connections, limits: { maxConnections } } = this;
    if (connections.size < maxConnections) return undefined;
    this.counts.connectionsRefused++;
    const message = `is refused: ${maxConnections} connections are open, and --max-connections allows no more`;
    this.log.note({ event: "connection_refused", peer, code: "OVERLOADED", message });
    return new RpcError("OVERLOADED", "the server has no room for another connection");
  }

  /** Stops all timers, after the last call. */
  close(): void {
    this.deadlines.clear();
    this.yieldBudget.close();
    this.log.close();
  }
}
