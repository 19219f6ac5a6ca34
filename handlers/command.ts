/**
 * A command: a function that clients can call, and its properties.
 *
 * In: a definition. Out: the command, frozen. Refused: reserved numbers and parameter names; unknown options, and options
 * of another kind.
 * The types here carry a command's parameters and reply from the handler to the caller; no code is generated.
 */

import { kindOf } from "../codec/errors.ts";
import { FIRST_OWN_NUMBER, isReservedParameter } from "../codec/message.ts";
import { checkLimit, checkOptions, OPTION_KINDS, type OptionKind } from "../limits.ts";
import type { Clock } from "../transport/clock.ts";
import type { CallerConnection } from "./caller_connection.ts";
import type { Mistake } from "./mistakes.ts";
import type { ReplyFields } from "./reply.ts";
import type { ServerReport } from "./server_info.ts";
import type { StandardSchema } from "./standard_schema.ts";
import type { PeerCertificate } from "../transport/certificate.ts";

export { bytes, unchecked } from "./item_schemas.ts";
export { REPLY, reply, type ReplyFields, replyOf, type ReplyWith } from "./reply.ts";
export { TRACKED, type Tracked, tracked } from "./tracked.ts";

/**
 * What a handler and a middleware know about the call, in addition to its parameters.
 *
 * @typeParam Items The caller's stream. A command with the option `items` always has it.
 */
export interface Context<Items = AsyncIterable<unknown> | undefined> {
  /** The command's name. */
  readonly command: string;
  /** The parameters as received, before any schema. */
  readonly params: Readonly<Record<string, unknown>>;
  /** The metadata of the call: a token, a `traceparent` (PROTOCOL.md, "Meta"). */
  readonly meta: Readonly<Record<string, string>>;
  /**
   * The caller's stream; `undefined` if the call has none. One `for await` may read it, once, in the handler or in a
   * middleware: a second one throws. The caller sends as fast as it is read. If the call ends before the stream, the loop
   * throws the reason, so an incomplete stream never looks complete.
   */
  readonly items: Items;
  /** The caller's address and port, as text. */
  readonly peer: string;
  /** The identity in the peer's certificate, if the server requires one (mutual TLS) and has checked it. */
  readonly certificate: PeerCertificate | undefined;
  /** The caller's connection, with a place for the service's own state. */
  readonly connection: CallerConnection;
  /**
   * Aborted when the answer is no longer needed: the call was cancelled, has timed out, was disconnected or was cut at
   * a shutdown. Its reason is an `RpcError` that says which. It never aborts after the handler has succeeded.
   */
  readonly signal: AbortSignal;
  /**
   * Aborted when the connection should end soon, because the server shuts down. A stream that may wait for long should
   * also wait for this signal, and end with `draining.throwIfAborted()`. The reason is an `RpcError` with the code
   * `GOING_AWAY`, which tells the reader to resume on another connection.
   */
  readonly draining: AbortSignal;
  /**
   * The time until the call's deadline, in milliseconds, to pass on to further calls. The deadline is the caller's, or
   * that of `timeoutMs` and `handlerTimeoutMs` if it is earlier. `Infinity` means no limit.
   */
  readonly remaining: () => number;
  /** The server's clock, for a handler that waits or measures. */
  readonly clock: Clock;
  /** The server's description and statistics, as INFO and STATS return them. */
  readonly server: ServerReport;
}

/** The result of `next()`, with the type of the values that were passed to it. */
export type Passed<Given> = ReplyFields & { readonly "~given"?: Given };

/** What a middleware may pass on: values by names that a context does not have. */
export type PassedOn = object & { readonly [Name in keyof Context]?: "every context has this name already" };

/** Passes a call on. */
export interface Next {
  /** Adds nothing. A signature of its own: of an optional argument, the compiler would infer what is expected. */
  (): Promise<Passed<object>>;
  /** Adds the fields of an object to the context. */
  <Given extends PassedOn>(given: Given): Promise<Passed<Given>>;
}

/**
 * Runs before handlers. It may inspect a call, refuse it by throwing an `RpcError`, answer it, or pass it on.
 *
 * @param call The call: command, parameters, meta, peer, signal.
 * @param next Passes the call on to the next middleware or to the handler, once. A second call returns the same
 * promise. The fields of its argument, a plain object, are in the handler's context. It resolves with the reply, or
 * rejects with the handler's error. The items of a stream go to the caller meanwhile. It resolves after the last item,
 * and `res` is the handler's return value.
 * @returns The reply: the one from `next()`, or another. Without `next()`, a stream ends with it and has no items. A
 * handler that still runs counts as a call in flight. Its signal aborts at its deadline and when the connection ends,
 * and its error goes to `onError`. A middleware that has answered cannot pass the call on any more: `next()` rejects.
 * It also rejects, with the reason, if the call has ended.
 */
