/**
 * What the compiler says to calls, right and wrong. A wrong one that compiles makes the file fail its check, by an
 * `@ts-expect-error` without an error.
 */

import { assert, assertEquals } from "@std/assert";
import { type CallOptions, type Client, connect, type ConnectOptions } from "../../client.ts";
import { BUILT_IN_NUMBERS } from "../../codec/message.ts";
import type { RpcError } from "../../errors.ts";
import {
  type Command,
  command,
  type Commands,
  type Middleware,
  middleware,
  reply,
  type Tracked,
  tracked,
} from "../../handlers/command.ts";
import type { ServerInfo, ServerStatistics } from "../../handlers/server_info.ts";
import type { StandardSchema } from "../../handlers/standard_schema.ts";
import type { connectInMemory } from "../../testing.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";
import { typesMade } from "../support/types_made.ts";

/** Whether two types are the same, `any` included. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;

/** Compiles only where the types are the same. */
function same<A, B>(_: Same<A, B>): void {}

/** `connectInMemory()` has a server, so no option names another. */
same<
  Extract<keyof Required<Parameters<typeof connectInMemory>>[1], "hostname" | "port" | "path" | "url" | "servers">,
  never
>(true);

const user: StandardSchema<{ name: string }, { name: string; seen: Date }> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: value as never }) },
};

const missing: StandardSchema<{ id: number }, { id: number }> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: value as never }) },
};

const seen: StandardSchema<{ at: string }, { at: Date }> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: value as never }) },
};

interface Point {
  x: number;
  y?: number;
}

interface Place {
  res: Point;
  name: string;
}

type Hole = number | undefined | Tracked<number, string | undefined>;

const commands = {
  PLACE: command({ handler: () => reply({ x: 1 } as Point, { name: "here" }) }),
  FAIL: command({
    handler() {
      throw new Error("always");
    },
  }),
  ADD: command({ number: 16, handler: ({ a, b }: { a: number; b: number }) => a + b }),
  MOVE: command({ handler: (point: Point) => Promise.resolve(reply(point.x, { moved: true })) }),
  GREET: command({ number: 17, handler: ({ name = "you" }: { name?: string }) => `Hello, ${name}!` }),
  BARE: command({ handler: () => null }),
  USER: command({ schema: user, handler: ({ seen }) => seen.getTime() }),
  LIST: command({
    async *handler({ to }: { to: number }) {
      for (let item = 0; item < to; item++) yield { item };
      return "end" as const;
    },
  }),
  NOTHING: command(() => {}),
  MAYBE: command((): number | undefined => undefined),
  NONE_BESIDE: command(() => reply(undefined, { a: 1 })),
  MIXED: command(({ short }: { short: boolean }) => short ? "plain" as const : reply(1 as const, { slept: 2.5 })),
  THENABLE: command(() => ({ then: (resolve: (value: number) => void) => resolve(1) })),
  TOTAL: command(async function* (_params: object) {
    yield "item" as const;
    return reply(1 as number, { slept: 2.5 });
  }),
  READABLE: command(() => new ReadableStream<number>()),
  LATER: command(() => Promise.resolve((async function* (): AsyncGenerator<number, void, void> {})())),
  LOG: command(async function* ({ after = 0 }: { after?: number }) {
    yield tracked(after + 1, "line");
    yield 5;
  }),
  HOLES: command(async function* ({ after = 0 }: { after?: number }): AsyncGenerator<Hole, undefined> {
    yield undefined;
    yield tracked(after + 1, undefined);
  }),
  READABLE_HOLES: command(() => new ReadableStream<number | undefined>()),
  PICTURE: command(async function* (): AsyncGenerator<Uint8Array | undefined, Uint8Array> {
    yield new Uint8Array(1);
    return new Uint8Array(1);
  }),
  THUMBNAIL: command((): Uint8Array | string => new Uint8Array(1)),
  FIND: command({
    errors: { MISSING: missing, GONE: null, SEEN: seen },
    handler: ({ id }: { id: number }) => ({ id }),
  }),
};

