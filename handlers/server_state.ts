/**
 * What all connections of one server share: the commands, the limits, the middleware, the counts, the clock.
 *
 * In: the options of `serve()`. Out: how a call is answered, and what the server can tell about itself.
 */

import config from "../deno.json" with { type: "json" };
import { RpcError } from "../errors.ts";
import { type Limits, resolveLimits } from "../limits.ts";
import { type Clock, systemClock } from "../transport/clock.ts";
import { TimerWheel } from "../session/timer_wheel.ts";
import { YieldBudget } from "../session/yield_budget.ts";
import type { Call } from "./call.ts";
import type {
  Command,
  Commands,
  Context,
  HandlerResult,
  ReplyFields,
  SchemaIssue,
  ServerInfo,
  ServerReport,
  ServerStatistics,
} from "./command.ts";
import { CallContext } from "./context.ts";
import { ErrorLog, type ErrorOrigin } from "./error_log.ts";
import { isStream } from "./item_sender.ts";
import { Registry } from "./registry.ts";
import { ServerCounts, sumStatistics } from "./statistics.ts";

/** The version of the wire that this code speaks. */
const PROTOCOL_VERSION = 1;

/**
 * Something that stands before the handlers: it may look at a call, answer it itself by throwing an `RpcError` or
 * returning a reply, or pass it on.
 *
 * @param request The call: command, parameters, meta, peer, signal.
 * @param next Passes it on, to the next middleware or to the handler, once: called again, it answers the same. It
 * resolves with the final reply, or rejects with the handler's error. The items of a stream go to the caller meanwhile: so
 * a stream has ended by then, and `res` is what its handler has returned.
 * @returns The final reply: what `next()` resolved with, or another. A handler that still runs keeps its place among the
 * calls in flight; what it throws goes to the error hook.
 */
export type Middleware = (request: Context, next: () => Promise<ReplyFields>) => HandlerResult | Promise<HandlerResult>;

/** What a server knows of the others that share its port: it is one of several workers. */
export interface WorkerOptions {
  /** Which one it is, from 1; INFO and STATS tell it. */
  number: number;
  /**
   * Asks the others for their counts, for a STATS that wants those of all.
   *
   * @returns The counts of those that answered in time, and the numbers of those that did not. Must not reject.
   */
  askOthers(): Promise<{ statistics: ServerStatistics[]; silent: number[] }>;
}

/** What a server can be given beside an address. */
export interface ServerOptions extends Partial<Limits> {
  /** The user's own commands, by name. */
  commands?: Commands;
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
export interface OpenConnection {
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  /** A shutdown has begun: what runs is answered, what comes is refused, and silence ends it. */
  drain(): void;
  /** The grace is over: whoever still waits is told so, and it ends. */
  cut(): void;
  /** Ends it now, whatever is under way. */
  close(): void;
  /** Looks for a frame, a silence or a write that takes too long. */
  sweep(nowMs: number, isBehind: boolean): void;
}

/** One server's shared state. */
export class ServerState implements ServerReport {
  readonly limits: Limits;
  readonly clock: Clock;
  readonly registry: Registry;
  readonly counts = new ServerCounts();
  readonly deadlines: TimerWheel;
  /** What all connections ask whether others must be served before they go on. */
  readonly yieldBudget: YieldBudget;
  /** Handlers that run, over all connections. */
  inFlight = 0;
  /** What the requests take in memory that wait or whose handlers run, over all connections. */
  heldBytes = 0;
  /** A shutdown has begun: calls that are finished from then on are counted. */
  stopping = false;
  /** The shutdown has given up the port: what comes from then on is answered `SHUTTING_DOWN`. */
  draining = false;
  /** The connections that are open. */
  readonly connections = new Set<OpenConnection>();
  /** Calls that a shutdown waited for, and those it did not wait for any longer. */
  finishedCalls = 0;
  cutCalls = 0;
  readonly #middleware: readonly Middleware[];
  readonly #errorLog: ErrorLog;
  readonly #onError: (error: unknown, origin: ErrorOrigin) => void;
  readonly #worker: WorkerOptions | undefined;
  readonly #startedMs: number;

  constructor(options: ServerOptions) {
    this.limits = resolveLimits(options);
    this.clock = options.clock ?? systemClock;
    this.registry = new Registry(options.commands ?? {});
    this.deadlines = new TimerWheel(this.clock);
    this.yieldBudget = new YieldBudget(this.clock);
    this.#middleware = options.middleware ?? [];
    this.#errorLog = new ErrorLog(this.clock);
    this.#onError = options.onError ?? ((error, origin) => this.#errorLog.add(error, origin));
    this.#worker = options.worker;
    this.#startedMs = this.clock.now();
  }