export type Middleware<Given extends object = object> = (
  call: Context,
  next: Next,
) => Passed<Given> | Promise<Passed<Given>>;

/** What a middleware returns. */
export type Answering = ReplyFields | Promise<ReplyFields>;

/** What an answer says that was passed on: one of several types, if the middleware passes on one or another. */
export type GivenIn<Answer> = Answer extends { readonly "~given"?: infer Given }
  ? unknown extends Given ? object : Given
  : never;

/** What a middleware passes on, by the type of its answer. One that gives only its own replies passes on nothing. */
export type GivenBy<Answer> = [GivenIn<Awaited<Answer>>] extends [never] ? object : GivenIn<Awaited<Answer>> & object;

/** What a middleware passes on: the type that its author names, or else that of its answer. */
export type PassedBy<Given, Answer> = [Given] extends [never] ? GivenBy<Answer> : Given;

/** A context with what one more middleware passes on. Of two values with one name, the later one counts. */
export type Added<Given, More> = More extends unknown
  ? Given extends unknown ? [keyof Given & keyof More] extends [never] ? Given & More : Omit<Given, keyof More> & More
  : never
  : never;

/** The same type, through which the compiler infers nothing from what is expected. */
export type Known<T> = [T][T extends unknown ? 0 : never];

/**
 * Gives a middleware its type if it is not written directly as an argument. As an argument of `with()`, write only the
 * function: there, its `call` also has the types of what earlier middleware has passed on.
 *
 * @param middleware The middleware.
 * @returns The same middleware.
 * @throws {TypeError} If it is no function.
 */
export function middleware<Given extends object = never, Answer extends Answering = ReturnType<Middleware<Given>>>(
  middleware: (call: Context, next: Next) => Answer,
): Middleware<Known<PassedBy<Given, Answer>>> {
  checkMiddleware(middleware, "middleware");
  return middleware as Middleware<never>;
}

/** Not at the first call: a module that is imported in a circle gives `undefined`. */
function checkMiddleware(middleware: unknown, taker: string): void {
  if (typeof middleware === "function") return;
  throw new TypeError(`Cannot use ${kindOf(middleware)} as the argument of ${taker}(): it must be a function`);
}

/** The options of a command besides its handler. */
export interface CommandOptions {
  /** A number from 16 up, which is shorter on the wire. Without it, the command has only its name. */
  readonly number?: number;
  /** A description in one line, shown by INFO and `--list`. */
  readonly summary?: string;
  /**
   * How long the handler may run, in milliseconds. `Infinity` means no limit. Default: the server's `handlerTimeoutMs`.
   */
  readonly timeoutMs?: number;
}

/** The codes with which a command may fail, each with the schema of its `data`, or `null` if it has none. */
export type ErrorSchemas = Readonly<Record<string, StandardSchema | null>>;

/**
 * A command whose types are not known. It names no types, not even `any`: where it is expected, as by `satisfies
 * Commands`, the compiler would infer them for a command that is defined there.
 */
export interface AnyCommand extends CommandOptions {
  /** Checks the parameters before the handler sees them. */
  readonly schema?: StandardSchema;
  /** Describes the result, or each item of a stream. */
  readonly result?: StandardSchema;
  /** Checks each item of the caller's stream. Every call must then have a stream. */
  readonly items?: StandardSchema;
  /** Whether it answers with a stream, if the handler is not an async generator. */
  readonly stream?: boolean;
  /** The names of the parameters, for INFO, `--list` and completion. */
  readonly params?: readonly string[];
  /** The error codes that it may answer with. */
  readonly errors?: ErrorSchemas;
  /** The middleware before the handler, the outermost first. */
  readonly middleware?: readonly Middleware[];
  /** Handles a call. */
  // deno-lint-ignore no-explicit-any -- the types of items are each command's own
  readonly handler: (params: never, context: Context<any>) => unknown;
}

