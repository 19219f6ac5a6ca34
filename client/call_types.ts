/**
 * The types that carry a command's parameters, results and errors to its caller.
 *
 * In: the types of commands. Out: the types of the methods of a client. Refused, by the compiler: names, parameters and
 * codes that the commands do not have.
 */

import type { ErrorCode, RpcError } from "../errors.ts";
import type { AnyCommand, Command, Commands, ErrorSchemas, ReplyWith } from "../handlers/command.ts";
import type { DataOf, Untracked } from "../handlers/mistakes.ts";
import type { BuiltIns } from "../handlers/registry.ts";
import type { CallOptions, MaybeItems, StreamOptions, WithItems } from "./call_options.ts";

/**
 * Any commands: the type of a client without a type of its commands. A client with typed commands is assignable to it.
 */
// deno-lint-ignore no-explicit-any -- without the types of commands, a caller must not need casts
export type AnyCommands = any;

/** A handler's result as its caller gets it: without the fields beside it, and nil if the handler returns nothing. */
export type Plain<T> = T extends ReplyWith<infer Result, infer _Beside> ? Arrived<Result> : Arrived<T>;

/** A value as it arrives: `null` in place of `undefined` or `void`, and bytes in memory that is not shared. */
export type Arrived<T> = T extends undefined | void ? null : T extends Uint8Array ? Uint8Array<ArrayBuffer> : T;

/** A handler's result, as its caller gets it. */
// deno-lint-ignore no-explicit-any -- see AnyCommands
export type ValueOf<Result> = 0 extends 1 & Result ? any : Plain<Result>;

/** One object type in place of an intersection of several. */
export type Flat<T> = { [Name in keyof T]: T[Name] };

/** The whole reply with a handler's result. */
// deno-lint-ignore no-explicit-any -- see AnyCommands
export type ReplyOf<Result> = 0 extends 1 & Result ? { res: any; [field: string]: any }
  : [Result] extends [never] ? never
  : Whole<Result>;

/** A handler's answer with the fields beside it. */
export type Whole<T> = [Extract<T, ReplyWith<unknown, object>>] extends [never] ? { res: Arrived<T> }
  : T extends ReplyWith<infer Result, infer Beside> ? Flat<{ res: Arrived<Result> } & Omit<Beside, "res">>
  : { res: Arrived<T> };

/** An error with known codes and data: a comparison of its `code` determines the type of its `data`. */
export interface Failure<Code extends string, Data> extends RpcError {
  /** The code. */
  readonly code: Code;
  /** The data. */
  readonly data: Data;
}

/** The codes that a command need not declare: packline's own, and that of its middleware `tokens()`. */
export type CommonCode = ErrorCode | "UNAUTHENTICATED";

/** The codes and the data with which a command fails. */
export type FailureOf<Errors> = 0 extends 1 & Errors ? RpcError
  :
    | Failure<CommonCode, unknown>
    | (Errors extends ErrorSchemas ? {
        [Code in keyof Errors & string]: Failure<Code, DataOf<Errors[Code]>>;
      }[keyof Errors & string]
      : never);

/**
 * How a call ended: with a result, or with an error whose `code` and `data` have the types that the command declares.
 */
export type Outcome<Value, Failure> = { ok: true; value: Value } | { ok: false; error: Failure };

/** Whether a result is a stream. */
export type IsStream<Result> = 0 extends 1 & Result ? false
  : [Result] extends [never] ? false
  : [Result] extends [AsyncIterable<unknown>] ? true
  : false;

/** A method that accepts no arguments, so that the compiler shows the mistake at the call. */
export type Mistaken<Text extends string> = Text & ((mistake: Text, ...rest: unknown[]) => never);
/** The mistake of `client.stream` for a command with a single reply. */
export type NotAStream = Mistaken<"this command answers once: use client.call">;
/** The mistake of `client.call` for a command that returns a stream. */
export type NotACall = Mistaken<"this command answers with a stream: use client.stream">;

/**
 * A method. Its parameters are optional if none of them is required. If the command takes a stream (`Item`), the option
 * `items` is required.
 */
export type Method<Params, Item, Options, Answer> = [Item] extends [never] ? Given<Params, Options, Answer>
  : unknown extends Item ? Given<Params, MaybeItems<Options>, Answer>
  : (
    params: Record<never, never> extends Params ? Params | undefined : Params,
    optionsWithItems: WithItems<Options, Item>,
  ) => Answer;

/** A method of a command that does not require a stream. */
export type Given<Params, Options, Answer> = Record<never, never> extends Params
  ? (params?: Params, options?: Options) => Answer
  : (params: Params, options?: Options) => Answer;

/** A method of a command with a single reply. */
export type Single<Params, Result, Item, Answer> = IsStream<Result> extends true ? NotACall
  : Method<Params, Item, CallOptions, Answer>;

