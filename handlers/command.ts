/**
 * What a command is: a handler, and what is known about it before it runs.
 *
 * In: a definition. Out: the command, frozen. Refused, when it is defined: reserved numbers and parameter names.
 * The types here carry a command's parameters and reply from the handler to the caller; nothing is generated.
 */

import { isReservedParameter } from "../codec/message.ts";
import { checkLimit } from "../limits.ts";
import type { Clock } from "../transport/clock.ts";
import type { PeerCertificate } from "../transport/certificate.ts";

/** The first number that a command of the user's own may have (PROTOCOL.md, "Requests"). */
const FIRST_OWN_NUMBER = 16;

/** What a handler answers with: `res`, and whatever else belongs beside it. */
export interface ReplyFields {
  /** The result: anything MessagePack can hold; `null` for nothing. */
  res: unknown;
  /** More fields, as DELAY's `slept`; not `seq`, `err`, `msg`, `data`, `more`, nor anything that begins with `$`. */
  // deno-lint-ignore no-explicit-any -- with `unknown`, no interface of a handler's author would do
  [field: string]: any;
}

/** What a handler and a middleware know of the call, beside its parameters. */
export interface Context {
  /** The command's name. */
  readonly command: string;
  /** The parameters as they came, before any schema. */
  readonly params: Readonly<Record<string, unknown>>;
  /** What came beside the parameters: a token, a `traceparent` (PROTOCOL.md, "Meta"). */
  readonly meta: Readonly<Record<string, string>>;
  /** Who calls: address and port, as text. */
  readonly peer: string;
  /** What the peer's certificate says, where the server asks for one (mutual TLS) and has checked it. */
  readonly certificate: PeerCertificate | undefined;
  /**
   * Aborted when nobody wants the answer any more: cancelled, out of time, disconnected, cut at shutdown. Its
   * reason is an `RpcError` that says which. Never aborted once the handler has succeeded.
   */
  readonly signal: AbortSignal;
  /** How much time the caller leaves, in milliseconds from now, to pass on to further calls; without end: `Infinity`. */
  readonly remaining: () => number;
  /** The server's clock, for a handler that waits or measures. */
  readonly clock: Clock;
  /** The server's view of itself: what INFO and STATS answer with. */
  readonly server: ServerReport;
}

/** What a server can tell about itself. */
export interface ServerReport {
  /** What INFO answers with. */
  info(): ServerInfo;
  /** What STATS answers with. */
  statistics(): ServerStatistics;
  /** What STATS answers with if it is asked for all: the sum over the workers, where the server is one of several. */
  statisticsOfAll(): Promise<ServerStatistics>;
}

/** One command, as INFO tells it. */
export interface CommandInfo {
  /** By which name it goes. */
  name: string;
  /** By which number it goes, if it has one. */
  number: number | null;
  /** One line for people. */
  summary: string;
  /** The names of its parameters. */
  params: readonly string[];
  /** Whether it answers with a stream. */
  stream: boolean;
}

/** What INFO answers with. */
export interface ServerInfo {
  /** Always `packline`. */
  name: string;
  /** The version of this code. */
  version: string;
  /** The version of the wire. */
  protocol: number;
  /** Seconds since the server started. */
  uptime: number;
  /** The limits in force, by name: one that is without end is not there. */
  limits: Record<string, number>;
  /** All commands, in the order of their numbers. */
  commands: CommandInfo[];
  /** Which of several workers this is, from 1; not there if there is but one. */
  worker?: number;
}

/** Counts of one command, as STATS tells them. */
export interface CommandStatistics {
  /** Calls that got their final reply. */
  calls: number;
  /** Failures among them, by code; of more than 64 codes, the rest as `OTHER`. */
  errors: Record<string, number>;
  /** Calls without a final reply yet. */
  inFlight: number;
  /** Milliseconds from arrival to reply, over all calls. */
  totalMs: number;
  /** The slowest call, in milliseconds. */
  maxMs: number;
  /**
   * Calls by how long they took: up to 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1,000, 2,500, 5,000 and
   * 10,000 milliseconds, each without those before it, and longer.
   */
  durations: number[];
}

/** What STATS answers with. */
export interface ServerStatistics {
  /** Seconds since the server started. */
  uptime: number;
  /** Connections now, in all, and refused. */
  connections: { open: number; accepted: number; refused: number };
  /** Requests whose handler runs. */
  inFlight: number;
  /** Bytes read and written. */
  bytes: { received: number; sent: number };
  /** What was wrong with frames and messages: by code, and streams that ended inside a frame. */
  refused: { badFrame: number; invalidMessage: number; truncated: number; unknownCommand: number };
  /** Replies that came too late for anyone to want them. */
  lateReplies: number;
  /** Counts by command name. */
  commands: Record<string, CommandStatistics>;
  /** Which of several workers has answered, from 1; not there if there is but one. */
  worker?: number;
  /** Where these are the counts of all: whose are in them, and whose are not, because they did not answer in time. */
  workers?: { counted: number[]; silent: number[] };
}

