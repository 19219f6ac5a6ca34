/** Middleware: around all commands, before some of them, and what it hands on to the handler. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { runInNewContext } from "node:vm";
import { connect } from "../../client/connect.ts";
import { RpcError } from "../../errors.ts";
import { command, type Context, type Middleware, middleware, reply, type ReplyFields } from "../../handlers/command.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { schemaOf } from "../support/schema.ts";
import { settle, settleShutdown } from "../support/peers.ts";
import { Held, type ServedInMemory, withMemory, withServer } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

const PONG = { res: "PONG" };

// Middleware ---------------------------------------------------------------------------------------------------------

Deno.test("a stream behind a middleware that gives its own answer ends, and its place is free", async () => {
  let answer!: () => void;
  let ended = 0;
  const early: Middleware = async (_call, next) => {
    void next();
    await new Promise<void>((resolve) => answer = resolve);
    return reply("early", {});
  };
  const TICK = command.with(early)(async function* () {
    try {
      for (let number = 0;; number++) yield number;
    } finally {
      ended++;
    }
  });
  const commands = { TICK, ONE: command(() => 1) };
  await using served = withMemory({ commands, maxInFlightTotal: 1 });
  await served.peer.send({ cmd: "TICK", seq: 1, credit: 3 });
  await served.peer.readReplies(3);
  answer();
  assertEquals(await served.peer.readReply(), { seq: 1, res: "early" });
  await served.peer.send({ cmd: 0, seq: 1, credit: 3 });
  await settle();
  assertEquals([ended, await served.peer.ask({ cmd: "ONE" })], [1, { res: 1 }]);
});

Deno.test("a stream without return() that waits for credit behind a middleware's answer ends, and its place is free", async () => {
  let answer!: () => void;
  const early: Middleware = async (_call, next) => {
    void next();
    await new Promise<void>((resolve) => answer = resolve);
    return { res: "early" };
  };
  const TICK = command.with(early)(() => ({
    [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: false as const, value: 1 }) }),
  }));
  await using served = withMemory({ commands: { TICK, ONE: command(() => 1) }, maxInFlightTotal: 1 });
  await served.peer.send({ cmd: "TICK", seq: 1, credit: 1 });
  await served.peer.readReply();
  answer();
  assertEquals(await served.peer.readReply(), { seq: 1, res: "early" });
  await settle();
  assertEquals(await served.peer.ask({ cmd: "ONE" }), { res: 1 });
});

Deno.test("a stream without items, whose reply a middleware replaces, is still known as a stream", async () => {
  const replies: Record<string, (reply: ReplyFields) => ReplyFields> = {
    kept: (reply) => reply,
    added: (given) => ({ ...given, took: 5 }),
    replaced: ({ res }) => reply(`${res}!`, {}),
    dropped: () => ({ res: null }),
  };
  const replacing: Middleware = async ({ params }, next) => replies[params.how as string](await next());
  const EMPTY = command.with(replacing)(async function* ({ result }: { result: unknown }) {
    yield* [];
    return result;
  });
  await using served = withMemory({ commands: { EMPTY } });
  const answerTo = (how: string, result: unknown) => served.peer.ask({ cmd: "EMPTY", seq: 1, credit: 3, how, result });
  assertEquals(await answerTo("kept", "end"), { seq: 1, res: "end", $items: 0 });
  assertEquals(await answerTo("kept", null), { seq: 1, res: null });
  assertEquals(await answerTo("added", "end"), { seq: 1, res: "end", took: 5, $items: 0 });
  assertEquals(await answerTo("replaced", "end"), { seq: 1, res: "end!", $items: 0 });
  assertEquals(await answerTo("replaced", null), { seq: 1, res: "null!", $items: 0 });
  assertEquals(await answerTo("dropped", "end"), { seq: 1, res: null });
});

Deno.test("a middleware that answers a stream before its handler ends it, with the result and no item", async () => {
  const cached = command.with(middleware(() => reply("from the cache", {})));
  const commands = {
    COUNT: cached(async function* () {
      yield 1;
    }),
    READ: cached({ stream: true, handler: () => new ReadableStream<number>() }),
    ONE: cached(() => "one"),
  };
  await using served = await withServer({ commands });
  await using client = await connect({ port: served.port, commands });
  const end = { done: true as const, value: "from the cache" };
  assertEquals(await client.stream.COUNT().next(), end);
  assertEquals(await client.stream.READ().next(), end);
  assertEquals(await client.call("ONE"), "from the cache");
  await assertRejects(
    () => client.stream("ONE" as string).next(),
    RpcError,
    "returns a single reply: use client.call()",
  );
});

Deno.test("middleware stands around the handler, the first outermost, and sees the call", async () => {
  const log: string[] = [];
  const seen: Context[] = [];
  const noting = (name: string): Middleware => async (call, next) => {
    log.push(`${name} in`);
    seen.push(call);
    const reply = await next();
    log.push(`${name} out`);
    return reply;
  };
  const MINE = command({
    handler: (params: { a: number }, context) => {
      log.push("handler");
      seen.push(context);
      return params.a;
    },
  });
  await using served = withMemory({ commands: { MINE }, middleware: [noting("one"), noting("two")] });
  const reply = await served.peer.ask({ cmd: "MINE", seq: 1, a: 5, meta: { token: "t", trace: "x" } });
  assertEquals(reply, { seq: 1, res: 5 });
  assertEquals(log, ["one in", "two in", "handler", "two out", "one out"]);
  for (const { command, params, meta, peer, signal, remaining } of seen) {
    assertEquals([command, params, meta, peer], ["MINE", { a: 5 }, { token: "t", trace: "x" }, "memory"]);
    assertEquals([signal.aborted, remaining()], [false, Infinity]);
  }
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  assertEquals(seen[3].meta, {}, "no meta is an empty one");
});

Deno.test("middleware can check a token, and then no handler runs", async () => {
  let ran = 0;
  const MINE = command({ handler: (_params: Message) => ++ran });
  const checking: Middleware = ({ meta }, next) => {
    if (meta.token !== "right") throw new RpcError("UNAUTHORIZED", "the token is not known");
    return next();
  };
  await using served = withMemory({ commands: { MINE }, middleware: [checking] });
  const { peer } = served;
  const refused = { err: "UNAUTHORIZED", msg: "the token is not known" };
  assertEquals(await peer.ask({ cmd: "MINE" }), refused);
  assertEquals(await peer.ask({ cmd: "MINE", meta: { token: "wrong" } }), refused);
  assertEquals(await peer.ask({ cmd: 1, seq: 3 }), { seq: 3, ...refused });
  assertEquals(ran, 0);
  assertEquals(await peer.ask({ cmd: "MINE", meta: { token: "right" } }), { res: 1 });
});

Deno.test("middleware can replace the reply, and answer what a handler has thrown", async () => {
  const replacing: Middleware = async (call, next) => {
    if (call.params.cached) return { res: "from the cache" };
    try {
      const reply = await next();
      return { ...reply, res: "replaced" };
    } catch {
      return { res: "rescued" };
    }
  };
  await using served = withMemory({ middleware: [replacing] });
  assertEquals(await served.peer.ask({ cmd: 1 }), { res: "replaced" });
  assertEquals(await served.peer.ask({ cmd: 1, cached: true }), { res: "from the cache" });
  assertEquals(await served.peer.ask({ cmd: 2, sleep: -1 }), { res: "rescued" });
});

Deno.test("middleware that throws, or gives no reply, is answered as a handler is", async () => {
  const wrong = new Error("a secret");
  const bad: Middleware[] = [
    () => {
      throw wrong;
    },
    () => Promise.reject(wrong),
    async (_call, next) => {
      await next();
      return undefined as never;
    },
  ];
  for (const middleware of bad) {
    await using served = withMemory({ middleware: [middleware] });
    assertEquals(await served.peer.ask({ cmd: 1, seq: 1 }), { seq: 1, err: "INTERNAL" });
    const [{ error, origin }, ...rest] = served.errors.takeWithOrigin();
    assert(error === wrong || error instanceof TypeError);
    assertEquals([origin, rest], [{ peer: "memory", command: "PING" }, []]);
  }
});

Deno.test("middleware that passes a call on twice runs its handler once", async () => {
  let runs = 0;
  const MINE = command({ handler: () => ++runs });
  const insisting: Middleware = async (_request, next) => {
    await next();
    return await next();
  };
  await using served = withMemory({ commands: { MINE }, middleware: [insisting] });
  assertEquals(await served.peer.ask({ cmd: "MINE", seq: 1 }), { seq: 1, res: 1 });
});

Deno.test("middleware need not wait for the handler: what fails behind it reaches the hook, and ends nothing", async () => {
  const held = new Held();
  const hasty: Middleware = (call, next) => {
    if (call.command !== "HOLD") return next();
    void next();
    return { res: "at once" };
  };
  await using served = withMemory({ commands: { HOLD: held.command }, middleware: [hasty] });
  assertEquals(await served.peer.ask({ cmd: "HOLD" }), { res: "at once" });
  const late = new Error("nobody waits for it");
  held.calls[0].fail(late);
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  assertEquals(served.errors.take(), [late]);
});

/** Passes a call on, and answers it before its handler. */
const early: Middleware = (call, next) => {
  if (call.command !== "HOLD") return next();
  void next();
  return { res: "early" };
};

