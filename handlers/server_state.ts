/**
 * Holds the state that all connections of one server share: the commands, limits, middleware, counts and clock.
 *
 * In: the options of `serve()`. Out: the shared state. Refused: invalid options.
 */

import { type Limits, resolveLimits } from "../limits.ts";
import { type Clock, systemClock } from "../transport/clock.ts";
import type { SharedTurns } from "../session/read_pace.ts";
import { type Swept, TimerWheel } from "../session/deadlines.ts";
import { YieldBudget } from "../session/yield_budget.ts";
import type { CallerConnection } from "./caller_connection.ts";
import type { Commands, Middleware } from "./command.ts";
import type { ServerReport } from "./server_info.ts";
import { Drain } from "./drain.ts";
import type { ErrorOrigin } from "./event_log.ts";
import type { LogFormat, LogLevel } from "./log_line.ts";
import { MiddlewareChain } from "./middleware.ts";
import { type BuiltIns, Registry } from "./registry.ts";
import { ServerLog } from "./server_log.ts";
import { Report, type WorkerOptions } from "./server_report.ts";
import { ServerCounts } from "./statistics.ts";

/** Options of a server, without its address. */
export interface ServerOptions extends Partial<Limits> {
  /** The user's own commands, by name. */
  commands?: Commands;
  /**
   * The built-in commands that the server has. A call of one that is not in the list fails with `CMD_NOT_FOUND`. A
   * command of the same name in `commands` always takes its place.
   *
   * @default {["PING", "INFO", "STATS"]}
   */
  builtIns?: readonly (keyof BuiltIns)[];
  /**
   * Whether clients may watch the calls of others, by the command TAP: who has called what, when, with which outcome, how long
   * it took and how many bytes it was; never parameters, results or `meta`. Without it a call of TAP fails with
   * `CMD_NOT_FOUND`. Whoever may call a command may call this one: a `middleware` says who.
   *
   * @default {false}
   */
  tap?: boolean;
  /**
   * Whether the service is ready for calls. While this returns false, PING fails with `NOT_READY`, so that a balancer or
   * an orchestrator waits; other commands are served. By default a server is ready as long as it listens.
   */
  ready?: () => boolean | Promise<boolean>;
  /** Middleware around every handler, the first outermost. */
  middleware?: readonly Middleware[];
  /** Called for each new connection, before its first call: `connection.state` is for what the service keeps with it. */
  onConnect?: (connection: CallerConnection) => void;
  /** Called when a connection has ended, after its handlers were told: for cleaning up what its calls have left. */
  onClose?: (connection: CallerConnection) => void;
  /**
   * Whether results are checked with their command's `result` schema: one that does not fit is an error of the handler. It takes
   * time for each call, and is made for tests.
   *
   * @default {false}
   */
  checkResults?: boolean;
  /**
   * Receives every error that is not sent to the peer: an error that a handler threw, a failed socket. By default each
   * is one line on stderr; similar errors give one line a second with a count.
   */
  onError?: (error: unknown, origin: ErrorOrigin) => void;
  /**
   * What is logged on stderr (docs/production.md has every event): `error`, the faults of the service, if there is no
   * `onError`; `warn`, also those of its surroundings; `info`, also the life of the server; `debug`, also each connection.
   *
   * @default {"info"}
   */
  logLevel?: LogLevel;
  /**
   * How a line of the log looks: `text`, for people, or `json`, for programs.
   *
   * @default {"text"}
   */
  logFormat?: LogFormat;
  /**
   * The web pages that may call this server by WebSocket, by their exact origins, such as `https://app.example`; `*` is every
   * page, for services whose calls carry a token of their own and rely on no cookie. Given at all, also as `[]`, it lets
   * programs open WebSockets: they tell no origin. Without it nobody may (docs/web.md).
   */
  webOrigins?: readonly string[];
  /** The clock; a test can use a fake one. */
  clock?: Clock;
  /** Numbers from 0 to 1 for the jitter of `maxConnectionAgeMs`; a test may say which. */
  random?: () => number;
  /** Set if this server is one of several workers. */
  worker?: WorkerOptions;
}

/** An open connection, as the server sees it. */
export interface OpenConnection extends Swept {
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  /**
   * The connection should end within this time. A client that wants notices is told and served on; of any other, running
   * calls are answered and new ones refused, and silence closes the connection.
   */
  drain(graceMs: number): void;
  /** Ends the grace: open calls fail, and the connection closes. Returns how many calls. */
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
  /** The number of running handlers; the memory of running and waiting requests, in bytes. */
  readonly load = { handlers: 0, bytes: 0 };
  readonly drain = new Drain();
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
   * Asked before each connection is accepted: a promise if those that are open come first. At a shutdown there is no time
   * for that: all that have come are accepted.
   */
  restBeforeConnection(): Promise<void> | undefined {
    return this.drain.isWaiting ? undefined : this.yieldBudget.countConnection();
  }

  /** Stops all timers, after the last call. */
  close(): void {
    this.deadlines.clear();
    this.yieldBudget.close();
    this.log.close();
  }
}