/** A command for `serve()`, made by {@linkcode command}. */
export interface Command<Params = unknown, Result = unknown, Errors = unknown, Item = unknown> extends AnyCommand {
  /** The type of the parameters, for callers. It never exists at run time. */
  readonly "~params"?: Params;
  /** The type of the result. */
  readonly "~result"?: Result;
  /** The types of the errors. */
  readonly "~errors"?: Errors;
  /** The type of an item of the caller's stream: `never` without a stream, `unknown` if a stream is optional. */
  readonly "~item"?: Item;
}

/** Commands by name. */
export type Commands = Readonly<Record<string, AnyCommand>>;

/** The caller's stream in a handler's context. If the command has no option `items`, the stream is optional. */
export type ItemsOf<Item> = [Item] extends [never] ? AsyncIterable<unknown> | undefined : AsyncIterable<Item>;

/** A function that does the work of a command. */
export interface Handler<Params, Result, Given, Item = never> {
  /** Does the work. */
  (params: Params, context: Context<ItemsOf<Item>> & Given): Result;
  /** Tells a function from a {@linkcode Definition}, so that the compiler compares an object with that alone. */
  readonly handler?: undefined;
}

/** A handler and the other properties of its command. */
export interface Definition<Input, Params, Result, Errors, Given, SentItem, Item, Described> extends CommandOptions {
  /**
   * Checks the parameters. The handler gets the output of the schema. Any validator with the Standard Schema interface
   * works.
   */
  readonly schema?: StandardSchema<Input, Params>;
  /**
   * Checks each item of the caller's stream, which is then in the handler's context. A call without a stream is
   * refused. {@linkcode bytes} is such a schema, and {@linkcode unchecked} declares a type and checks nothing.
   */
  readonly items?: StandardSchema<SentItem, Item>;
  /**
   * Describes the result, or each item of a stream. The handler must return this type. At run time, the server checks
   * it only with `checkResults`, and converts nothing.
   */
  readonly result?: StandardSchema<Described, unknown>;
  /**
   * Whether it answers with a stream, for INFO, and for a middleware that answers before the handler. Set it if the
   * handler is not an async generator, for example if it returns a `ReadableStream`.
   */
  readonly stream?: boolean;
  /** The names of the parameters, for INFO, `--list` and completion, if no schema has them. */
  readonly params?: readonly (keyof Params & string)[];
  /** The handler's error codes, each with the schema of its `data` or `null`. Callers get them typed. */
  readonly errors?: Errors;
  /**
   * Handles a call. Returns the result or a promise of it; an async generator, any async iterable or a `ReadableStream`
   * is a stream.
   */
  readonly handler: Handler<Params, Result, Given, Item>;
}

/** What the compiler shows for parameters without a type annotation, as in `command(({ a }) => a + 1)`. */
export interface TheParametersNeedAType {
  /** Makes it different from all other types. */
  readonly [UNTYPED]: true;
}

/** Marks {@linkcode TheParametersNeedAType}. It does not exist at run time. */
export declare const UNTYPED: unique symbol;

/** What callers send: the schema's input if there is a schema; nothing if the handler takes no parameters. */
export type Sent<Input, Params> = unknown extends Input ? Params extends TheParametersNeedAType ? object : Params
  : Input;

/** What callers send as an item. If any item is allowed, it is not `unknown`, which would mean an optional stream. */
export type NeededItem<SentItem> = unknown extends SentItem ? NonNullable<unknown> | null : SentItem;

/** A promise's value. */
export type Settled<Result> = Result extends AsyncIterable<unknown> ? Result : Awaited<Result>;

/** Makes commands whose handlers have more in their context. */
export interface CommandMaker<Given> {
  /**
   * Defines a command.
   *
   * @param definition The handler, or an object with the handler and the other properties of the command.
   * @returns The command, for the `commands` of `serve()` and `connect()`.
   * @throws {RangeError} If the number or the timeout is out of range.
   * @throws {TypeError} If there is no handler, an option does not exist or is of another kind, or a parameter name is
   * reserved (PROTOCOL.md, "Requests").
   */
  <
    Params = TheParametersNeedAType,
    Result = unknown,
    Input = unknown,
    const Errors = never,
    SentItem = never,
    Item = never,
    Described = unknown,
  >(
    definition:
      & NoInfer<Mistake<Sent<Input, Params>, Settled<Result>, Errors, SentItem, Described>>
      & (Handler<Params, Result, Given> | Definition<Input, Params, Result, Errors, Given, SentItem, Item, Described>),
  ): Command<Sent<Input, Params>, Settled<Result>, Errors, NoInfer<NeededItem<SentItem>>>;

