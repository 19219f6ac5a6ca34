/**
 * Compiler messages for definitions that cannot work. Each is one line that says what to do.
 *
 * In: the types of the parameters, of the result and its schema, of the errors, and of the caller's items. Out: `unknown` for a
 * definition that works, else a text. Refused: nothing.
 */

import type { ReplyWith } from "./reply.ts";
import type { SchemaInput, StandardSchema } from "./standard_schema.ts";
import type { Tracked } from "./tracked.ts";

/** How deep a value is checked, because a type may contain itself. */
export type Deeper = [0, 0, 0, 0, 0];

/** Whether a type is `any`. */
export type IsAny<T> = 0 extends 1 & T ? true : false;

/** Collections of keys. */
export type Collection =
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | WeakMap<WeakKey, unknown>
  | WeakSet<WeakKey>;

/** Whether a type is an error. Without a stack, it is an object that has a name and a message. */
export type IsError<T> = T extends Error ? "stack" extends keyof T ? true : false : false;

/** Values that the wire carries. A type that is assignable needs no closer look, which saves time with many commands. */
export type Sendable =
  | string
  | number
  | boolean
  | bigint
  | null
  | undefined
  | Uint8Array
  | readonly Sendable[]
  | { readonly [name: string]: Sendable };

/** Parameters that the wire carries. */
export type SendableParams = { readonly [name: string]: Sendable } & { readonly [Name in Reserved]?: never };

/** What is wrong with a value, or with a part of it. */
export type ValueMistake<T, Where extends string, Depth extends unknown[] = Deeper> = IsAny<T> extends true ? never
  : T extends Sendable ? never
  : T extends Date ? `${Where} is a Date: use a number, by getTime(), or a text, by toISOString()`
  : T extends Collection ? `${Where} is a Map or a Set: use an array or an object`
  : T extends symbol ? `${Where} is a symbol, which cannot be sent`
  : T extends (...args: never) => unknown ? `${Where} is a function, which cannot be sent`
  : IsError<T> extends true ? `${Where} is an Error, which cannot be sent: throw an RpcError, or use its message`
  : T extends RegExp | URL | URLSearchParams ? `${Where} is an object of a class: use a text`
  : T extends Response | Request | Blob ? `${Where} is a Response or another body: await its text(), json() or bytes()`
  : T extends PromiseLike<unknown> ? `${Where} is a promise: await it`
  : T extends Generator<unknown, unknown, never> ? `${Where} is a generator: make it an async one, for a stream`
  : T extends ArrayBufferView | ArrayBuffer ? `${Where} is bytes of another class: use a Uint8Array`
  : T extends Tracked<number | string, unknown> ? `${Where} is tracked: only an item of a stream can be`
  : T extends ReplyWith<infer Value, infer Beside> ? WholeMistake<Value, Where, Depth> | BesideMistake<Beside, Depth>
  : Depth extends [unknown, ...infer Rest] ? PartMistake<T, Where, Rest>
  : never;

/** What the compiler shows for a stream within a value. */
export type StreamMistake<Where extends string> =
  `${Where} is a stream: a stream can only be the whole result, or the option items of a call`;

/** What is wrong with a result that has fields beside it. */
export type WholeMistake<Value, Where extends string, Depth extends unknown[]> = IsAny<Value> extends true ? never
  : Value extends AsyncIterable<unknown> ? StreamMistake<"a result with fields beside it">
  : ValueMistake<Value, Where, Depth>;

/** What is wrong with a part of a value. */
export type PartMistake<T, Where extends string, Depth extends unknown[]> = T extends AsyncIterable<infer Item>
  ? Where extends "the result" ? ValueMistake<Untracked<Item>, "an item", Depth> | LastMistake<T, Depth>
  : StreamMistake<Where>
  : T extends readonly (infer Item)[] ? ValueMistake<Item, `${Where}[]`, Depth>
  : T extends object
    ? { [Name in keyof T & string]: ValueMistake<T[Name], `${Where}.${Name}`, Depth> }[keyof T & string]
  : never;

/** What is wrong with the value that a generator returns after its items. */
export type LastMistake<T, Depth extends unknown[]> = T extends AsyncGenerator<unknown, infer Last, infer _Next>
  ? ValueMistake<Last, "the final value", Depth>
  : never;

/** A result that is a stream, or not, as the handler decides. A caller must know before which method to use. */
export type SometimesMistake<Result> = IsAny<Result> extends true ? never
  : [Extract<Result, AsyncIterable<unknown>>] extends [never] ? never
  : [Exclude<Result, AsyncIterable<unknown>>] extends [never] ? never
  : "the result is sometimes a stream and sometimes a single value: make it always a stream, or two commands";

/** What is wrong with the fields beside a result. */
export type BesideMistake<T, Depth extends unknown[]> =
  | { [Name in keyof T & string]: ValueMistake<T[Name], `the field ${Name}`, Depth> }[keyof T & string]
  | (Extract<keyof T, ReservedField> extends never ? never
    : `a field must not be named "${Extract<keyof T, ReservedField> & string}": the protocol uses this name`);