Deno.test("a handler that continues behind a middleware's answer is aborted at its deadline, and when its connection ends", async () => {
  const ends: [code: string, request: Message, end: (clock: FakeClock, served: ServedInMemory) => unknown][] = [
    ["DEADLINE_EXCEEDED", { ttl: 3_000 }, (clock) => clock.advance(3_005)],
    ["DEADLINE_EXCEEDED", {}, (clock) => clock.advance(9_005)],
    ["CONNECTION_LOST", {}, (_, { peer }) => peer.close()],
    ["CONNECTION_LOST", {}, (_, { peer }) => peer.halfClose()],
  ];
  for (const [code, fields, end] of ends) {
    for (const seq of [1, undefined]) {
      const clock = new FakeClock();
      const held = new Held();
      const options = { clock, commands: { HOLD: held.command }, middleware: [early], handlerTimeoutMs: 9_000 };
      await using served = withMemory(options);
      const ownSeq = seq === undefined ? {} : { seq };
      assertEquals(await served.peer.ask({ cmd: "HOLD", ...ownSeq, ...fields }), { ...ownSeq, res: "early" });
      const [{ context: { signal } }] = held.calls;
      await clock.advance(2_990);
      assertEquals(signal.aborted, false);
      await end(clock, served);
      await settle();
      assertEquals((signal.reason as RpcError | undefined)?.code, code);
      held.calls[0].fail(signal.reason);
    }
  }
});

