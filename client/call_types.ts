/**
 * The types that carry a command's parameters, results and errors to its caller.
 *
 * In: the types of commands. Out: the types of the methods of a client. Refused, by the compiler: names, parameters and
 * codes that the commands do not have.
 */

import type { ErrorCode, RpcError } from "../errors.ts";
import type { Command, Commands, ErrorSchemas, ReplyWith } from "../handlers/command.ts";
import type { Untracked } from "../handlers/mistakes.ts";
import type { SchemaOutput, StandardSchema } from "../handlers/standard_schema.ts";
import type { BuiltIns } from "../handlers/registry.ts";
import type { CallOptions, MaybeItems, StreamOptions, WithItems } from "./call_options.ts";

/**
 * Any commands: the type of a client without a type of its commands. A client with typed commands is assignable to it.
 */
// deno-lint-ignore no-explicit-any -- without the types of commands, a caller must not need casts
export type AnyCommands = any;

/** The parameters of a command. */
export type ParamsOf<T> = 0 extends 1 & T ? Record<string, unknown>
  : T extends Command<infer Params, infer _Result, infer _Errors, infer _Item> ? Params
  : never;

/** The type of what a handler answers with. */
// deno-lint-ignore no-explicit-any -- see AnyCommands
export type ResultOf<T> = 0 extends 1 & T ? any
  : T extends Command<infer _Params, infer Result, infer _Errors, infer _Item> ? Result
  : never;

/** The codes of a command, with their schemas. */
// deno-lint-ignore no-explicit-any -- see AnyCommands
export type ErrorsOf<T> = 0 extends 1 & T ? any
  : T extends Command<infer _Params, infer _Result, infer Errors, infer _Item> ? Errors
  : never;

/** An item of the stream that a command takes: `never` if it takes no stream, `unknown` if this is not known. */
export type ItemOf<T> = 0 extends 1 & T ? unknown
  : T extends Command<infer _Params, infer _Result, infer _Errors, infer Item> ? Item
  : never;

/** A handler's result as its caller gets it: without the fields beside it, and nil if the handler returns nothing. */
export type Plain<T> = T extends ReplyWith<infer Result, infer _Beside> ? OrNil<Result> : OrNil<T>;

/** `null` in place of `undefined` or `void`. */
export type OrNil<T> = T extends undefined | void ? null : T;

/** The result of a command, as its caller gets it. */
// deno-lint-ignore no-explicit-any -- see AnyCommands
export type ValueOf<T> = 0 extends 1 & ResultOf<T> ? any
  : [ResultOf<T>] extends [never] ? never
  : Plain<ResultOf<T>>;

/** One object type in place of an intersection of several. */
export type Flat<T> = { [Name in keyof T]: T[Name] };

/** The whole reply of a command. */
// deno-lint-ignore no-explicit-any -- see AnyCommands
export type ReplyOf<T> = 0 extends 1 & ResultOf<T> ? { res: any; [field: string]: any }
  : [ResultOf<T>] extends [never] ? never
  : Whole<ResultOf<T>>;

/** A handler's answer with the fields beside it. */
export type Whole<T> = [Extract<T, ReplyWith<unknown, object>>] extends [never] ? { res: OrNil<T> }
  : T extends ReplyWith<infer Result, infer Beside> ? Flat<{ res: OrNil<Result> } & Omit<Beside, "res">>
  : { res: OrNil<T> };

/** An error with known codes and data: a comparison of its `code` determines the type of its `data`. */
export interface Failure<Code extends string, Data> extends RpcError {
  /** The code. */
  readonly code: Code;
  /** The data. */
  readonly data: Data;
}

/** The codes and the data with which a command fails. */
export type FailureOf<T> = 0 extends 1 & ErrorsOf<T> ? RpcError
  :
    | Failure<ErrorCode, unknown>
    | (ErrorsOf<T> extends ErrorSchemas ? {
        [Code in keyof ErrorsOf<T> & string]: Failure<
          Code,
          ErrorsOf<T>[Code] extends StandardSchema ? SchemaOutput<ErrorsOf<T>[Code]> : undefined
        >;
      }[keyof ErrorsOf<T> & string]
      : never);

/**
 * How a call ended: with a result, or with an error whose `code` and `data` have the types that the command declares.
 */
export type Outcome<Value, Failure> = { ok: true; value: Value } | { ok: false; error: Failure };

