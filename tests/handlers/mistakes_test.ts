/**
 * What the compiler says to definitions that cannot work: its first line tells what to do. All are checked at once, as one
 * program of one definition a line.
 */

import { assert, assertEquals } from "@std/assert";

/** What is written before the definitions. */
const PROLOGUE = `
  import { bytes, command, middleware, reply, type StandardSchema, tracked, unchecked } from "${new URL(
  "../../mod.ts",
  import.meta.url,
)}";
  declare const schema: StandardSchema<{ name: string }, { name: string }>;
  declare const text: StandardSchema<string, string>;
  declare const seen: StandardSchema<{ at: string }, { at: Date }>;
  declare const moment: StandardSchema<{ at: Date }, { at: Date }>;
  declare const named: StandardSchema<{ name: string } | undefined>;
  declare const nothing: StandardSchema<void>;
  declare const wide: StandardSchema<{ id?: string | null; name?: string | null; email?: string | null; age?: number | null; role?: "user" | "admin" | null; tags?: readonly string[] | null; notes?: Record<string, unknown> | null; meta: string }>;
  declare function rows(): AsyncGenerator<number, void>;
  interface Params { a: number; any: any; unknown?: unknown; deep: { list: Params[] } }
`.trim().split("\n").map((line) => line.trim()).join(" ");

/** Definitions that work, to be sure that what is refused is refused for its mistake. */
const RIGHT = [
  `command(() => ({ at: new Date().getTime() }))`,
  `command(async function* () { yield [new Uint8Array(1), 1n, null, undefined, "x", true]; })`,
  `command(() => reply({ list: [1] }, { slept: 1, res: 2 }))`,
  `command(({ a }: { a: number }) => a + 1)`,
  `command({ handler: ({ a }: { a: number }) => a + 1 })`,
  `command({ schema, number: 16, params: ["name"], handler: ({ name }) => name })`,
  `command.with(middleware((_call, next) => next({ user: 1 })))((_params: object, { user }) => user)`,
  `command(() => {})`,
  `command(() => { throw new Error("always"); })`,
  `command(({ any }: { any: unknown }) => any)`,
  `command({ items: bytes, handler: async (_: object, { items }) => { let n = 0; for await (const chunk of items) n += chunk.length; return n; } })`,
  `command({ items: bytes, handler: async (_: object, { items }) => new Blob(await Array.fromAsync(items)).size })`,
  `command({ result: bytes, handler: (): Uint8Array<ArrayBufferLike> => new Uint8Array(1) })`,
  `command({ items: unchecked<string>(), async *handler(_: object, { items }) { for await (const line of items) yield line.length; } })`,
  `command({ schema, items: text, handler: async ({ name }, { items }) => { for await (const line of items) name.concat(line); } })`,
  `command.with(middleware((_call, next) => next({ user: 1 })))({ items: text, async *handler(_: object, { items, user }) { for await (const line of items) yield line.at(user); } })`,
  `command((_: object, { items }) => items === undefined)`,
  `command(async function* ({ after = 0 }: { after?: number }) { yield tracked(after + 1, "x"); yield "no id"; })`,
  `command(async function* ({ after = "" }: { a: 1; after?: string }) { yield tracked(after, [1]); return 1; })`,
  `command(async function* (_: any) { yield tracked(1, 1); })`,
  `command({ result: text, handler: () => "x" })`,
  `command({ result: text, handler: async () => reply("x", { slept: 1 }) })`,
  `command({ result: text, async *handler({ after = 0 }: { after?: number }) { yield tracked(after, "x"); yield "y"; } })`,
  `command({ result: text, handler: (): string => { throw new Error("always"); } })`,
  `command({ schema, result: text, handler: ({ name }) => name })`,
  `command({ schema, result: text, async handler({ name }, { signal }) { signal.throwIfAborted(); return name; } })`,
  `command({ items: text, result: text, async *handler(_: object, { items }) { yield* items; } })`,
  `command({ result: unchecked<null>({ type: "null" }), handler: () => {} })`,
  `command({ schema: seen, handler: ({ at }) => at.getTime() })`,
  `command(({ a, list }: { a?: "x" | 1n; list: readonly { b: Uint8Array | null }[] }) => [a, list.length])`,
  `command((_: Params) => 1)`,
  `command((_: { [name: string]: unknown; a: number }) => 1)`,
  `command({ errors: { GONE: null, FULL: schema }, handler: () => 1 })`,
  `command({ result: schema as StandardSchema, stream: true, handler: () => new ReadableStream<number>() })`,
  `command({ result: seen, handler: () => ({ at: "2026-11-30" }) })`,
  `command({ errors: { LATE: seen }, handler: () => 1 })`,
  `command(({ a = 1 }: { a?: number } = {}) => a)`,
  `command(async function* (): AsyncGenerator<number> { yield 1; })`,
  `command(async function* () { yield* rows(); return reply([1], { a: 1 }); })`,
  `command.with((call, next) => call.meta.a ? next({ user: undefined }) : next({ user: "Ada" }))((_: object, { user }) => user?.at(0))`,
  `command.with(middleware(async (call, next) => call.meta.a ? reply(1, {}) : await next({ user: "Ada" })))((_: object, { user }) => user.at(0))`,
  `command.with(middleware<{ user: string }>((_call, next) => next({ user: "Ada" })))((_: object, { user }) => user.at(0))`,
  `command.with<{ user: string }>((_call, next) => next({ user: "Ada" }))((_: object, { user }) => user.at(0))`,
  `middleware((call, next) => next(call.meta))`,
  `command((): { name: string; message: string }[] => [])`,
  `command(async function* () { yield JSON.parse("1"); })`,
  `command(async function* (): AsyncGenerator<any, any> { yield 1; })`,
  `command((): AsyncIterable<any> => rows())`,
  `command(() => reply(JSON.parse("1"), { slept: JSON.parse("1") }))`,
  `command({ result: text, handler: () => JSON.parse("1") })`,
  `command({ result: text, async *handler() { yield JSON.parse("1"); } })`,
  `command({ schema: schema as StandardSchema<any, any>, handler: (params) => params.name })`,
  `command({ items: unchecked<any>(), handler: async (_: object, { items }) => { for await (const item of items) item.name; } })`,
  `command({ errors: { GONE: unchecked<any>() }, handler: () => 1 })`,
  `command.with(() => reply(1, {}))((_: object, { command }) => command)`,
];