// Never called: what is in here only has to compile, or not to.
export async function typed(client: Client<typeof commands>): Promise<void> {
  same<Awaited<ReturnType<typeof add>>, { res: number }>(true);
  const add = () => client.reply("ADD", { a: 1, b: 2 });
  const moved = await client.reply("MOVE", { x: 1 });
  same<typeof moved, { res: number; moved: boolean }>(true);
  const greeted = await client.reply("GREET");
  same<typeof greeted.res, string>(true);
  await client.reply("GREET", {}, { timeoutMs: 5, signal: AbortSignal.timeout(5), meta: { a: "b" }, idempotent: true });
  await client.reply("BARE");
  await client.reply("BARE", {});
  await client.reply("BARE", undefined, { timeoutMs: 1 });
  const seen = await client.reply("USER", { name: "Ada" });
  same<typeof seen, { res: number }>(true);

  const place = await client.reply("PLACE");
  same<typeof place, Place>(true);
  same<ReturnType<typeof fail>, Promise<never>>(true);
  const fail = () => client.reply("FAIL");

  const ping = await client.reply("PING");
  same<typeof ping, { res: "PONG" }>(true);
  const stats = await client.reply("STATS", { all: true });
  same<typeof stats, { res: ServerStatistics }>(true);
  const info = await client.reply("INFO");
  same<typeof info.res, ServerInfo>(true);

  const list = client.stream("LIST", { to: 3 }, { credit: 2 });
  same<typeof list, AsyncGenerator<{ item: number }, "end", void>>(true);
  for await (const { item } of list) same<typeof item, number>(true);

  const log = client.stream.LOG();
  same<typeof log, AsyncGenerator<string | 5, null, void>>(true); // without their ids
  const holes = client.stream.HOLES();
  same<typeof holes, AsyncGenerator<number | string | null, null, void>>(true); // the wire has no undefined

  // Bytes that arrive are never in shared memory, so Blob and crypto.subtle take them.
  const picture = client.stream.PICTURE();
  same<typeof picture, AsyncGenerator<Uint8Array<ArrayBuffer> | null, Uint8Array<ArrayBuffer>, void>>(true);
  const thumbnail = await client.call.THUMBNAIL();
  same<typeof thumbnail, Uint8Array<ArrayBuffer> | string>(true);
  const { res } = await client.reply.THUMBNAIL();
  same<typeof res, Uint8Array<ArrayBuffer> | string>(true);

  const readable = client.stream.READABLE_HOLES();
  same<typeof readable, AsyncGenerator<number | null, null, void>>(true);

  // @ts-expect-error -- no such command
  client.reply("SUBTRACT", { a: 1, b: 2 });
  // @ts-expect-error -- a parameter is missing
  client.reply("ADD", { a: 1 });
  // @ts-expect-error -- all parameters are missing
  client.reply("ADD");
  // @ts-expect-error -- a parameter of another type
  client.reply("ADD", { a: 1, b: "2" });
  // @ts-expect-error -- a parameter too many
  client.reply("ADD", { a: 1, b: 2, c: 3 });
  // @ts-expect-error -- a reply of another type
  const text: string = (await client.reply("ADD", { a: 1, b: 2 })).res;
  // @ts-expect-error -- the schema's input counts, not its output
  client.reply("USER", { name: "Ada", seen: new Date() });
  // @ts-expect-error -- a stream is not called
  client.reply("LIST", { to: 3 });
  // @ts-expect-error -- a command without a stream is not read as one
  client.stream("ADD", { a: 1, b: 2 });
  // @ts-expect-error -- an option that does not exist
  client.reply("ADD", { a: 1, b: 2 }, { retries: 3 });
  client.stream("LIST", { to: 3 }, { idempotent: true });
  // @ts-expect-error -- a stream is not hedged
  client.stream("LIST", { to: 3 }, { hedgeAfterMs: 5 });
  // @ts-expect-error -- meta is text
  client.reply("ADD", { a: 1, b: 2 }, { meta: { n: 1 } });
  // @ts-expect-error -- also of a built-in command, a parameter of another type
  client.reply("STATS", { all: "yes" });
  void text;
}

// Never called: the type of a module that exports its commands.
export async function served(
  client: Client<{ commands: typeof commands; other: number }>,
  modules: Client<{ commands: typeof pingOfOnesOwn }>,
): Promise<void> {
  const added = await client.call.ADD({ a: 1, b: 2 });
  same<typeof added, number>(true);
  const named = await client.reply("ADD", { a: 1, b: 2 });
  same<typeof named, { res: number }>(true);
  const plain: Client<typeof commands> = client;
  // A command of this name is no such module.
  const one = await modules.call.commands({ deep: true });
  same<typeof one, number>(true);
  // @ts-expect-error -- no such command
  client.call.SUBTRACT();
  // @ts-expect-error -- not the other exports
  client.call.other();
  void plain;
}

