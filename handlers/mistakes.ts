/**
 * Compiler messages for definitions that cannot work. Each is one line that says what to do.
 *
 * In: the types of the parameters, of the result and its schema, and of the caller's items. Out: `unknown` for a
 * definition that works, else a text. Refused: nothing.
 */

import type { ReplyWith } from "./reply.ts";
import type { Tracked } from "./tracked.ts";

/** How deep a result is checked, because a type may contain itself. */
export type Deeper = [0, 0, 0, 0, 0];

/** Whether a type is `any`. */
export type IsAny<T> = 0 extends 1 & T ? true : false;

/** Collections of keys. */
export type Collection =
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | WeakMap<WeakKey, unknown>
  | WeakSet<WeakKey>;

/** What is wrong with a result, or with a part of it. */
export type ResultMistake<T, Where extends string, Depth extends unknown[] = Deeper> = IsAny<T> extends true ? never
  : T extends string | number | boolean | bigint | null | undefined | Uint8Array ? never
  : T extends Date ? `${Where} is a Date: return a number, by getTime(), or a text, by toISOString()`
  : T extends Collection ? `${Where} is a Map or a Set: return an array or an object`
  : T extends symbol ? `${Where} is a symbol, which cannot be sent`
  : T extends (...args: never) => unknown ? `${Where} is a function, which cannot be sent`
  : T extends RegExp | URL | URLSearchParams ? `${Where} is an object of a class: return a text`
  : T extends PromiseLike<unknown> ? `${Where} is a promise: await it`
  : T extends Generator<unknown, unknown, never> ? `${Where} is a generator: make it an async one, for a stream`
  : T extends ArrayBufferView | ArrayBuffer ? `${Where} is bytes of another class: return a Uint8Array`
  : T extends Tracked<number | string, unknown> ? `${Where} is tracked: only an item of a stream can be`
  : T extends ReplyWith<infer Value, infer Beside> ? ResultMistake<Value, Where, Depth> | BesideMistake<Beside, Depth>
  : Depth extends [unknown, ...infer Rest] ? PartMistake<T, Where, Rest>
  : never;

/** What is wrong with a part of a result. */
export type PartMistake<T, Where extends string, Depth extends unknown[]> = T extends AsyncIterable<infer Item>
  ? ResultMistake<Untracked<Item>, "an item", Depth>
  : T extends readonly (infer Item)[] ? ResultMistake<Item, `${Where}[]`, Depth>
  : T extends object
    ? { [Name in keyof T & string]: ResultMistake<T[Name], `${Where}.${Name}`, Depth> }[keyof T & string]
  : never;

/** What is wrong with the fields beside a result. */
export type BesideMistake<T, Depth extends unknown[]> =
  | { [Name in keyof T & string]: ResultMistake<T[Name], `the field ${Name}`, Depth> }[keyof T & string]
  | (Extract<keyof T, ReservedField> extends never ? never
    : `a field must not be named "${Extract<keyof T, ReservedField> & string}": the protocol uses this name`);

/** The names that fields beside a result must not have, because the protocol uses them. */
export type ReservedField = "seq" | "err" | "msg" | "data" | "more" | `$${string}`;

/** The names that parameters must not have, because the protocol uses them. */
export type Reserved = "cmd" | "seq" | "ttl" | "meta" | "credit" | `$${string}`;

/** What is wrong with parameters. */
export type ParamsMistake<T> = IsAny<T> extends true ? never
  : unknown extends T ? never
  : T extends readonly unknown[] ? "the parameters are an array: take an object with a name for each"
  : T extends string | number | boolean | bigint | null | symbol | Uint8Array
    ? "the parameters are a single value: take an object with a name for each"
  : Extract<keyof T, Reserved> extends never ? never
  : `a parameter must not be named "${Extract<keyof T, Reserved> & string}": the protocol uses this name`;

/** An item without its id. */
export type Untracked<Item> = Item extends Tracked<number | string, infer Value> ? Value : Item;

/** The ids of a stream's items. */
export type IdOf<Result> = Result extends AsyncIterable<infer Item>
  ? Item extends Tracked<infer Id, unknown> ? Id : never
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

/** A result that does not fit its schema. While the compiler infers a handler's parameters, the result is `unknown`. */
export type MisfitMistake<Result, Described> = unknown extends Result | Described ? never
  : [Answered<Result>] extends [Described] ? never
  : "the result does not fit the schema in the option result: write the return type of the handler to see where";

/** Everything that is wrong with a definition. */
export type Mistakes<Params, Result, SentItem, Described> =
  | ParamsMistake<Params>
  | ResultMistake<Result, "the result">
  | AfterMistake<Params, Result>
  | MisfitMistake<Result, Described>
  | ResultMistake<SentItem, "the caller's item">;

/** `unknown` for a definition that works, else what is wrong with it. */
export type Mistake<Params, Result, SentItem = never, Described = unknown> =
  [Mistakes<Params, Result, SentItem, Described>] extends [never] ? unknown
    : Mistakes<Params, Result, SentItem, Described>;