Deno.test("a handler that continues behind a middleware's answer is told of a shutdown, and aborted at its end", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using server = await withServer({ clock, commands: { HOLD: held.command }, middleware: [early] });
  const peer = await server.connect();
  assertEquals(await peer.ask({ cmd: "HOLD", seq: 1 }), { seq: 1, res: "early" });
  const [{ context: { signal, draining } }] = held.calls;
  const ended = server.server.shutdown({ graceMs: 10_000 });
  await settleShutdown();
  assertEquals([(draining.reason as RpcError).code, signal.aborted], ["GOING_AWAY", false]);
  await clock.advance(1_000);
  assertEquals((signal.reason as RpcError).code, "SHUTTING_DOWN");
  assertEquals(await peer.readToEnd(), []);
  peer.close();
  held.finishAll();
  await clock.advance(2_000);
  assertEquals((await ended).cut, 0);
});

Deno.test("a call keeps its place until all of its middleware and its handler have ended, whoever has answered", async () => {
  const held = new Held();
  let pass!: () => void;
  const inner: Middleware = async (call, next) => {
    if (call.command === "HOLD") await new Promise<void>((resolve) => pass = resolve);
    return await next();
  };
  const options = { commands: { HOLD: held.command }, middleware: [early, inner], maxInFlightTotal: 1 };
  await using served = withMemory(options);
  const { peer } = served;
  const inFlight = async () => ((await peer.ask({ cmd: 4 })).res as ServerStatistics).inFlight;
  assertEquals(await peer.ask({ cmd: "HOLD", seq: 1 }), { seq: 1, res: "early" });
  assertEquals([await inFlight(), held.calls.length], [1, 0], "the inner middleware still runs");
  pass();
  await settle();
  assertEquals([await inFlight(), held.calls.length], [1, 1], "the handler still runs");
  assertEquals(await peer.ask({ cmd: 2, sleep: 0 }), { err: "OVERLOADED" });
  held.finishAll();
  await settle();
  assertEquals(await inFlight(), 0);
  assertEquals((await peer.ask({ cmd: 2, sleep: 0 })).res, "DONE");
});