/** A contract that client and server share. */
interface Contract {
  ADD: Command<{ a: number; b: number }, number>;
  COUNT: Command<{ to: number }, AsyncGenerator<number, void>>;
  FIND: Command<{ id: number }, string, { GONE: null }>;
}

// Never called: a contract may be an interface, which has no index signature.
export async function declared(given: Contract): Promise<void> {
  const client = await connect<Contract>();
  const added = await client.call.ADD({ a: 1, b: 2 });
  same<typeof added, number>(true);
  for await (const item of client.stream.COUNT({ to: 3 })) same<typeof item, number>(true);
  const found = await client.outcome.FIND({ id: 1 });
  if (!found.ok && found.error.code === "GONE") same<typeof found.error.data, undefined>(true);
  const value: Client<Contract> = await connect({ commands: given });
  const some: Client<Pick<Contract, "ADD">> = client;
  const served = {
    ADD: command(({ a, b }) => a + b),
    COUNT: command(async function* ({ to }: { to: number }) {
      yield to;
    }),
    FIND: command({ errors: { GONE: null }, handler: ({ id }: { id: number }) => `${id}` }),
  } satisfies Contract;
  const own = await connect<typeof served>();
  const sum = await own.call.ADD({ a: 1, b: 2 }); // no stream from the caller, which the contract leaves open
  same<typeof sum, number>(true);
  const general: Client<Contract> = own;
  // @ts-expect-error -- another result
  const wrong = { ADD: command(({ a }) => `${a}`) } satisfies Pick<Contract, "ADD">;
  // @ts-expect-error -- a parameter is missing
  client.call.ADD({ a: 1 });
  // @ts-expect-error -- not a command
  await connect<{ ADD: string }>();
  // @ts-expect-error -- one command is not commands
  await connect<Contract["ADD"]>();
  // @ts-expect-error -- an array has no names
  await connect<Contract["ADD"][]>();
  // @ts-expect-error -- nor has a text
  await connect<string>();
  void [value, some, general, wrong];
}

// Never called: the value, the whole reply and the outcome of each kind of answer, by method and by name.
export async function answered(client: Client<typeof commands>): Promise<void> {
  const added = await client.call.ADD({ a: 1, b: 2 });
  same<typeof added, number>(true);
  const byName = await client.call("ADD", { a: 1, b: 2 }, { timeoutMs: 5 });
  same<typeof byName, number>(true);
  same<typeof client.reply.ADD, (params: { a: number; b: number }, options?: CallOptions) => Promise<{ res: number }>>(
    true,
  );
  const outcome = await client.outcome.ADD({ a: 1, b: 2 });
  if (outcome.ok) same<typeof outcome.value, number>(true);

  const moved = await client.call.MOVE({ x: 1 });
  same<typeof moved, number>(true);
  const movedWhole = await client.reply.MOVE({ x: 1 });
  same<typeof movedWhole, { res: number; moved: boolean }>(true);
  const movedOutcome = await client.outcome.MOVE({ x: 1 });
  if (movedOutcome.ok) same<typeof movedOutcome.value, number>(true);

  const nothing = [await client.call.NOTHING(), await client.call("NOTHING"), await client.call.NONE_BESIDE()] as const;
  same<typeof nothing, readonly [null, null, null]>(true);
  const maybe = await client.call.MAYBE();
  same<typeof maybe, number | null>(true);
  const noneBeside = await client.reply.NONE_BESIDE();
  same<typeof noneBeside, { res: null; a: number }>(true);
  const mixed = await client.call.MIXED({ short: true });
  same<typeof mixed, "plain" | 1>(true);
  const mixedWhole = await client.reply.MIXED({ short: true });
  same<typeof mixedWhole, { res: "plain" } | { res: 1; slept: number }>(true);
  const settled = await client.call.THENABLE();
  same<typeof settled, number>(true);
  same<ReturnType<typeof client.call.FAIL>, Promise<never>>(true);

  const ping = await client.call.PING();
  same<typeof ping, "PONG">(true);
  const stats = await client.reply.STATS({ all: true });
  same<typeof stats, { res: ServerStatistics }>(true);

  // @ts-expect-error -- no such command
  client.call.SUBTRACT({ a: 1, b: 2 });
  // @ts-expect-error -- no such command
  client.call("SUBTRACT");
  // @ts-expect-error -- a parameter is missing
  client.call.ADD({ a: 1 });
  // @ts-expect-error -- all parameters are missing
  client.outcome.ADD();
  // @ts-expect-error -- a parameter of another type
  client.call.ADD({ a: 1, b: "2" });
  // @ts-expect-error -- a parameter too many
  client.reply.ADD({ a: 1, b: 2, c: 3 });
  // @ts-expect-error -- an option that does not exist
  client.call.ADD({ a: 1, b: 2 }, { retries: 3 });
  // @ts-expect-error -- a value is no reply
  added.res;
}