/**
 * The interface that validators agree on (Standard Schema, version 1): zod, valibot, arktype and others have it.
 * Only its shape is known here; packline depends on none of them.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  /** The only property of the interface. */
  readonly "~standard": {
    /** The version of the interface. */
    readonly version: 1;
    /** Which library this is. */
    readonly vendor: string;
    /** Checks a value, and may transform it. */
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    /** Carries the types; never there at run time. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** The type that a validator takes. */
export type SchemaInput<Schema extends StandardSchema> = NonNullable<Schema["~standard"]["types"]>["input"];

/** The type that a validator gives. */
export type SchemaOutput<Schema extends StandardSchema> = NonNullable<Schema["~standard"]["types"]>["output"];

/** What a validator answers. */
export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

/** One thing a validator found wrong. */
export interface SchemaIssue {
  /** The validator's text. */
  readonly message: string;
  /** Where: keys, or objects that hold one. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What a command may be given with its handler. */
export interface CommandOptions {
  /** From 16 up; compact on the wire. Without one the command goes by its name. */
  number?: number;
  /** One line for people: INFO and `--list` show it. */
  summary?: string;
  /** The names of the parameters, for INFO, `--list` and completion. */
  params?: readonly string[];
  /** How long the handler may run, in milliseconds; `Infinity` is without end. Default: the server's `handlerTimeoutMs`. */
  timeoutMs?: number;
}

/** A command as `serve()` takes it; made by {@linkcode command}. */
export interface Command<Params = unknown, Result = unknown> extends Readonly<CommandOptions> {
  /** Checks the parameters before the handler sees them. */
  readonly schema?: StandardSchema;
  /** Does the work. */
  readonly handler: (params: never, context: Context) => Result | Promise<Result>;
  /** Carries the type of the parameters to callers; never there at run time. */
  readonly "~params"?: Params;
}

/** Commands by name. */
// deno-lint-ignore no-explicit-any -- the types of parameters and replies are each command's own
export type Commands = Readonly<Record<string, Command<any, any>>>;

/** What a handler may answer with: reply fields, or a stream of items. */
export type HandlerResult = ReplyFields | AsyncGenerator<unknown, unknown, void>;

/** Makes a definition impossible where a parameter has a name that means something else on the wire. */
export type Unreserved<Params> = Extract<keyof Params, "cmd" | "seq" | "ttl" | "meta" | "credit"> extends never
  ? unknown
  : { params: "a parameter has a reserved name" };

/**
 * Defines a command whose parameters a schema checks. The handler gets what the schema made of them.
 *
 * @param definition The handler, the schema, and what else is known about the command.
 * @returns The command, for the `commands` of `serve()` and `connect()`.
 * @throws {RangeError} If the number or the timeout is out of range.
 * @throws {TypeError} If a parameter name is reserved (PROTOCOL.md, "Requests").
 *
 * @example Any validator with the Standard Schema interface will do; here, one by hand
 * ```ts
 * import { command, type StandardSchema } from "../mod.ts";
 *
 * const name: StandardSchema<{ name: string }> = {
 *   "~standard": {
 *     version: 1,
 *     vendor: "by hand",
 *     validate: (value) =>
 *       typeof (value as { name?: unknown }).name === "string"
 *         ? { value: value as { name: string } }
 *         : { issues: [{ message: "must be text", path: ["name"] }] },
 *   },
 * };
 * const GREET = command({ number: 16, schema: name, handler: ({ name }) => ({ res: `Hello, ${name}!` }) });
 * ```
 */
export function command<Schema extends StandardSchema, Result extends HandlerResult>(
  definition:
    & CommandOptions
    & {
      schema: Schema;
      handler: (params: SchemaOutput<Schema>, context: Context) => Result | Promise<Result>;
    }
    & Unreserved<SchemaInput<Schema>>,
): Command<SchemaInput<Schema>, Result>;
/**
 * Defines a command. Its parameters are typed by the handler, and come as the caller sent them.
 *
 * @param definition The handler, and what else is known about the command.
 * @returns The command, for the `commands` of `serve()` and `connect()`.
 * @throws {RangeError} If the number or the timeout is out of range.
 * @throws {TypeError} If a parameter name is reserved (PROTOCOL.md, "Requests").
 *
 * @example A command that adds, and a caller that gets a number
 * ```ts
 * import { command, connect, serve } from "../mod.ts";
 *
 * const ADD = command({ number: 16, handler: ({ a, b }: { a: number; b: number }) => ({ res: a + b }) });
 * await using server = await serve({ port: 0, commands: { ADD } });
 * await using client = await connect({ port: server.port, commands: { ADD } });
 * const { res } = await client.call("ADD", { a: 1, b: 2 });
 * if (res !== 3) throw new Error(`expected 3, got ${res}`);
 * ```
 */
export function command<Params extends object, Result extends HandlerResult>(
  definition:
    & CommandOptions
    & { handler: (params: Params, context: Context) => Result | Promise<Result> }
    & Unreserved<Params>,
): Command<Params, Result>;
export function command(definition: Command): Command {
  const { number, params = [], timeoutMs } = definition;
  if (number !== undefined && !(Number.isSafeInteger(number) && number >= FIRST_OWN_NUMBER)) {
    throw new RangeError(
      `Cannot give a command the number ${number}: it must be an integer from ${FIRST_OWN_NUMBER} up`,
    );
  }
  if (timeoutMs !== undefined) checkLimit("handlerTimeoutMs", timeoutMs);
  for (const name of params) {
    if (isReservedParameter(name)) throw new TypeError(`Cannot name a parameter "${name}": the name is reserved`);
  }
  return Object.freeze({ ...definition });
}