const A_DATE = "is a Date: use a number, by getTime(), or a text, by toISOString()";
const AN_OBJECT = "take an object with a name for each";

const MISFIT =
  "the result does not fit the schema in the option result: write the return type of the handler to see where";

const CODES =
  "the option errors is an object of codes: write { GONE: null }, or a schema for the data in place of null";

/** Definitions that do not, each with what the compiler says. */
const WRONG: [code: string, ...said: string[]][] = [
  [
    `command(() => ({ at: new Date() }))`,
    `Argument of type '() => { at: Date; }' is not assignable to parameter of type '"the result.at ${A_DATE}" & (Handler<TheParametersNeedAType, { at: Date; }, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => ({ items: [{ when: new Date() }] }))`,
    `Argument of type '() => { items: { when: Date; }[]; }' is not assignable to parameter of type '"the result.items[].when ${A_DATE}" & (Handler<TheParametersNeedAType, { items: { when: Date; }[]; }, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ handler: async () => ({ at: new Date() as Date | undefined }) })`,
    `Argument of type '{ handler: () => Promise<{ at: Date | undefined; }>; }' is not assignable to parameter of type '"the result.at ${A_DATE}" & (Handler<TheParametersNeedAType, Promise<{ at: Date | undefined; }>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(async function* () { yield new Date(); })`,
    `Argument of type '() => AsyncGenerator<Date, void, unknown>' is not assignable to parameter of type '"an item ${A_DATE}" & (Handler<TheParametersNeedAType, AsyncGenerator<Date, void, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => new Map([["a", 1]]))`,
    `Argument of type '() => Map<string, number>' is not assignable to parameter of type '"the result is a Map or a Set: use an array or an object" & (Handler<TheParametersNeedAType, Map<string, number>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => [new Set([1])])`,
    `Argument of type '() => Set<number>[]' is not assignable to parameter of type '"the result[] is a Map or a Set: use an array or an object" & (Handler<TheParametersNeedAType, Set<number>[], unknown, never> | Definition<unknown, TheParametersNeedAType, ... 5 more ..., unknown>)'.`,
  ],
  [
    `command(async () => ({ f: () => 1 }))`,
    `Argument of type '() => Promise<{ f: () => number; }>' is not assignable to parameter of type '"the result.f is a function, which cannot be sent" & (Handler<TheParametersNeedAType, Promise<{ f: () => number; }>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => ({ later: Promise.resolve(1) }))`,
    `Argument of type '() => { later: Promise<number>; }' is not assignable to parameter of type '"the result.later is a promise: await it" & (Handler<TheParametersNeedAType, { later: Promise<number>; }, unknown, never> | Definition<unknown, TheParametersNeedAType, ... 5 more ..., unknown>)'.`,
  ],
  [
    `command(() => Symbol("x"))`,
    `Argument of type '() => symbol' is not assignable to parameter of type '"the result is a symbol, which cannot be sent" & (Handler<TheParametersNeedAType, symbol, unknown, never> | Definition<unknown, TheParametersNeedAType, ... 5 more ..., unknown>)'.`,
  ],
  [
    `command(() => new Float64Array(1))`,
    `Argument of type '() => Float64Array<ArrayBuffer>' is not assignable to parameter of type '"the result is bytes of another class: use a Uint8Array" & (Handler<TheParametersNeedAType, Float64Array<ArrayBuffer>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(function* () { yield 1; })`,
    `Argument of type '() => Generator<number, void, unknown>' is not assignable to parameter of type '"the result is a generator: make it an async one, for a stream" & (Handler<TheParametersNeedAType, Generator<number, void, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => reply(new Date(), { slept: 1 }))`,
    `Argument of type '() => ReplyWith<Date, { slept: number; }>' is not assignable to parameter of type '"the result ${A_DATE}" & (Handler<TheParametersNeedAType, ReplyWith<Date, { slept: number; }>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => reply(1, { at: new Date() }))`,
    `Argument of type '() => ReplyWith<number, { at: Date; }>' is not assignable to parameter of type '"the field at ${A_DATE}" & (Handler<TheParametersNeedAType, ReplyWith<number, { at: Date; }>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => reply(1, { seq: 5 }))`,
    `Argument of type '() => ReplyWith<number, { seq: number; }>' is not assignable to parameter of type '"a field must not be named \\"seq\\": the protocol uses this name" & (Handler<TheParametersNeedAType, ReplyWith<number, { seq: number; }>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command((list: number[]) => list.length)`,
    `Argument of type '(list: number[]) => number' is not assignable to parameter of type '"the parameters are an array: ${AN_OBJECT}" & (Handler<number[], number, unknown, never> | Definition<unknown, number[], number, never, unknown, never, never, unknown>)'.`,
  ],
  [
    `command((name: string) => name)`,
    `Argument of type '(name: string) => string' is not assignable to parameter of type '"the parameters are a single value: ${AN_OBJECT}" & (Handler<string, string, unknown, never> | Definition<unknown, string, string, never, unknown, never, never, unknown>)'.`,
  ],
  [
    `command({ schema: text, handler: (value) => value.length })`,
    `Argument of type '{ schema: StandardSchema<string, string>; handler: (value: string) => number; }' is not assignable to parameter of type '"the parameters are a single value: ${AN_OBJECT}" & (Handler<string, unknown, unknown, never> | Definition<string, string, unknown, never, unknown, never, never, unknown>)'.`,
  ],
  [
    `command(({ cmd }: { cmd: string }) => cmd)`,
    `Argument of type '({ cmd }: { cmd: string; }) => string' is not assignable to parameter of type '"a parameter must not be named \\"cmd\\": the protocol uses this name" & (Handler<{ cmd: string; }, string, unknown, never> | Definition<unknown, { cmd: string; }, string, never, unknown, never, never, unknown>)'.`,
  ],
  [
    `command(({ $a }: { $a: string }) => $a)`,
    `Argument of type '({ $a }: { $a: string; }) => string' is not assignable to parameter of type '"a parameter must not be named \\"$a\\": the protocol uses this name" & (Handler<{ $a: string; }, string, unknown, never> | Definition<unknown, { $a: string; }, string, never, unknown, never, never, unknown>)'.`,
  ],
  [
    `command({ items: unchecked<Date>(), handler: (_: object) => 1 })`,
    `Argument of type '{ items: StandardSchema<Date, Date>; handler: (_: object) => number; }' is not assignable to parameter of type '"the caller's item ${A_DATE}" & (Handler<object, number, unknown, never> | Definition<unknown, object, number, never, unknown, Date, Date, unknown>)'.`,
  ],
  [
    `command({ items: unchecked<{ f: () => void }>(), handler: (_: object) => 1 })`,
    `Argument of type '{ items: StandardSchema<{ f: () => void; }, { f: () => void; }>; handler: (_: object) => number; }' is not assignable to parameter of type '"the caller's item.f is a function, which cannot be sent" & (Handler<object, number, unknown, never> | Definition<unknown, object, number, never, unknown, { f: () => void; }, { f: () => void; }, unknown>)'.`,
  ],
  [
    `command({ items: text, handler: async (_: object, { items }) => { for await (const line of items) line.nope; } })`,
    `Property 'nope' does not exist on type 'string'.`,
  ],
  [
    `command(async (_: object, { items }) => { for await (const line of items) void line; })`,
    `'items' is possibly 'undefined'.`,
  ],
  [
    `command(async function* () { yield tracked(1, "x"); })`,
    `Argument of type '() => AsyncGenerator<Tracked<1, string>, void, unknown>' is not assignable to parameter of type '"the items are tracked: take the parameter after?, of the type of their ids, and resume after it" & (Handler<TheParametersNeedAType, AsyncGenerator<Tracked<1, string>, void, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(async function* (_: { a: number }) { yield tracked(1, "x"); })`,
    `Argument of type '(_: { a: number; }) => AsyncGenerator<Tracked<1, string>, void, unknown>' is not assignable to parameter of type '"the items are tracked: take the parameter after?, of the type of their ids, and resume after it" & (Handler<{ a: number; }, AsyncGenerator<Tracked<1, string>, void, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(async function* ({ after = "" }: { after?: string }) { yield tracked(after.length, "x"); })`,
    `Argument of type '({ after }: { after?: string; }) => AsyncGenerator<Tracked<number, string>, void, unknown>' is not assignable to parameter of type '"the parameter after is of another type than the ids of the items" & (Handler<{ after?: string | undefined; }, AsyncGenerator<Tracked<number, string>, void, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(async function* ({ after = 1 }: { after?: number }) { yield tracked(after, new Date()); })`,
    `Argument of type '({ after }: { after?: number; }) => AsyncGenerator<Tracked<number, Date>, void, unknown>' is not assignable to parameter of type '"an item ${A_DATE}" & (Handler<{ after?: number | undefined; }, AsyncGenerator<Tracked<number, Date>, void, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => tracked(1, "x"))`,
    `Argument of type '() => Tracked<1, string>' is not assignable to parameter of type '"the result is tracked: only an item of a stream can be" & (Handler<TheParametersNeedAType, Tracked<1, string>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ timeout: 5, handler: () => 1 })`,
    `Object literal may only specify known properties, but 'timeout' does not exist in type 'Definition<unknown, TheParametersNeedAType, number, never, unknown, never, never, unknown>'. Did you mean to write 'timeoutMs'?`,
  ],
  [
    `command({ sumary: "x", handler: () => 1 })`,
    `Object literal may only specify known properties, but 'sumary' does not exist in type 'Definition<unknown, TheParametersNeedAType, number, never, unknown, never, never, unknown>'. Did you mean to write 'summary'?`,
  ],
  [
    `command(({ a }) => a + 1)`,
    `Property 'a' does not exist on type 'TheParametersNeedAType'.`,
  ],
  [
    `command({ handler: ({ a }) => a + 1 })`,
    `Property 'a' does not exist on type 'TheParametersNeedAType'.`,
  ],
  [
    `command({ schema, handler: ({ nam }) => nam })`,
    `Property 'nam' does not exist on type '{ name: string; }'.`,
  ],
  [
    `command({ number: "16", handler: () => 1 })`,
    `Type 'string' is not assignable to type 'number'.`,
  ],
  [
    `command({ summary: "x" })`,
    `Argument of type '{ summary: string; }' is not assignable to parameter of type 'Handler<TheParametersNeedAType, unknown, unknown, never> | Definition<unknown, TheParametersNeedAType, unknown, never, unknown, never, never, unknown>'.`,
    `Property 'handler' is missing in type '{ summary: string; }' but required in type 'Definition<unknown, TheParametersNeedAType, unknown, never, unknown, never, never, unknown>'.`,
  ],
  [
    `command({ handler: 5 })`,
    `Type 'number' is not assignable to type 'Handler<TheParametersNeedAType, unknown, unknown, never>'.`,
  ],
  [
    `command({ params: ["plaec"], handler: ({ place }: { place: string }) => place })`,
    `Type '"plaec"' is not assignable to type '"place"'.`,
  ],
  [
    `command.with(middleware((_call, next) => next({ user: 1 })))((_params: object, { usr }) => usr)`,
    `Property 'usr' does not exist on type 'Context<AsyncIterable<unknown> | undefined> & { user: number; }'.`,
  ],
  [
    `command({ result: text, handler: () => 1 })`,
    `Argument of type '{ result: StandardSchema<string, string>; handler: () => number; }' is not assignable to parameter of type '"${MISFIT}" & (Handler<TheParametersNeedAType, number, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ result: text, async *handler() { yield 1; } })`,
    `Argument of type '{ result: StandardSchema<string, string>; handler(): AsyncGenerator<number, void, unknown>; }' is not assignable to parameter of type '"${MISFIT}" & (Handler<TheParametersNeedAType, AsyncGenerator<...>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ schema, result: text, handler: ({ name }) => name.length })`,
    `Argument of type '{ schema: StandardSchema<{ name: string; }, { name: string; }>; result: StandardSchema<string, string>; handler: ({ name }: { name: string; }) => number; }' is not assignable to parameter of type '"${MISFIT}" & (Handler<{ name: string; }, number, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ result: text, handler: (): string => 1 })`,
    `Type 'number' is not assignable to type 'string'.`,
  ],
  [
    `command({ schema: moment, handler: ({ at }) => at.getTime() })`,
    `Argument of type '{ schema: StandardSchema<{ at: Date; }, { at: Date; }>; handler: ({ at }: { at: Date; }) => number; }' is not assignable to parameter of type '"the parameter at ${A_DATE}" & (Handler<{ at: Date; }, unknown, unknown, never> | Definition<{ at: Date; }, { at: Date; }, ... 5 more ..., unknown>)'.`,
  ],
  [
    `command(({ at }: { at: Date }) => String(at))`,
    `Argument of type '({ at }: { at: Date; }) => string' is not assignable to parameter of type '"the parameter at ${A_DATE}" & (Handler<{ at: Date; }, string, unknown, never> | Definition<unknown, { at: Date; }, ... 5 more ..., unknown>)'.`,
  ],
  [
    `command(({ m }: { m: Map<string, number> }) => m.size)`,
    `Argument of type '({ m }: { m: Map<string, number>; }) => number' is not assignable to parameter of type '"the parameter m is a Map or a Set: use an array or an object" & (Handler<{ m: Map<string, number>; }, number, unknown, never> | Definition<unknown, { m: Map<string, number>; }, ... 5 more ..., unknown>)'.`,
  ],
  [
    `command(({ f }: { f?: () => void }) => typeof f)`,
    `Argument of type '({ f }: { f?: () => void; }) => "string" | "number" | "bigint" | "boolean" | "symbol" | "undefined" | "object" | "function"' is not assignable to parameter of type '"the parameter f is a function, which cannot be sent" & (Handler<{ f?: (() => void) | undefined; }, "string" | "number" | "bigint" | "boolean" | "symbol" | "undefined" | "object" | "function", unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(({ a }: { a: { list: Date[] } }) => a.list.length)`,
    `Argument of type '({ a }: { a: { list: Date[]; }; }) => number' is not assignable to parameter of type '"the parameter a.list[] ${A_DATE}" & (Handler<{ a: { list: Date[]; }; }, number, unknown, never> | Definition<unknown, { a: { ...; }; }, ... 5 more ..., unknown>)'.`,
  ],
  [
    `command({ errors: ["GONE"], handler: () => 1 })`,
    `Argument of type '{ errors: ["GONE"]; handler: () => number; }' is not assignable to parameter of type '"${CODES}" & (Handler<TheParametersNeedAType, number, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ errors: { GONE: "text" }, handler: () => 1 })`,
    `Argument of type '{ errors: { GONE: "text"; }; handler: () => number; }' is not assignable to parameter of type '"${CODES}" & (Handler<TheParametersNeedAType, number, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => fetch("http://localhost"))`,
    `Argument of type '() => Promise<Response>' is not assignable to parameter of type '"the result is a Response or another body: await its text(), json() or bytes()" & (Handler<TheParametersNeedAType, Promise<Response>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => ({ from: new Date(), to: new Date() }))`,
    `Argument of type '() => { from: Date; to: Date; }' is not assignable to parameter of type '"the result.to ${A_DATE}" & (Handler<TheParametersNeedAType, { from: Date; to: Date; }, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ schema: nothing, handler: () => 1 })`,
    `Argument of type '{ schema: StandardSchema<void, void>; handler: () => number; }' is not assignable to parameter of type '"the parameters may be missing, but a handler always gets an object: take one whose fields are all optional" & (Handler<void, number, unknown, never> | Definition<void, ... 6 more ..., unknown>)'.`,
  ],
  [
    `command({ schema: named, handler: (params) => params?.name })`,
    `Argument of type '{ schema: StandardSchema<{ name: string; } | undefined, { name: string; } | undefined>; handler: (params: { name: string; } | undefined) => string | undefined; }' is not assignable to parameter of type '"the parameters may be missing, but a handler always gets an object: take one whose fields are all optional" & (Handler<{ name: string; } | undefined, unknown, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => ({ rows: rows() }))`,
    `Argument of type '() => { rows: AsyncGenerator<number, void, any>; }' is not assignable to parameter of type '"the result.rows is a stream: a stream can only be the whole result, or the option items of a call" & (Handler<TheParametersNeedAType, { rows: AsyncGenerator<number, void, any>; }, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(async function* () { yield rows(); })`,
    `Argument of type '() => AsyncGenerator<AsyncGenerator<number, void, any>, void, unknown>' is not assignable to parameter of type '"an item is a stream: a stream can only be the whole result, or the option items of a call" & (Handler<TheParametersNeedAType, AsyncGenerator<AsyncGenerator<number, void, any>, void, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(async function* () { yield 1; return { at: new Date() }; })`,
    `Argument of type '() => AsyncGenerator<number, { at: Date; }, unknown>' is not assignable to parameter of type '"the final value.at ${A_DATE}" & (Handler<TheParametersNeedAType, AsyncGenerator<number, { at: Date; }, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(async function* () { yield 1; return rows(); })`,
    `Argument of type '() => AsyncGenerator<number, AsyncGenerator<number, void, any>, unknown>' is not assignable to parameter of type '"the final value is a stream: a stream can only be the whole result, or the option items of a call" & (Handler<TheParametersNeedAType, AsyncGenerator<number, AsyncGenerator<...>, unknown>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(() => reply(rows(), { count: 1 }))`,
    `Argument of type '() => ReplyWith<AsyncGenerator<number, void, any>, { count: number; }>' is not assignable to parameter of type '"a result with fields beside it is a stream: a stream can only be the whole result, or the option items of a call" & (Handler<TheParametersNeedAType, ReplyWith<...>, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(({ file }: { file: ReadableStream<Uint8Array> }) => file.locked)`,
    `Argument of type '({ file }: { file: ReadableStream<Uint8Array>; }) => boolean' is not assignable to parameter of type '"the parameter file is a stream: a stream can only be the whole result, or the option items of a call" & (Handler<{ file: ReadableStream<Uint8Array<ArrayBufferLike>>; }, boolean, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command(({ all }: { all: boolean }) => all ? rows() : "nothing")`,
    `Argument of type '({ all }: { all: boolean; }) => AsyncGenerator<number, void, any> | "nothing"' is not assignable to parameter of type '"the result is sometimes a stream and sometimes a single value: make it always a stream, or two commands" & (Handler<{ all: boolean; }, AsyncGenerator<number, void, any> | "nothing", unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ result: seen, handler: () => ({ at: 5 }) })`,
    `Argument of type '{ result: StandardSchema<{ at: string; }, { at: Date; }>; handler: () => { at: number; }; }' is not assignable to parameter of type '"${MISFIT}" & (Handler<TheParametersNeedAType, { ...; }, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ errors: { GONE: moment }, handler: () => 1 })`,
    `Argument of type '{ errors: { GONE: StandardSchema<{ at: Date; }, { at: Date; }>; }; handler: () => number; }' is not assignable to parameter of type '"the data of GONE.at ${A_DATE}" & (Handler<TheParametersNeedAType, number, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command.with((call, next) => call.meta.a ? next() : next({ user: "Ada" }))((_: object, { user }) => user)`,
    `Property 'user' does not exist on type 'Context<AsyncIterable<unknown> | undefined>'.`,
  ],
  [
    `middleware((_call, next) => next({ user: 1, signal: AbortSignal.timeout(5) }))`,
    `Type 'AbortSignal' is not assignable to type '"every context has this name already"'.`,
  ],
  [
    `command(() => new RangeError("too far"))`,
    `Argument of type '() => RangeError' is not assignable to parameter of type '"the result is an Error, which cannot be sent: throw an RpcError, or use its message" & (Handler<TheParametersNeedAType, RangeError, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ result: nothing, handler: () => {} })`,
    `Argument of type '{ result: StandardSchema<void, void>; handler: () => void; }' is not assignable to parameter of type '"a handler without a value answers null: use the schema of null as result" & (Handler<TheParametersNeedAType, void, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command({ schema: wide, handler: (params) => params.id ?? null })`,
    `Argument of type '{ schema: StandardSchema<{ id?: string | null | undefined; name?: string | null | undefined; email?: string | null | undefined; age?: number | null | undefined; role?: "user" | "admin" | null | undefined; tags?: readonly string[] | ... 1 more ... | undefined; notes?: Record<...> | ... 1 more ... | undefined; meta: s...' is not assignable to parameter of type '"a parameter must not be named \\"meta\\": the protocol uses this name" & (Handler<{ id?: string | null | undefined; name?: string | null | undefined; email?: string | null | undefined; ... 4 more ...; meta: string; }, unknown, unknown, never> | Definition<...>)'.`,
  ],
  [
    `command("GREET")`,
    `Argument of type 'string' is not assignable to parameter of type 'Handler<TheParametersNeedAType, unknown, unknown, never> | Definition<unknown, TheParametersNeedAType, unknown, never, unknown, never, never, unknown>'.`,
  ],
];

