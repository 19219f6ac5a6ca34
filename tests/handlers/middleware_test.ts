/**
 * What all connections of a server share: middleware, schemas, the hook for errors and its default line, what the server
 * tells of itself, and the limits it is given.
 */

import { assert, assertEquals, assertObjectMatch, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import { RpcError } from "../../errors.ts";
import { command, type Context, middleware, reply } from "../../handlers/command.ts";
import type { CommandStatistics } from "../../handlers/server_info.ts";
import type { SchemaIssue, SchemaResult, StandardSchema } from "../../handlers/standard_schema.ts";
import type { Middleware } from "../../handlers/command.ts";
import { checkLimit, DEFAULT_LIMITS, LIMIT_NAMES, type Limits, MAY_BE_ENDLESS, resolveLimits } from "../../limits.ts";
import { serve } from "../../server.ts";
import { serveOne } from "../support/serve_one.ts";
import { memoryPair } from "../../transport/memory.ts";
import { FakeClock } from "../support/fake_clock.ts";
import {
  concat,
  frame,
  Held,
  type Message,
  request,
  settle,
  stderrLines,
  unhex,
  withMemory,
  withServer,
} from "../support/wire.ts";

const PONG = { res: "PONG" };

// Middleware ---------------------------------------------------------------------------------------------------------

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
      `TypeError: Cannot hand on "${name}": every context has that name already`,
    ]);
  }
  assertEquals(ran, 0);
});

// Schemas ------------------------------------------------------------------------------------------------------------

/** A validator by hand: `validate` gets the parameters. */
function schemaOf<Output>(
  validate: (params: Message) => SchemaResult<Output> | Promise<SchemaResult<Output>>,
): StandardSchema<Message, Output> {
  return { "~standard": { version: 1, vendor: "by hand", validate: (value) => validate(value as Message) } };
}

const later = <Value>(value: Value) => settle(1).then(() => value);

Deno.test("a schema gives the handler what it made of the parameters, at once or later", async () => {
  const made = (params: Message) => ({ value: { double: 2 * (params.a as number) } });
  const commands = {
    SYNC: command({ schema: schemaOf(made), handler: ({ double }) => double }),
    ASYNC: command({ schema: schemaOf((params) => later(made(params))), handler: ({ double }) => double }),
  };
  await using served = withMemory({ commands });
  for (const cmd of ["SYNC", "ASYNC"]) assertEquals(await served.peer.ask({ cmd, a: 21 }), { res: 42 });
});

Deno.test("a schema that does not hold is INVALID_PARAMS with every path in data, and no handler runs", async () => {
  const issues: SchemaIssue[] = [
    { message: "must be text", path: ["user", "name"] },
    { message: "must be positive", path: ["list", 3, { key: "price" }] },
    { message: "must not be there", path: [Symbol("hidden")] },
    { message: "must be told", path: undefined },
  ];
  let ran = 0;
  const handler = () => ++ran;
  const commands = {
    SYNC: command({ schema: schemaOf(() => ({ issues })), handler }),
    ASYNC: command({ schema: schemaOf(() => later({ issues })), handler }),
  };
  await using served = withMemory({ commands });
  for (const cmd of ["SYNC", "ASYNC"]) {
    assertEquals(await served.peer.ask({ cmd, seq: 1 }), {
      seq: 1,
      err: "INVALID_PARAMS",
      msg: "user.name: must be text; list.3.price: must be positive; Symbol(hidden): must not be there; must be told",
      data: [
        { path: ["user", "name"], message: "must be text" },
        { path: ["list", 3, "price"], message: "must be positive" },
        { path: ["Symbol(hidden)"], message: "must not be there" },
        { path: [], message: "must be told" },
      ],
    });
    assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  }
  assertEquals(ran, 0);
});

Deno.test("a schema that throws is INTERNAL, and the hook gets what it threw", async () => {
  const wrong = new Error("a mistake in the validator");
  const commands = {
    SYNC: command({
      schema: schemaOf(() => {
        throw wrong;
      }),
      handler: () => 1,
    }),
    ASYNC: command({ schema: schemaOf(() => Promise.reject(wrong)), handler: () => 1 }),
  };
  await using served = withMemory({ commands });
  for (const cmd of ["SYNC", "ASYNC"]) assertEquals(await served.peer.ask({ cmd }), { err: "INTERNAL" });
  assertEquals(served.errors.take(), [wrong, wrong]);
});