/** The four ways to call a command. */
export interface Ways<Params, Result, Errors, Item> {
  /** The method of `client.call`. */
  call: Single<Params, Result, Item, Promise<ValueOf<Result>>>;
  /** The method of `client.reply`. */
  reply: Single<Params, Result, Item, Promise<ReplyOf<Result>>>;
  /** The method of `client.outcome`. */
  outcome: Single<Params, Result, Item, Promise<Outcome<ValueOf<Result>, FailureOf<Errors>>>>;
  /** The method of `client.stream`. */
  // deno-lint-ignore no-explicit-any -- see AnyCommands
  stream: 0 extends 1 & Result ? Given<Params, MaybeItems<StreamOptions>, AsyncGenerator<any, any, void>>
    : Result extends AsyncGenerator<infer Value, infer Return, infer _Next>
      ? Method<Params, Item, StreamOptions, AsyncGenerator<Arrived<Untracked<Value>>, Plain<Return>, void>>
    : Result extends AsyncIterable<infer Value>
      ? Method<Params, Item, StreamOptions, AsyncGenerator<Arrived<Untracked<Value>>, null, void>>
    : NotAStream;
}

/** The ways to call a command whose types are not known. */
// deno-lint-ignore no-explicit-any -- see AnyCommands
export type AnyWays = Ways<any, any, any, any>;

/** The ways to call a command of this type. */
// deno-lint-ignore no-explicit-any -- see AnyCommands
export type WaysOf<T> = 0 extends 1 & T ? Ways<Record<string, unknown>, any, any, unknown>
  : "~params" extends keyof T
    ? T extends Command<infer Params, infer Result, infer Errors, infer Item> ? Ways<Params, Result, Errors, Item>
    : never
  : AnyWays;

/** One of the four ways to call. */
export type CallKind = keyof Ways<unknown, unknown, unknown, unknown>;

/** Methods by the names of commands. */
export type Methods<C, K extends CallKind> = { readonly [Name in keyof C]: WaysOf<C[Name]>[K] };

/** The commands that include a name: the user's own, or the built-in commands of every server. */
export type Having<C, Name> = Name extends keyof BuiltIns
  ? string extends keyof C ? BuiltIns : Name extends keyof C ? C : BuiltIns
  : C;

/** The method for a name that is given as a value. */
export type Named<C, Name extends string, K extends CallKind> = Name extends keyof Having<C, Name>
  ? WaysOf<Having<C, Name>[Name]>[K]
  : string extends Name ? (
      params?: Record<string, unknown>,
      options?: MaybeItems<K extends "stream" ? StreamOptions : CallOptions>,
    ) => AnyOf<K>
  : "there is no such command";

/** Results of calls whose command name is known only at run time. */
export interface Any {
  /** Of `client.call`. */
  // deno-lint-ignore no-explicit-any -- a name that is known at run time only has no types
  call: Promise<any>;
  /** Of `client.reply`. */
  // deno-lint-ignore no-explicit-any -- the same
  reply: Promise<{ res: any; [field: string]: any }>;
  /** Of `client.outcome`. */
  // deno-lint-ignore no-explicit-any -- the same
  outcome: Promise<Outcome<any, RpcError>>;
  /** Of `client.stream`. */
  // deno-lint-ignore no-explicit-any -- the same
  stream: AsyncGenerator<any, any, void>;
}

/** The result of one kind of call. */
export type AnyOf<K extends CallKind> = Any[K];

/** The parameters of a function. For another type, such as the text of a mistake, one argument of that type. */
export type ArgumentsOf<F> = F extends (...args: infer Args) => unknown ? Args : [F];
/** What a function returns. */
export type Returned<F> = F extends (...args: infer _Args) => infer Result ? Result : never;

/** A module that exports its commands by this name, as in `import type * as server from "./server.ts"`. */
export interface Service {
  /** The commands. */
  readonly commands: Commands;
}

/** Commands by these names. Unlike {@linkcode Commands}, this also takes an interface, which has no index signature. */
export type Listed<C> = Readonly<Record<keyof C, AnyCommand>>;

/** Commands, or the type of a module that exports them. An editor shows a module by its name, however many it has. */
export type Served<C> = Listed<C> | Service;

/** The commands themselves. */
export type CommandsOf<C> = C extends Service ? C["commands"] : C;

/** The calls of a client. */
export type CallsOf<C, K extends CallKind> = ByName<CommandsOf<C>, K>;

/** Calls by a command's name: as a method, `client.call.GREET(...)`, or by a name that is known at run time. */
export type ByName<C, K extends CallKind> =
  & Methods<string extends keyof C ? BuiltIns : Omit<BuiltIns, keyof C>, K>
  & Methods<C, K>
  & (<Name extends string>(name: Name, ...args: ArgumentsOf<Named<C, Name, K>>) => Returned<Named<C, Name, K>>);