interface Said {
  line: number;
  text: string[];
}

/** What the compiler says, by line of the program. */
async function compilerOn(definitions: string[]): Promise<Said[]> {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/definitions.ts`;
    await Deno.writeTextFile(path, [PROLOGUE, ...definitions].join("\n"));
    const { stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["check", "--quiet", "--config", new URL("../../deno.json", import.meta.url).pathname, path],
      env: { NO_COLOR: "1" },
      stdout: "null",
      stderr: "piped",
    }).output();
    return saidIn(new TextDecoder().decode(stderr), definitions);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Each diagnostic is its text, the line of the program, a line of marks, and the place. */
function saidIn(output: string, definitions: string[]): Said[] {
  return output.split(/^TS\d+ \[ERROR\]: /m).slice(1).map((diagnostic) => {
    const lines = diagnostic.split("\n");
    const line = Number(diagnostic.match(/definitions\.ts:(\d+):\d+/)?.[1]) - 2;
    return { line, text: lines.slice(0, lines.indexOf(definitions[line])) };
  });
}

Deno.test("mistakes - what works compiles, and each wrong definition is told its own mistake in three lines at most", async () => {
  const said = await compilerOn([...RIGHT, ...WRONG.map(([code]) => code)]);
  assertEquals(said.filter(({ line }) => line < RIGHT.length), []);
  assertEquals(
    said.map(({ line, text }) => {
      const [code, ...expected] = WRONG[line - RIGHT.length];
      return [code, ...text.slice(0, expected.length).map((each) => each.trim())];
    }),
    WRONG,
  );
  for (const { text } of said) assert(text.length <= 3, text.join("\n"));
});