Deno.test("a schema sees the parameters alone, without what else a request holds", async () => {
  let seen: unknown;
  const schema = schemaOf((params) => {
    seen = params;
    return { value: params };
  });
  await using served = withMemory({ commands: { MINE: command({ schema, handler: () => 1 }) } });
  await served.peer.ask({ cmd: "MINE", a: 1, seq: 2, ttl: 3_000, meta: { b: "c" }, credit: 4, max: 5 });
  assertEquals(seen, { a: 1, max: 5 });
});

// The hook -----------------------------------------------------------------------------------------------------------

/** A command that throws, and the reply to it, which is the same whatever the hook does. */
async function askToThrow(thrown: unknown, onError?: (error: unknown) => void): Promise<void> {
  const THROW = command({
    handler: (_params: Message) => {
      throw thrown;
    },
  });
  await using served = withMemory({ commands: { THROW }, onError });
  assertEquals(await served.peer.ask({ cmd: "THROW" }), { err: "INTERNAL" });
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  await settle();
}

Deno.test("by default an error is one line on stderr, that says where it was, with its stack", async () => {
  const [line, ...rest] = await stderrLines(() => askToThrow(new TypeError("the disk is full")));
  assert(line.startsWith("packline: error in THROW for memory: TypeError: the disk is full | at "), line);
  assertEquals(rest, []);
});