// Never called: streams, by method and by name.
export async function streamed(client: Client<typeof commands>): Promise<void> {
  const list = client.stream.LIST({ to: 3 }, { credit: 2 });
  same<typeof list, AsyncGenerator<{ item: number }, "end", void>>(true);
  const total = client.stream.TOTAL();
  same<typeof total, AsyncGenerator<"item", number, void>>(true);
  const readable = [client.stream.READABLE(), client.stream("READABLE"), client.stream.LATER()] as const;
  type Numbers = AsyncGenerator<number, null, void>;
  same<typeof readable, readonly [Numbers, Numbers, Numbers]>(true);
  for await (const tick of client.stream.TOTAL({})) same<typeof tick, "item">(true);

  // @ts-expect-error -- a stream is not called
  client.call.LIST({ to: 3 });
  // @ts-expect-error -- nor by its name
  client.call("LIST", { to: 3 });
  // @ts-expect-error -- nor for its reply
  client.reply.LIST({ to: 3 });
  // @ts-expect-error -- nor for its outcome
  client.outcome("LIST", { to: 3 });
  // @ts-expect-error -- nor one of the built-in commands
  client.call.TICK({ count: 1 });
  // @ts-expect-error -- also where it comes later
  client.call.LATER();
  // @ts-expect-error -- a command without a stream is not read as one
  client.stream.ADD({ a: 1, b: 2 });
  client.stream.LIST({ to: 3 }, { idempotent: true });
  // @ts-expect-error -- a stream is not hedged
  client.stream.LIST({ to: 3 }, { hedgeAfterMs: 5 });
  // @ts-expect-error -- credit is of a stream alone
  client.call.ADD({ a: 1, b: 2 }, { credit: 3 });

  const refused: "this command answers with a stream: use client.stream" = client.call.LIST;
  const once: "this command answers once: use client.call" = client.stream.ADD;
  void [refused, once];
}

// Never called: what an outcome knows of its error.
export async function failed(client: Client<typeof commands>): Promise<void> {
  const found = await client.outcome.FIND({ id: 1 });
  if (found.ok) {
    same<typeof found, { ok: true; value: { id: number } }>(true);
    // @ts-expect-error -- a result has no error
    found.error;
    return;
  }
  // @ts-expect-error -- a failure has no value
  found.value;
  const error: RpcError = found.error;
  // Nothing converts the data of an error, so its type is the schema's input.
  if (found.error.code === "SEEN") same<typeof found.error.data, { at: string }>(true);
  if (found.error.code === "MISSING") same<typeof found.error.data, { id: number }>(true);
  else if (found.error.code === "GONE") same<typeof found.error.data, undefined>(true);
  else if (found.error.code === "TIMEOUT") same<typeof found.error.data, unknown>(true);
  // @ts-expect-error -- a misspelt code
  if (found.error.code === "MISING") void error;
  const added = await client.outcome("ADD", { a: 1, b: 2 });
  // @ts-expect-error -- a code of another command
  if (!added.ok && added.error.code === "MISSING") void error;
  if (!added.ok && added.error.code === "CONNECTION_LOST") void error;
  if (!added.ok && added.error.code === "UNAUTHENTICATED") void error; // by tokens()
}

// Never called: a contract of its own gives the parameters their types, and checks the result.
export async function contracted(client: Client<Commands>): Promise<unknown[]> {
  const right: Command<{ a: number }, number> = command(({ a }) => a);
  // @ts-expect-error -- another result
  const wrong: Command<{ a: number }, string> = command(({ a }) => a);
  const called = await client.call.ANY({ a: 1 });
  const text: string = called; // any
  void text;
  for await (const item of client.stream.ANY()) void item;
  return [right, wrong, called];
}