  /** No call is left: no timer is, either. */
  close(): void {
    this.deadlines.clear();
    this.yieldBudget.close();
    this.#errorLog.close();
  }

  /** Runs the middleware and the handler. */
  answer(call: Call): unknown {
    const context = new CallContext(call);
    return this.#middleware.length === 0 ? invoke(call, context) : this.#pass(call, context, 0);
  }

  /** Hands an error to the hook, which cannot break anything, and is not waited for. */
  report(error: unknown, origin: ErrorOrigin): void {
    const failed = (hookError: unknown) => {
      this.#errorLog.add(error, origin);
      this.#errorLog.add(hookError, { command: "onError" });
    };
    try {
      // The type says that it returns nothing; an async function is one all the same.
      const done: unknown = this.#onError(error, origin);
      if (done !== undefined) Promise.resolve(done).catch(failed);
    } catch (hookError) {
      failed(hookError);
    }
  }

  info(): ServerInfo {
    return {
      name: "packline",
      version: config.version,
      protocol: PROTOCOL_VERSION,
      uptime: this.#uptimeSeconds(),
      limits: Object.fromEntries(Object.entries(this.limits).filter(([, limit]) => limit !== Infinity)),
      commands: this.registry.describe(),
      ...this.#whichWorker(),
    };
  }

  statistics(): ServerStatistics {
    const counts = this.counts;
    return {
      uptime: this.#uptimeSeconds(),
      connections: {
        open: this.connections.size,
        accepted: counts.connectionsAccepted,
        refused: counts.connectionsRefused,
      },
      inFlight: this.inFlight,
      bytes: { received: counts.bytesReceived, sent: counts.bytesSent },
      refused: {
        badFrame: counts.badFrames,
        invalidMessage: counts.invalidMessages,
        truncated: counts.truncatedStreams,
        unknownCommand: counts.unknownCommands,
      },
      lateReplies: counts.lateReplies,
      commands: Object.fromEntries(this.registry.entries().map(({ name, counts }) => [name, counts.snapshot()])),
      ...this.#whichWorker(),
    };
  }

  async statisticsOfAll(): Promise<ServerStatistics> {
    if (this.#worker === undefined) return this.statistics();
    const { statistics: others, silent } = await this.#worker.askOthers();
    const own = this.statistics();
    const counted = [own, ...others].flatMap(({ worker }) => worker ?? []).sort((a, b) => a - b);
    return { ...sumStatistics(own, ...others), ...this.#whichWorker(), workers: { counted, silent } };
  }

  #whichWorker(): { worker?: number } {
    return this.#worker === undefined ? {} : { worker: this.#worker.number };
  }

  #uptimeSeconds(): number {
    return (this.clock.now() - this.#startedMs) / 1000;
  }

  async #pass(call: Call, context: Context, index: number): Promise<HandlerResult> {
    const middleware = this.#middleware[index];
    if (middleware === undefined) return await (call.handled = this.#handle(call, context));
    let answered = false;
    let passed: Promise<HandlerResult> | undefined;
    const next = () => {
      if (passed === undefined) {
        passed = this.#pass(call, context, index + 1);
        // The middleware may have not waited for it; an error that nobody catches would end the process.
        passed.catch((error) => {
          if (answered) call.owner.onLateError(call, error);
        });
      }
      return passed;
    };
    try {
      return await middleware(context, next as () => Promise<ReplyFields>);
    } finally {
      answered = true;
    }
  }

  /** Runs a handler to its end: of a stream, that is its final reply. */
  async #handle(call: Call, context: Context): Promise<HandlerResult> {
    const answer = await (invoke(call, context) as HandlerResult | Promise<HandlerResult>);
    return isStream(answer) ? await call.owner.sendItems(call, answer) : answer;
  }
}

/** Checks the parameters, and runs the handler. */
function invoke({ entry, request: { params } }: Call, context: Context): unknown {
  const { handler, schema } = entry.command;
  if (schema === undefined) return handler(params as never, context);
  const result = schema["~standard"].validate(params);
  if (result instanceof Promise) return result.then((result) => handler(checked(result), context));
  return handler(checked(result), context);
}

function checked(result: Awaited<ReturnType<NonNullable<Command["schema"]>["~standard"]["validate"]>>): never {
  if (result.issues === undefined) return result.value as never;
  const issues = result.issues.map((issue) => ({ path: pathOf(issue), message: issue.message }));
  const text = issues.map(({ path, message }) => path.length > 0 ? `${path.join(".")}: ${message}` : message).join(
    "; ",
  );
  throw new RpcError("INVALID_PARAMS", text, { data: issues });
}

function pathOf(issue: SchemaIssue): (string | number)[] {
  return (issue.path ?? []).map((step) => {
    const key = typeof step === "object" ? step.key : step;
    return typeof key === "number" ? key : String(key);
  });
}