Deno.test("a middleware that has answered cannot pass its call on any more: nothing runs without a place", async () => {
  const held = new Held();
  let pass!: () => Promise<unknown>;
  const hasty: Middleware = (_call, next) => {
    pass = next;
    return { res: "at once" };
  };
  await using served = withMemory({ commands: { HOLD: held.command }, middleware: [hasty] });
  assertEquals(await served.peer.ask({ cmd: "HOLD" }), { res: "at once" });
  await assertRejects(() => pass(), TypeError);
  assertEquals((served.errors.take() as Error[]).map(({ message }) => message), [
    "Cannot pass on a call of HOLD: this middleware has answered it",
  ]);
  assertEquals(held.calls.length, 0);
});

Deno.test("middleware keeps the order of the lane, and its time counts against the ttl", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({
    clock,
    middleware: [async (call, next) => {
      if (call.params.slow) await held.command.handler({} as never, call);
      return next();
    }],
  });
  await served.peer.send({ cmd: 1, slow: true }, { cmd: 1, id: 2 }, { cmd: 1, slow: true, seq: 1, ttl: 100 });
  await clock.advance(200);
  assertEquals(await served.peer.readReady(), [{ seq: 1, err: "DEADLINE_EXCEEDED" }]);
  held.finishAll();
  assertEquals(await served.peer.readReady(), [PONG, PONG]);
});

Deno.test("middleware that gives what is no reply is told so; any object with res is one, and its other fields go along", async () => {
  const answers: [answer: unknown, expected: Message][] = [
    [{ res: undefined }, { res: null }],
    [{ res: { res: 1 }, also: 2 }, { res: { res: 1 }, also: 2 }],
    [reply("made", { also: 2 }), { res: "made", also: 2 }],
    [{ res: 1, seq: 5 }, { err: "REPLY_NOT_ENCODABLE", msg: 'the reply field "seq" is reserved' }],
    [{ res: new Date() }, { err: "REPLY_NOT_ENCODABLE", msg: "res: a Date cannot be sent" }],
    ...[undefined, null, "done", 5, {}, { result: 1 }, [1]].map((
      answer,
    ): [unknown, Message] => [answer, { err: "INTERNAL" }]),
  ];
  for (const [answer, expected] of answers) {
    await using served = withMemory({ middleware: [() => answer as never] });
    assertEquals(await served.peer.ask({ cmd: 1 }), expected, Deno.inspect(answer));
    const errors = served.errors.take() as Error[];
    assertEquals(errors.length, "err" in expected ? 1 : 0);
    if (expected.err !== "INTERNAL") continue;
    assert(errors[0].message.startsWith("the middleware returned "), errors[0].message);
    assert(errors[0].message.endsWith(": return what next() gives, or reply(value, {})"), errors[0].message);
  }
});

// What a middleware hands on -----------------------------------------------------------------------------------------

/** Hands something on, and writes down its way. */
const handing = <Given extends object>(log: string[], name: string, given: Given) =>
  middleware(async (_call, next) => {
    log.push(`${name} in`);
    const passed = await next(given);
    log.push(`${name} out`);
    return passed;
  });