/** The names that fields beside a result must not have, because the protocol uses them. */
export type ReservedField = "seq" | "err" | "msg" | "data" | "more" | `$${string}`;

/** The names that parameters must not have, because the protocol uses them. */
export type Reserved = "cmd" | "seq" | "ttl" | "meta" | "credit" | `$${string}`;

/** What is wrong with parameters. */
export type ParamsMistake<T> = IsAny<T> extends true ? never
  : unknown extends T ? never
  : Record<never, never> extends Exclude<T, undefined | void> ? NamedMistake<Exclude<T, undefined | void>>
  : [Extract<T, undefined | void>] extends [never] ? NamedMistake<T>
  : "the parameters may be missing, but a handler always gets an object: take one whose fields are all optional";

/** What is wrong with parameters that are never missing. */
export type NamedMistake<T> = T extends readonly unknown[]
  ? "the parameters are an array: take an object with a name for each"
  : T extends string | number | boolean | bigint | null | symbol | Uint8Array
    ? "the parameters are a single value: take an object with a name for each"
  : [Extract<keyof T, Reserved>] extends [never]
    ? { [Name in keyof T & string]: ValueMistake<T[Name], `the parameter ${Name}`> }[keyof T & string]
  : `a parameter must not be named "${Extract<keyof T, Reserved> & string}": the protocol uses this name`;

/** An item without its id. */
export type Untracked<Item> = Item extends Tracked<number | string, infer Value> ? Value : Item;

/** The ids of a stream's items. */
export type IdOf<Result> = Result extends AsyncIterable<infer Item>
  ? IsAny<Item> extends true ? never : Item extends Tracked<infer Id, unknown> ? Id : never
  : never;

/** What is wrong with the parameters of a command whose items have ids. */
export type AfterMistake<Params, Result> = IsAny<Params> extends true ? never
  : IsAny<Result> extends true ? never
  : [IdOf<Result>] extends [never] ? never
  : "after" extends keyof Params ? [IdOf<Result>] extends [Params["after" & keyof Params]] ? never : WrongAfter
  : NoAfter;

/** What the compiler shows if a stream with ids has no parameter `after`. */
export type NoAfter = "the items are tracked: take the parameter after?, of the type of their ids, and resume after it";
/** What the compiler shows if the parameter `after` cannot hold such an id. */
export type WrongAfter = "the parameter after is of another type than the ids of the items";

/** The type of a handler's result, or of each item of its stream. */
export type Answered<Result> = Result extends AsyncIterable<infer Item> ? Untracked<Item>
  : Result extends ReplyWith<infer Value, infer _Beside> ? Value
  : Result extends undefined | void ? null
  : Result;

/** A result that does not fit its schema. */
export type MisfitMistake<Result, Described> = unknown extends Result | Described ? never
  : [Answered<Result>] extends [Described] ? never
  : [Described] extends [undefined | void] ? "a handler without a value answers null: use the schema of null as result"
  : "the result does not fit the schema in the option result: write the return type of the handler to see where";

/** What `errors` must be. A comparison of whole schemas would take long with many commands. */
export type Codes = { readonly [code: string]: { readonly "~standard": object } | null };

/** The same, with data that the wire carries. A type that is assignable needs no closer look. */
export type SendableCodes = {
  readonly [code: string]: { readonly "~standard": { readonly types?: { readonly input: Sendable } } } | null;
};

/** The data of an error with this schema, as it is sent. Nothing converts it. */
export type DataOf<Schema> = Schema extends StandardSchema ? SchemaInput<Schema> : undefined;

/** What is wrong with the codes of errors, or with their data. */
export type ErrorsMistake<Errors> = unknown extends Errors ? never
  : [Errors] extends [Codes]
    ? { [Code in keyof Errors & string]: ValueMistake<DataOf<Errors[Code]>, `the data of ${Code}`> }[
      keyof Errors & string
    ]
  : "the option errors is an object of codes: write { GONE: null }, or a schema for the data in place of null";

/** The first text that is not `never`. */
export type Either<Text, Otherwise> = [Text] extends [never] ? Otherwise : OneOf<Text>;

/** One of several texts, so that the compiler's message is short. Of overloads, the compiler infers from the last. */
export type OneOf<Text> = (Text extends unknown ? (take: () => Text) => void : never) extends (take: infer All) => void
  ? All extends () => infer One ? One : never
  : never;

/**
 * `unknown` for a definition that works, else its first mistake. Most definitions pass the first comparison, and the
 * compiler then does no more work for them. While it infers a handler's parameters, the result is `unknown`.
 */
export type Mistake<Params, Result, Errors = never, SentItem = never, Described = unknown> =
  [Params, Result, Errors, SentItem, unknown] extends
    [SendableParams, unknown extends Result ? unknown : void | Sendable, SendableCodes, Sendable, Described] ? unknown
    : Either<
      ParamsMistake<Params>,
      Either<
        ValueMistake<Result, "the result"> | SometimesMistake<Result>,
        Either<
          AfterMistake<Params, Result>,
          Either<
            MisfitMistake<Result, Described>,
            Either<ErrorsMistake<Errors>, Either<ValueMistake<SentItem, "the caller's item">, unknown>>
          >
        >
      >
    >;