// Never called: a middleware passes on what its type says.
export function passedOn(): Middleware<{ user: string }>[] {
  // @ts-expect-error -- it passes on nothing
  const nothing: Middleware<{ user: string }> = (_call, next) => next();
  // @ts-expect-error -- nor does this one
  const made: Middleware<{ user: string }> = middleware((_call, next) => next());
  // @ts-expect-error -- nor this one
  const named = middleware<{ user: string }>((_call, next) => next());
  // @ts-expect-error -- of another type
  const other: Middleware<{ user: string }> = middleware((_call, next) => next({ user: 1 }));
  const admin: Middleware<{ user: "Ada" }> = async (_call, next) => await next({ user: "Ada" });
  const late: Middleware = async (_call, next) => ({ ...await next(), late: true });
  void late;
  return [nothing, made, named, other, admin, middleware((_call, next) => next({ user: "Ada" }))];
}

// Never called: a further middleware sees what earlier ones have passed on. Of two values with one name, the later counts.
export function passedFurther(): Commands {
  const maybe = command.with(middleware((_call, next) => next({ user: "Ada" as string | undefined, tries: 1 })));
  const required = maybe.with((call, next) => {
    same<typeof call.user, string | undefined>(true);
    // @ts-expect-error -- nobody has passed this on
    void call.admin;
    if (call.user === undefined) throw new Error("nobody");
    return next({ user: call.user });
  });
  const whole = required.with((call, next) => next({ user: { name: call.user.toUpperCase() } }));
  const either = whole.with((call, next) => call.meta.id ? next({ user: 5 }) : next({ id: "x" }));
  const logged = whole.with(middleware((_call, next) => next()));
  return {
    WHO: logged((_params: object, { user, tries }) => {
      same<typeof user, { name: string }>(true);
      same<typeof tries, number>(true);
      return user.name;
    }),
    EITHER: either((_params: object, { user, tries }) => {
      same<typeof user, number | { name: string }>(true);
      same<typeof tries, number>(true);
      return tries;
    }),
  };
}

// Never called: commands that are defined where a type of any commands is expected have the same types.
export async function expected(): Promise<void> {
  const plain = {
    ADD: command(({ a, b }: { a: number; b: number }) => a + b),
    ONE: command(() => 1),
    FIND: command({ schema: user, errors: { GONE: null }, handler: ({ name }) => name }),
    COUNT: command(async function* () {
      yield 1;
    }),
  };
  const satisfied = {
    ADD: command(({ a, b }: { a: number; b: number }) => a + b),
    ONE: command(() => 1),
    FIND: command({ schema: user, errors: { GONE: null }, handler: ({ name }) => name }),
    COUNT: command(async function* () {
      yield 1;
    }),
  } satisfies Commands;
  same<typeof satisfied, typeof plain>(true);
  await using client = await connect({
    commands: { ADD: command(({ a, b }: { a: number; b: number }) => a + b), ONE: command(() => 1) },
  });
  const results = [await client.call.ADD({ a: 1, b: 2 }), await client.call.ONE()] as const;
  same<typeof results, readonly [number, number]>(true);
  // @ts-expect-error -- a parameter of another type
  client.call.ADD({ a: 1, b: "2" });
}

// Never called: names that are known at run time only.
export async function named(client: Client<typeof commands>, name: string, one: "NOTHING" | "BARE"): Promise<void> {
  const value = await client.call(name, { any: ["thing"] }, { timeoutMs: 5, idempotent: true });
  value.may.be.anything;
  const whole = await client.reply(name);
  // deno-lint-ignore no-explicit-any -- that is what is tested
  same<typeof whole, { res: any; [field: string]: any }>(true);
  const outcome = await client.outcome(name);
  if (!outcome.ok) same<typeof outcome.error, RpcError>(true);
  for await (const item of client.stream(name, {}, { credit: 4 })) item.may.be.anything;
  const either = await client.call(one);
  same<typeof either, null>(true);
  // @ts-expect-error -- parameters are an object
  client.call(name, 5);
  // @ts-expect-error -- a call has no credit
  client.call(name, {}, { credit: 4 });
  client.stream(name, {}, { idempotent: true });
  // @ts-expect-error -- a stream is not hedged
  client.stream(name, {}, { hedgeAfterMs: 5 });
  void whole;
}