Deno.test("command.with() stands before its own commands, behind the server's middleware; nested, the first is outermost", async () => {
  const log: string[] = [];
  const one = command.with(handing(log, "one", { user: "Ada" }));
  const two = one.with(handing(log, "two", { rights: ["read"] }));
  const commands = {
    NONE: command((_params: object, context) => Object.keys(context)),
    ONE: one((_params: object, { user }) => user.toUpperCase()),
    TWO: two({
      number: 16,
      handler: ({ a }: { a: number }, { user, rights, command }) => [a, user, rights[0], command],
    }),
  };
  await using served = withMemory({ commands, middleware: [handing(log, "all", { session: 1 })] });
  const logOf = async (request: Message, res: unknown): Promise<string> => {
    log.length = 0;
    assertEquals(await served.peer.ask(request), { res });
    return log.join(", ");
  };
  assertEquals(await logOf({ cmd: "NONE" }, ["session"]), "all in, all out");
  assertEquals(await logOf({ cmd: "ONE" }, "ADA"), "all in, one in, one out, all out");
  const nested = "all in, one in, two in, two out, one out, all out";
  assertEquals(await logOf({ cmd: 16, a: 5 }, [5, "Ada", "read", "TWO"]), nested);
  assertEquals(await logOf({ cmd: 1 }, "PONG"), "all in, all out");
});

Deno.test("command.with() makes makers that do not change one another", async () => {
  const log: string[] = [];
  const base = command.with(handing(log, "base", { a: 1 }));
  const left = base.with(handing(log, "left", { b: 2 }));
  const right = base.with(handing(log, "right", { b: "two", c: 3 }));
  const commands = {
    BASE: base((_params: object, { a }) => [a]),
    LEFT: left((_params: object, { a, b }) => [a, b.toFixed()]),
    RIGHT: right((_params: object, { a, b, c }) => [a, b.length, c]),
  };
  await using served = withMemory({ commands });
  const results = [];
  for (const cmd of Object.keys(commands)) results.push((await served.peer.ask({ cmd })).res);
  assertEquals(results, [[1], [1, "2"], [1, 3, 3]]);
  assertEquals(log.filter((line) => line.endsWith("in")), ["base in", "base in", "left in", "base in", "right in"]);
});

Deno.test("command.with() - one that throws, or answers itself, keeps the call from its handler", async () => {
  let ran = 0;
  const checked = command.with(middleware(({ meta }, next) => {
    if (meta.token === undefined) throw new RpcError("UNAUTHENTICATED");
    if (meta.token === "guest") return { res: "nothing for guests" };
    return next({ user: meta.token });
  }));
  const commands = { MINE: checked((_params: object, { user }) => `${++ran} for ${user}`) };
  await using served = withMemory({ commands });
  assertEquals(await served.peer.ask({ cmd: "MINE" }), { err: "UNAUTHENTICATED" });
  assertEquals(await served.peer.ask({ cmd: "MINE", meta: { token: "guest" } }), { res: "nothing for guests" });
  assertEquals(await served.peer.ask({ cmd: "MINE", meta: { token: "Ada" } }), { res: "1 for Ada" });
});

Deno.test("command.with() goes with schemas and streams: what it hands on is there, and next() resolves after the last item", async () => {
  const log: unknown[] = [];
  const counting = command.with(middleware(async (_call, next) => {
    const passed = await next({ step: 2 });
    log.push(passed);
    return passed;
  }));
  const commands = {
    COUNT: counting(async function* ({ to }: { to: number }, { step }) {
      for (let n = step; n <= to; n += step) yield n;
      return reply("end", { step });
    }),
    TWICE: counting({ schema: schemaOf(() => ({ value: { a: 4 } })), handler: ({ a }, { step }) => a * step }),
  };
  await using served = withMemory({ commands });
  await served.peer.send({ cmd: "COUNT", seq: 1, to: 4 });
  assertEquals(await served.peer.readReplies(3), [
    { seq: 1, res: 2, more: true },
    { seq: 1, res: 4, more: true },
    { seq: 1, res: "end", step: 2 },
  ]);
  assertEquals(await served.peer.ask({ cmd: "TWICE" }), { res: 8 });
  assertEquals(log.map((passed) => (passed as Message).res), ["end", 8]);
});

