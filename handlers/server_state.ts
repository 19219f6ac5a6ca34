/**
 * What all connections of one server share: the commands, the limits, the middleware, the counts, the clock.
 *
 * In: the options of `serve()`. Out: how a call is answered, and what the server can tell about itself.
 */

import { type Limits, resolveLimits } from "../limits.ts";
import { type Clock, systemClock } from "../transport/clock.ts";
import type { SharedTurns } from "../session/read_pace.ts";
import type { Swept } from "../session/sweeper.ts";
import { TimerWheel } from "../session/timer_wheel.ts";
import { YieldBudget } from "../session/yield_budget.ts";
import type { Commands, ServerReport } from "./command.ts";
import { Drain } from "./drain.ts";
import type { ErrorOrigin } from "./error_log.ts";
import { ErrorReporter } from "./error_reporter.ts";
import { type Middleware, MiddlewareChain } from "./middleware.ts";
import { type BuiltIns, Registry } from "./registry.ts";
import { Report, type WorkerOptions } from "./server_report.ts";
import { ServerCounts } from "./statistics.ts";

/** What a server can be given beside an address. */
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
   * Whether the service is ready for calls. While this returns false, PING fails with `NOT_READY`, so that a balancer or
   * an orchestrator waits; other commands are served. By default a server is ready as long as it listens.
   */
  ready?: () => boolean | Promise<boolean>;
  /** Stand before every handler, the first one outermost. */
  middleware?: readonly Middleware[];
  /**
   * Gets every error that the peer is not told: what a handler threw, a socket that failed. By default it is one
   * line on stderr; of those that are alike, one a second and how many more there were.
   */
  onError?: (error: unknown, origin: ErrorOrigin) => void;
  /** The clock to go by; a test may hold it still. */
  clock?: Clock;
  /** Which of several workers this server is, if it is one. */
  worker?: WorkerOptions;
}

/** What a server can do with each of its connections. */
export interface OpenConnection extends Swept {
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  /** A shutdown has begun: what runs is answered, what comes is refused, and silence ends it. */
  drain(): void;
  /** The grace is over: whoever still waits is told so, and it ends. */
  cut(): void;
  /** Ends it now, whatever is under way. */
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
  /** What all connections ask whether others must be served before they go on. */
  readonly yieldBudget: YieldBudget;
  /** Handlers that run, and the memory that requests take whose handlers run or that wait, in bytes. */
  readonly load = { handlers: 0, bytes: 0 };
  readonly drain = new Drain();
  /** The connections that are open. */
  readonly connections = new Set<OpenConnection>();
  readonly errors: ErrorReporter;
  /** What the server tells about itself. */
  readonly report: ServerReport;

  constructor(options: ServerOptions) {
    this.limits = resolveLimits(options);
    this.clock = options.clock ?? systemClock;
    this.registry = new Registry(options.commands ?? {}, options);
    this.middleware = new MiddlewareChain(options.middleware ?? []);
    this.deadlines = new TimerWheel(this.clock);
    this.yieldBudget = new YieldBudget(this.clock);
    this.errors = new ErrorReporter(this.clock, options.onError);
    this.report = new Report(this, options.worker);
  }

  /** No call is left: no timer is, either. */
  close(): void {
    this.deadlines.clear();
    this.yieldBudget.close();
    this.errors.close();
  }
}