// Never called.
export async function untyped(client: Client): Promise<void> {
  const whole = await client.reply("ANYTHING", { any: ["thing"] });
  // deno-lint-ignore no-explicit-any -- that is what is tested
  same<typeof whole, { res: any; [field: string]: any }>(true);
  (await client.call.ANYTHING({ any: ["thing"] })).may.be.anything;
  (await client.call("ANYTHING")).may.be.anything;
  const outcome = await client.outcome.ANYTHING();
  if (!outcome.ok) same<typeof outcome.error, RpcError>(true);
  for await (const item of client.stream("ANYTHING")) item.may.be.anything;
  for await (const item of client.stream.ANYTHING({}, { credit: 4 })) item.may.be.anything;
  const ping = await client.reply("PING");
  same<typeof ping, { res: "PONG" }>(true);
  // @ts-expect-error -- what every server has is typed here too
  client.reply("STATS", { all: "yes" });
  // @ts-expect-error -- also as a method
  client.call.STATS({ all: "yes" });
  void whole;
}

// Never called: a command of one's own takes the place of a built-in one, in types too.
export async function replaced(
  client: Client<{ PING: typeof pingOfOnesOwn }>,
): Promise<void> {
  const ping = await client.call.PING({ deep: true });
  same<typeof ping, number>(true);
  const named = await client.call("PING", { deep: true });
  same<typeof named, number>(true);
  const info = await client.call.INFO();
  same<typeof info, ServerInfo>(true);
}

const pingOfOnesOwn = command(({ deep }: { deep: boolean }) => deep ? 1 : 0 as number);

type Streamed = {
  UPLOAD: Command<{ name: string }, { size: number }, unknown, Uint8Array>;
  TALLY: Command<{ deep?: boolean }, number, unknown, Uint8Array>;
  CHAT: Command<object, AsyncGenerator<string, void, unknown>, unknown, string>;
  PLAIN: Command<{ a: number }, number, unknown, never>;
  LIST: Command<{ to: number }, AsyncGenerator<number, void, unknown>, unknown, never>;
  /** Nothing is said of its items. */
  ECHO: Command<{ value?: unknown }, unknown, unknown, unknown>;
  POINTS: Command<object, number, unknown, Point>;
};

// Never called: the caller's stream.
export async function givenItems(client: Client<Streamed>, bytes: Uint8Array): Promise<void> {
  const items = ReadableStream.from([bytes]);
  const uploaded = await client.call.UPLOAD({ name: "a" }, { items, timeoutMs: 5, meta: { token: "t" } });
  same<typeof uploaded, { size: number }>(true);
  const whole = await client.reply("UPLOAD", { name: "a" }, { items: [bytes] });
  same<typeof whole, { res: { size: number } }>(true);
  const outcome = await client.outcome.TALLY({}, {
    items: (async function* () {
      yield bytes;
    })(),
  }); // deno-fmt-ignore
  if (outcome.ok) same<typeof outcome.value, number>(true);
  await client.call.TALLY(undefined, { items: [] });
  for await (const line of client.stream.CHAT({}, { items: ["a", "b"], credit: 3 })) same<typeof line, string>(true);
  client.stream("CHAT", {}, { items: new Set(["a"]) });
  client.call.ECHO({ value: 1 });
  client.call.ECHO({}, { items: [1, "two"] });
  client.call.POINTS({}, { items: [{ x: 1 }, { x: 1, y: 2 }] });

  // @ts-expect-error -- a call that forgets the stream
  client.call.UPLOAD({ name: "a" });
  // @ts-expect-error -- also with other options
  client.call.UPLOAD({ name: "a" }, { timeoutMs: 5 });
  // @ts-expect-error -- also by name
  client.reply("UPLOAD", { name: "a" });
  // @ts-expect-error -- also where all parameters may be left out
  client.outcome.TALLY();
  // @ts-expect-error -- also of a stream
  client.stream.CHAT({});
  // @ts-expect-error -- items of another type
  client.call.UPLOAD({ name: "a" }, { items: ["text"] });
  // @ts-expect-error -- bytes are numbers, one by one
  client.call.UPLOAD({ name: "a" }, { items: bytes });
  // @ts-expect-error -- text is letters, one by one
  client.stream.CHAT({}, { items: "text" });
  // @ts-expect-error -- an item without what it needs
  client.call.POINTS({}, { items: [{ y: 2 }] });
  // @ts-expect-error -- a parameter is missing
  client.call.UPLOAD({}, { items });
  // @ts-expect-error -- it is not sent twice
  client.call.UPLOAD({ name: "a" }, { items, idempotent: true });
  // @ts-expect-error -- nor is a conversation
  client.stream.CHAT({}, { items: ["a"], idempotent: true });
  // @ts-expect-error -- nor hedged
  client.call.TALLY({}, { items, hedgeAfterMs: 5 });
  // @ts-expect-error -- a command that takes no stream
  client.call.PLAIN({ a: 1 }, { items });
  // @ts-expect-error -- also by name
  client.reply("PLAIN", { a: 1 }, { items });
  // @ts-expect-error -- also one that answers with a stream
  client.stream.LIST({ to: 1 }, { items });
  // @ts-expect-error -- nor does a built-in one
  client.call.PING({}, { items });
}