Deno.test("next() hands on to those behind alone: later middleware and the handler; a later one counts", async () => {
  const seen: unknown[] = [];
  const looking = (given?: object): Middleware => async (call, next) => {
    seen.push({ ...call });
    const passed = await next(given as object);
    seen.push({ ...call });
    return passed;
  };
  const MINE = command((_params: object, context) => {
    seen.push({ ...context });
    const { command, params, meta, peer, signal } = context;
    return [command, params, meta, peer, signal.aborted];
  });
  await using served = withMemory({
    commands: { MINE },
    middleware: [looking({ user: "Ada", tries: 1 }), looking(), looking({ tries: 2 })],
  });
  const res = ["MINE", { a: 1 }, { token: "t" }, "memory", false];
  assertEquals(await served.peer.ask({ cmd: "MINE", a: 1, meta: { token: "t" } }), { res }, "the rest is as before");
  const one = { user: "Ada", tries: 1 };
  assertEquals(seen, [{}, one, one, { user: "Ada", tries: 2 }, one, one, {}]);
});

Deno.test("next() refuses to hand on a name that every context has, and the handler does not run", async () => {
  let ran = 0;
  const MINE = command((_params: object) => ++ran);
  const names = [
    "command",
    "params",
    "meta",
    "peer",
    "certificate",
    "connection",
    "signal",
    "remaining",
    "clock",
    "server",
  ];
  for (const name of [...names, "constructor", "toString", "__proto__"]) {
    const given = JSON.parse(`{"fine":1,"${name}":2}`);
    await using served = withMemory({ commands: { MINE }, middleware: [(_call, next) => next(given)] });
    assertEquals(await served.peer.ask({ cmd: "MINE" }), { err: "INTERNAL" }, name);
    assertEquals((served.errors.take() as Error[]).map(String), [
      `TypeError: Cannot pass on "${name}": every context has that name already`,
    ]);
  }
  assertEquals(ran, 0);
});

Deno.test("next() refuses an object of a class, whose methods the handler would not get", async () => {
  class User {
    name = "Ada";

    greet(): string {
      return `Hello, ${this.name}!`;
    }
  }
  let ran = 0;
  const commands = {
    CLASS: command.with((_call, next) => next(new User()))(() => ++ran),
    NAMED: command.with((_call, next) => next({ user: new User() }))((_params: object, { user }) => user.greet()),
    BARE: command.with((_call, next) => next(Object.assign(Object.create(null), { a: 1 })))(() => "bare"),
    REALM: command.with((_call, next) => next(runInNewContext("({ a: 1 })")))(() => "realm"),
  };
  await using served = withMemory({ commands });
  assertEquals(await served.peer.ask({ cmd: "CLASS" }), { err: "INTERNAL" });
  assertEquals((served.errors.take() as Error[]).map(String), [
    'TypeError: Cannot pass on User { name: "Ada" }: its methods would be lost; use next({ name: value })',
  ]);
  assertEquals(await served.peer.ask({ cmd: "NAMED" }), { res: "Hello, Ada!" });
  assertEquals(await served.peer.ask({ cmd: "BARE" }), { res: "bare" });
  assertEquals(await served.peer.ask({ cmd: "REALM" }), { res: "realm" });
  assertEquals(ran, 0);
});

Deno.test("a call that ends while a middleware checks it reaches no other middleware and no handler", async () => {
  const checks: (() => void)[] = [];
  const reached: string[] = [];
  const reasons: unknown[] = [];
  const checking: Middleware = async (call, next) => {
    await new Promise<void>((resolve) => checks.push(resolve));
    try {
      return await next();
    } catch (error) {
      reasons.push([call.command, (error as RpcError).code]);
      throw error;
    }
  };
  const later: Middleware = (call, next) => {
    reached.push(`middleware of ${call.command}`);
    return next();
  };
  const MINE = command.with(checking)(() => reached.push("handler"));
  const COMMON = command.with(checking).with(later)(() => reached.push("handler"));
  await using served = withMemory({ commands: { MINE, COMMON } });
  await served.peer.send({ cmd: "MINE", seq: 1 }, { cmd: "COMMON", seq: 2 }, { cmd: 0, seq: 1, cancel: true });
  assertEquals(await served.peer.readReply(), { seq: 1, err: "CANCELLED" });
  assertEquals(await served.peer.ask({ cmd: 0, seq: 2, cancel: true }), { seq: 2, err: "CANCELLED" });
  for (const check of checks) check();
  await settle();
  assertEquals([reached, reasons], [[], [["MINE", "CANCELLED"], ["COMMON", "CANCELLED"]]]);
  assertEquals(served.errors.take(), []);
});