Deno.test("by default an error cannot move the cursor, or begin a line of its own", async () => {
  const evil = "one\ntwo\r\nthree\x1b[2J\x07\x9b\u2028\u2029\x7f\0end";
  for (const thrown of [new Error(evil), evil, { evil }, Object.assign(new Error("x"), { stack: evil })]) {
    const [line, ...rest] = await stderrLines(() => askToThrow(thrown));
    assertEquals(rest, []);
    // deno-lint-ignore no-control-regex -- that there are none is what is tested
    assert(!/[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(line), JSON.stringify(line));
    assert(line.includes("one") && line.includes("three") && line.includes("end"), line);
  }
});

Deno.test("by default whatever can be thrown is shown", async () => {
  const hostile = [
    undefined,
    null,
    0,
    "",
    Object.create(null),
    Symbol("x"),
    () => {},
    {
      [Symbol.for("Deno.customInspect")]() {
        throw new Error("no look at me");
      },
    },
    Object.defineProperty(new Error("x"), "stack", {
      get() {
        throw new Error("no look at me");
      },
    }),
    Object.assign(new Error("x"), { stack: 5 }),
    new Proxy(new Error("x"), {
      getPrototypeOf() {
        throw new Error("no look at me");
      },
    }),
  ];
  for (const thrown of hostile) {
    const lines = await stderrLines(() => askToThrow(thrown));
    assertEquals(lines.length, 1);
    assert(lines[0].startsWith("packline: error in THROW for memory: "), lines[0]);
  }
});

Deno.test("a hook that throws, or rejects, breaks nothing: both errors are written", async () => {
  const hooks = [
    () => {
      throw new Error("the hook is broken");
    },
    () => Promise.reject(new Error("the hook is broken")),
  ];
  for (const hook of hooks) {
    const lines = await stderrLines(() => askToThrow(new Error("the disk is full"), hook));
    assertEquals(lines.length, 2);
    assert(lines[0].startsWith("packline: error in THROW for memory: Error: the disk is full"), lines[0]);
    assert(lines[1].startsWith("packline: error in onError: Error: the hook is broken"), lines[1]);
  }
});

Deno.test("the hook may make a call of its own on another connection, in the middle of a reply", async () => {
  const BAD = command({ handler: (_params: Message): unknown => () => {} });
  await using other = withMemory();
  await using served = withMemory({
    commands: { BAD },
    onError: () => void other.peer.send({ cmd: 1 }),
  });
  await served.peer.send({ cmd: 1, seq: 1 }, { cmd: "BAD", seq: 2 }, { cmd: 1, seq: 3 });
  const replies = await served.peer.readReplies(3);
  assertEquals(replies.map(({ seq, res, err }) => [seq, res ?? err]), [
    [1, "PONG"],
    [2, "REPLY_NOT_ENCODABLE"],
    [3, "PONG"],
  ]);
  assertEquals(await other.peer.readReply(), PONG);
});

// What it tells of itself --------------------------------------------------------------------------------------------

Deno.test("INFO tells name, version, limits and commands, those with numbers first", async () => {
  const clock = new FakeClock();
  const commands = {
    TEXTUAL: command({ handler: (_params: Message) => 1 }),
    NUMBERED: command({
      number: 16,
      summary: "Does it",
      params: ["a", "b"],
      handler: async function* (_params: { a: number; b: number }) {},
    }),
  };
  await using served = withMemory({ clock, commands, maxInFlight: 7 });
  await clock.advance(2_500);
  const { res } = await served.peer.ask({ cmd: 3 }) as { res: Message & { commands: Message[] } };
  assertEquals(res.commands.map(({ name, number }) => [name, number]), [
    ["PING", 1],
    ["DELAY", 2],
    ["INFO", 3],
    ["STATS", 4],
    ["NUMBERED", 16],
    ["ECHO", null],
    ["TICK", null],
    ["TEXTUAL", null],
  ]);
  assertEquals(res.commands[4], { name: "NUMBERED", number: 16, summary: "Does it", params: ["a", "b"], stream: true });
  assertEquals(res.commands[7], { name: "TEXTUAL", number: null, summary: "", params: [], stream: false });
  assertEquals(res.commands[1], {
    name: "DELAY",
    number: 2,
    summary: res.commands[1].summary,
    params: ["sleep"],
    stream: false,
  });
  const { commands: _commands, ...rest } = res;
  const { handlerTimeoutMs: _endless, maxConnectionAgeMs: _off, ...limits } = DEFAULT_LIMITS;
  assertEquals(rest, {
    name: "packline",
    version: config.version,
    protocol: 1,
    uptime: 2.5,
    limits: { ...limits, maxInFlight: 7 },
  });
});

const NO_CALLS = { calls: 0, errors: {}, inFlight: 0, totalMs: 0, maxMs: 0 };

Deno.test("STATS adds up after a known run", async () => {
  const clock = new FakeClock();
  const held = new Held();
  const BAD = command({ handler: (_params: Message): unknown => () => {} });
  await using server = await withServer({ clock, commands: { HOLD: held.command, BAD } });
  let sentBytes = 0;
  let receivedBytes = 0;

  const one = await server.connect();
  const sends = async (...pieces: Uint8Array[]) => {
    sentBytes += concat(...pieces).length;
    await one.sendBytes(concat(...pieces));
  };
  await sends(request({ cmd: 1 }), request({ cmd: "PING" }), request({ cmd: 2, sleep: -1 }), request({ cmd: "NO" }));
  await sends(frame(unhex("81 c1")), request({ cmd: 1, ttl: 0 }), request({ cmd: "BAD" }), request({ cmd: 5, seq: 5 }));
  await one.readReplies(8);
  await sends(
    request({ cmd: 2, sleep: 1, seq: 1 }),
    request({ cmd: "HOLD", seq: 2 }),
    request({ cmd: "HOLD", seq: 3, ttl: 500 }),
  );
  for (let tries = 0; held.calls.length < 2 && tries < 1_000; tries++) await settle();
  await clock.advance(2_000);
  await one.readReplies(2);
  await sends(request({ cmd: 0, seq: 2, cancel: true }));
  await one.readReply();
  held.finishAll();
  receivedBytes += one.received.length;

  const bad = await server.connect();
  await bad.sendBytes(unhex("20 21 90 0d"));
  await bad.readToEnd();
  bad.close();
  const cut = await server.connect();
  await cut.sendBytes(unhex("20 26 81"));
  await cut.halfClose();
  await cut.readToEnd();
  cut.close();
  sentBytes += 4 + 3;
  receivedBytes += bad.received.length;
  await settle();

  const asked = request({ cmd: "STATS" });
  await one.sendBytes(asked);
  // deno-lint-ignore no-explicit-any -- a test knows what is in there
  const { res } = await one.readReply() as any;
  assertEquals(res.connections, { open: 1, accepted: 3, refused: 0 });
  assertEquals(res.inFlight, 0);
  assertEquals(res.refused, { badFrame: 1, invalidMessage: 2, truncated: 1, unknownCommand: 2, overloaded: 0 });
  assertEquals(res.lateReplies, 2);
  assertEquals(res.bytes, { received: sentBytes + asked.length, sent: receivedBytes });
  assertEquals(res.uptime, 2);
  const { PING, DELAY, HOLD, BAD: bads, STATS, ...others } = res.commands as Record<string, CommandStatistics>;
  assertObjectMatch(PING, { ...NO_CALLS, calls: 2 });
  assertObjectMatch(DELAY, { ...NO_CALLS, calls: 2, errors: { INVALID_SLEEP: 1 }, totalMs: 1_000, maxMs: 1_000 });
  assertEquals([HOLD.calls, HOLD.errors, HOLD.inFlight], [2, { DEADLINE_EXCEEDED: 1, CANCELLED: 1 }, 0]);
  assertEquals([HOLD.maxMs, HOLD.totalMs], [2_000, 2_500]);
  assertObjectMatch(bads, { ...NO_CALLS, calls: 1, errors: { REPLY_NOT_ENCODABLE: 1 } });
  assertObjectMatch(STATS, { ...NO_CALLS, inFlight: 1 }, "the call that asks is in flight");
  for (const counts of Object.values(others)) assertObjectMatch(counts, NO_CALLS);
  assertEquals(server.errors.take().length, 1);
});

Deno.test("STATS tells of a connection in memory too", async () => {
  await using served = withMemory();
  const { res } = await served.peer.ask({ cmd: "STATS" }) as { res: { connections: unknown } };
  assertEquals(res.connections, { open: 1, accepted: 1, refused: 0 });
});

// Limits -------------------------------------------------------------------------------------------------------------

/** The least and the most that each limit may be. */
const RANGES: Record<keyof Limits, [least: number, most: number]> = {
  maxConnections: [1, 2 ** 31 - 1],
  maxConnectionAgeMs: [1, 2 ** 31 - 1],
  maxInFlight: [1, 2 ** 31 - 1],
  maxInFlightTotal: [1, 2 ** 31 - 1],
  maxHeldBytes: [1, 2 ** 31 - 1],
  maxTotalHeldBytes: [1, 2 ** 31 - 1],
  frameTimeoutMs: [1, 2 ** 31 - 1],
  idleTimeoutMs: [1, 2 ** 31 - 1],
  halfOpenTimeoutMs: [1, 2 ** 31 - 1],
  handlerTimeoutMs: [1, 2 ** 31 - 1],
  writeTimeoutMs: [1, 2 ** 31 - 1],
  maxQueuedBytes: [1, 2 ** 31 - 1],
  maxPayloadBytes: [1, 64 * 1024 * 1024],
  maxDepth: [1, 1_000],
  maxMessageBytes: [1, 2 ** 31 - 1],
  maxStrikes: [1, 100_000],
  strikeWindowMs: [1, 2 ** 31 - 1],
};

Deno.test("every limit takes the values of its range, and refuses all others by name", () => {
  assertEquals(Object.keys(RANGES).sort(), [...LIMIT_NAMES].sort());
  for (const name of LIMIT_NAMES) {
    const [least, most] = RANGES[name];
    for (const value of [least, most, DEFAULT_LIMITS[name]]) {
      assertEquals(checkLimit(name, value), value);
      assertEquals(resolveLimits({ [name]: value })[name], value);
    }
    for (const value of [least - 1, most + 1, -1, NaN, Infinity, -Infinity, "5", 2 ** 31, 1.5, null, true, 5n, {}]) {
      if (value === Infinity && MAY_BE_ENDLESS.has(name)) {
        assertEquals(resolveLimits({ [name]: value })[name], Infinity);
        continue;
      }
      const error = assertThrows(() => checkLimit(name, value), RangeError, name);
      assert(error.message.includes(`from ${least} to ${most}`), error.message);
      assertThrows(() => resolveLimits({ [name]: value } as never), RangeError, name);
    }
  }
});

Deno.test("a refused limit is shown as it was given", () => {
  assertThrows(() => checkLimit("maxInFlight", "5"), RangeError, 'Cannot use "5" as maxInFlight');
  assertThrows(() => checkLimit("maxInFlight", -1), RangeError, "Cannot use -1 as maxInFlight");
});

Deno.test("resolveLimits() gives the defaults where nothing, or undefined, is wanted, and changes no default", () => {
  assertEquals(resolveLimits({}), DEFAULT_LIMITS);
  assertEquals(resolveLimits({ maxInFlight: undefined }), DEFAULT_LIMITS);
  const limits = resolveLimits({ maxInFlight: 1 });
  assertEquals(limits, { ...DEFAULT_LIMITS, maxInFlight: 1 });
  limits.maxDepth = 5;
  assertEquals(DEFAULT_LIMITS.maxDepth, 64);
});

Deno.test("serve() and createServer() refuse a limit out of range, and leave nothing behind", async () => {
  for (const name of LIMIT_NAMES) {
    for (const value of [0, -1, NaN, Infinity, "5", 2 ** 31, 1.5]) {
      if (value === Infinity && MAY_BE_ENDLESS.has(name)) continue;
      const limits = { [name]: value as number };
      await assertRejects(() => serve({ port: 0, ...limits }), RangeError, `as ${name}: `);
      await assertRejects(() => serveOne(memoryPair()[0], limits), RangeError, `as ${name}: `);
    }
  }
});

Deno.test("a hook gets errors as they are, with their causes", async () => {
  const wrong = new Error("outer", { cause: new Error("inner") });
  const errors: unknown[] = [];
  await askToThrow(wrong, (error) => void errors.push(error));
  assertStrictEquals(errors[0], wrong);
});