/** The arguments of a call: the parameters, which are optional if no parameter is required, and the options. */
export type Arguments<Params, Options> = Record<never, never> extends Params ? [params?: Params, options?: Options]
  : [params: Params, options?: Options];

/** The arguments for a command. If the command takes a stream, the option `items` is required. */
export type ArgumentsFor<T, Options> = [ItemOf<T>] extends [never] ? Arguments<ParamsOf<T>, Options>
  : unknown extends ItemOf<T> ? Arguments<ParamsOf<T>, MaybeItems<Options>>
  : [
    params: Record<never, never> extends ParamsOf<T> ? ParamsOf<T> | undefined : ParamsOf<T>,
    options: WithItems<Options, ItemOf<T>>,
  ];

/** Whether a result is a stream. */
export type IsStream<T> = 0 extends 1 & ResultOf<T> ? false
  : [ResultOf<T>] extends [never] ? false
  : ResultOf<T> extends AsyncIterable<unknown> ? true
  : false;

/** A method that accepts no arguments, so that the compiler shows the mistake at the call. */
export type Mistaken<Text extends string> = Text & ((mistake: Text, ...rest: unknown[]) => never);
/** The mistake of `client.stream` for a command with a single reply. */
export type NotAStream = Mistaken<"this command answers once: use client.call">;
/** The mistake of `client.call` for a command that returns a stream. */
export type NotACall = Mistaken<"this command answers with a stream: use client.stream">;

/** The method of `client.call`. */
export type CallOf<T> = IsStream<T> extends true ? NotACall
  : (...args: ArgumentsFor<T, CallOptions>) => Promise<ValueOf<T>>;
/** The method of `client.reply`. */
export type ReplyCallOf<T> = IsStream<T> extends true ? NotACall
  : (...args: ArgumentsFor<T, CallOptions>) => Promise<ReplyOf<T>>;
/** The method of `client.outcome`. */
export type OutcomeCallOf<T> = IsStream<T> extends true ? NotACall
  : (...args: ArgumentsFor<T, CallOptions>) => Promise<Outcome<ValueOf<T>, FailureOf<T>>>;
/** The method of `client.stream`. */
export type StreamOf<T> = 0 extends 1 & ResultOf<T>
  // deno-lint-ignore no-explicit-any -- see AnyCommands
  ? (params?: Record<string, unknown>, options?: MaybeItems<StreamOptions>) => AsyncGenerator<any, any, void>
  : ResultOf<T> extends AsyncGenerator<infer Item, infer Return, infer _Next>
    ? (...args: ArgumentsFor<T, StreamOptions>) => AsyncGenerator<Untracked<Item>, Plain<Return>, void>
  : ResultOf<T> extends AsyncIterable<infer Item>
    ? (...args: ArgumentsFor<T, StreamOptions>) => AsyncGenerator<Untracked<Item>, null, void>
  : NotAStream;

/** Methods by the names of commands, including the built-in commands. */
export interface Methods<C> {
  /** Of `client.call`. */
  call: { readonly [Name in keyof C]: CallOf<C[Name]> };
  /** Of `client.reply`. */
  reply: { readonly [Name in keyof C]: ReplyCallOf<C[Name]> };
  /** Of `client.outcome`. */
  outcome: { readonly [Name in keyof C]: OutcomeCallOf<C[Name]> };
  /** Of `client.stream`. */
  stream: { readonly [Name in keyof C]: StreamOf<C[Name]> };
}

/** The four ways to call. */
export type CallKind = keyof Methods<unknown>;

/** The commands that include a name: the user's own, or the built-in commands of every server. */
export type Having<C, Name> = Name extends keyof BuiltIns
  ? string extends keyof C ? BuiltIns : Name extends keyof C ? C : BuiltIns
  : C;

/** The method for a name that is given as a value. */
export type Named<C, Name extends string, K extends CallKind> = Name extends keyof Having<C, Name>
  ? Methods<Having<C, Name>>[K][Name]
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

/** Calls by a command's name: as a method, `client.call.GREET(...)`, or by a name that is known at run time. */
export type ByName<C extends Commands, K extends CallKind> =
  & Methods<string extends keyof C ? BuiltIns : Omit<BuiltIns, keyof C>>[K]
  & Methods<C>[K]
  & (<Name extends string>(name: Name, ...args: ArgumentsOf<Named<C, Name, K>>) => Returned<Named<C, Name, K>>);