  /**
   * Returns a function that makes commands with a middleware before their handlers.
   *
   * @param middleware The middleware. What it passes to `next()` is in the context of the handler, and of each further
   * middleware.
   * @returns A function like {@linkcode command}.
   * @throws {TypeError} If the middleware is no function.
   *
   * @example The user, typed in the handler's context
   * ```ts
   * import { command, RpcError } from "../mod.ts";
   *
   * const authenticated = command.with((call, next) => {
   *   if (call.meta.token !== "secret") throw new RpcError("UNAUTHENTICATED");
   *   return next({ user: "Ada" });
   * });
   * const GREET = authenticated((_params: object, { user }) => `Hello, ${user.toUpperCase()}!`);
   * ```
   */
  with<More extends object = never, Answer extends Answering = ReturnType<Middleware<More>>>(
    middleware: (call: Context & Given, next: Next) => Answer,
  ): CommandMaker<Added<Given, PassedBy<More, Answer>>>;
}

/**
 * Defines a command: a handler, and its properties.
 *
 * @example A command that adds, and a caller that gets a number
 * ```ts
 * import { command, connect, serve } from "../mod.ts";
 *
 * const ADD = command(({ a, b }: { a: number; b: number }) => a + b);
 * await using server = await serve({ port: 0, commands: { ADD } });
 * await using client = await connect({ port: server.port, commands: { ADD } });
 * const sum = await client.call.ADD({ a: 1, b: 2 });
 * if (sum !== 3) throw new Error(`expected 3, got ${sum}`);
 * ```
 *
 * @example A schema: any validator with the Standard Schema interface works. This one is written by hand
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
 * const GREET = command({ number: 16, schema: name, handler: ({ name }) => `Hello, ${name}!` });
 * ```
 */
export const command: CommandMaker<unknown> = makerWith([]);

function makerWith(middleware: readonly Middleware[]): CommandMaker<never> {
  const maker = (definition: unknown) => defined(definition, middleware);
  const withMore = (more: Middleware) => {
    checkMiddleware(more, "with");
    return makerWith([...middleware, more]);
  };
  return Object.assign(maker, { with: withMore }) as unknown as CommandMaker<never>;
}

const SCHEMA: OptionKind = {
  is: (value) => typeof (value as Partial<StandardSchema> | null)?.["~standard"]?.validate === "function",
  must: "be a schema with the interface Standard Schema, as those of zod (3.24 or later), valibot and arktype",
};

const COMMAND_OPTIONS: Readonly<Record<string, OptionKind>> = {
  ...{ number: OPTION_KINDS.number, timeoutMs: OPTION_KINDS.any, summary: OPTION_KINDS.string },
  ...{ schema: SCHEMA, items: SCHEMA, result: SCHEMA },
  params: { is: OPTION_KINDS.texts.is, must: "be an array of names; a schema of the parameters goes into `schema`" },
  errors: {
    is: (value) =>
      OPTION_KINDS.object.is(value) && Object.values(Object(value)).every((data) => data === null || SCHEMA.is(data)),
    must: "be an object of codes, each with null or the schema of its data, as { GONE: null }",
  },
  stream: OPTION_KINDS.boolean,
  ...{ handler: OPTION_KINDS.function, middleware: OPTION_KINDS.functions }, // `with` sets the last one
  shapes: OPTION_KINDS.object, // only built-in commands have it
};

/** Checks a definition and makes a command of it, for `command()`, and for a server that gets a plain object. */
export function defined(definition: unknown, middleware: readonly Middleware[] = []): Command {
  const given = (typeof definition === "function" ? { handler: definition } : definition) as Partial<Command>;
  checkOptions(given, COMMAND_OPTIONS);
  const options = { ...given }; // a method of a class is not in it, so it is no handler
  const { number, params = [], timeoutMs, handler } = options;
  if (handler === undefined) throw new TypeError("Cannot make a command without a handler");
  if (number !== undefined && !(Number.isSafeInteger(number) && number >= FIRST_OWN_NUMBER)) {
    throw new RangeError(
      `Cannot give a command the number ${number}: it must be an integer from ${FIRST_OWN_NUMBER} up`,
    );
  }
  if (timeoutMs !== undefined) checkLimit("handlerTimeoutMs", timeoutMs, "timeoutMs");
  for (const name of params) {
    if (isReservedParameter(name)) throw new TypeError(`Cannot name a parameter "${name}": the name is reserved`);
  }
  return Object.freeze({ ...options as Command, ...(middleware.length === 0 ? {} : { middleware }) });
}