// Never called: the caller's stream where nothing is known of the command.
export function givenUnknownItems(client: Client, typed: Client<typeof commands>, name: string): void {
  const items = [1, "two", new Uint8Array(3)];
  client.call(name, {}, { items });
  client.stream(name, {}, { items, credit: 3 });
  client.call.ANYTHING({}, { items });
  client.outcome.ANYTHING({}, { items });
  client.stream.ANYTHING({}, { items });
  typed.reply(name, {}, { items });
  // @ts-expect-error -- no stream
  client.call(name, {}, { items: 5 });
  // @ts-expect-error -- nor is text
  client.call.ANYTHING({}, { items: "text" });
}

// Never called: what connect() infers.
export async function inferred(): Promise<void> {
  same<Awaited<ReturnType<typeof byValue>>, Client<typeof commands>>(true);
  same<Awaited<ReturnType<typeof byType>>, Client<typeof commands>>(true);
  same<Awaited<ReturnType<typeof byNothing>>, Client>(true);
  const byValue = () => connect({ commands });
  const byType = () => connect<typeof commands>({ port: 1 });
  const byNothing = () => connect({ port: 1 });
  // @ts-expect-error -- commands are made with command()
  await connect({ commands: { ADD: () => 1 } });
}

/** What a call is sent as. */
async function sentAs(options: ConnectOptions<typeof commands>): Promise<unknown[]> {
  const network = memoryNetwork();
  const client = await connect<typeof commands>({ ...options, timeoutMs: Infinity, dial: network.dial });
  const server = await ScriptedServer.accept(network);
  const calls = [
    client.reply("ADD", { a: 1, b: 2 }),
    client.reply("BARE"),
    client.reply("PING"),
    (client as unknown as Client).reply("DELAY", { sleep: 0 }),
    client.reply("INFO"),
    client.reply("STATS"),
  ];
  const settled = Promise.allSettled(calls);
  const requests = await server.requests(calls.length);
  await client.close();
  await settled;
  return requests.map(({ cmd }) => cmd);
}

Deno.test("connect() - with the commands' value they go by number, with their type by name", async () => {
  assertEquals(await sentAs({ commands }), [16, "BARE", 1, 2, 3, 4]);
  assertEquals(await sentAs({}), ["ADD", "BARE", 1, 2, 3, 4]);
});

Deno.test("connect() - the numbers it knows are those of the protocol", async () => {
  assertEquals((await sentAs({})).slice(2), [...BUILT_IN_NUMBERS.values()]);
});

Deno.test("types - 199 more commands, and their calls, make at most 500 types each", async () => {
  const root = new URL("../../", import.meta.url);
  const numbered = (count: number, line: (n: number) => string) => Array.from({ length: count }, (_, n) => line(n));
  const program = (count: number) => ({
    "program.ts": `import { command } from "${root}handlers/command.ts";
      import { connect } from "${root}client.ts";
      const commands = {
        ${
      numbered(count, (n) =>
        `C${n}: command({ handler: ({ p${n} }: { p${n}: number; q?: string[] }) => ({ v${n}: p${n} }) }),`)
        .join("\n")
    }
      };
      const client = await connect<typeof commands>();
      ${
      numbered(count, (n) => {
        const method = n % 2 === 0 ? `client.call.C${n}(` : `client.call("C${n}", `;
        return `(await ${method}{ p${n}: 1 })).v${n}.toFixed();`;
      }).join("\n")
    }`,
  });
  const config = new URL("deno.json", root).pathname;
  const each = (await typesMade(program(200), config) - await typesMade(program(1), config)) / 199;
  assert(each <= 500, `${each} types for each command`);
});
