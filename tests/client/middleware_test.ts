/**
 * What stands before the calls of a client: meta, middleware. And when it connects and closes: `lazy`, `signal`. With a server in
 * the same process, over memory; where the server comes later, over TCP.
 */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { type Client, type ClientMiddleware, connect, type ConnectOptions, type OutgoingCall } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command, reply, unchecked } from "../../handlers/command.ts";
import { createServer, serve } from "../../server.ts";
import { connectInMemory } from "../../testing.ts";
import { turn } from "../support/fake_clock.ts";

const ended: string[] = [];

const commands = {
  META: command((_params: object, { meta }) => ({ ...meta })),
  ECHO: command(({ value }: { value?: unknown }) => reply(value ?? null, { also: 1 })),
  FAIL: command((_params: object): never => {
    throw new RpcError("BROKE", "as you wish");
  }),
  HANG: command((_params: object, { signal }) =>
    new Promise<null>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
  ),
  COUNT: command(async function* ({ to, fails }: { to: number; fails?: boolean }, { meta }) {
    try {
      for (let n = 1; n <= to; n++) yield n;
      if (fails) throw new RpcError("BROKE", "as you wish");
      return meta.token ?? "none";
    } finally {
      ended.push("COUNT");
    }
  }),
};

type Commands = typeof commands;
type Options = Pick<ConnectOptions<Commands>, "meta" | "middleware">;

/** Runs a test with a client of these options. */
async function withClient(options: Options, body: (client: Client<Commands>) => Promise<void>): Promise<void> {
  ended.length = 0;
  await using server = createServer({ commands });
  await using client = await connectInMemory<Commands>(server, options);
  await body(client);
}

/** All items of a stream, then its return value, or the code with which it fails. */
async function all(stream: AsyncGenerator<unknown, unknown, void>): Promise<unknown[]> {
  const items: unknown[] = [];
  try {
    for (let item = await stream.next();; item = await stream.next()) {
      items.push(item.value);
      if (item.done) return items;
    }
  } catch (error) {
    return [...items, (error as RpcError).code];
  }
}

/** Writes down what it sees. */
function noting(log: unknown[], name: string): ClientMiddleware {
  return async ({ command }, next) => {
    log.push(`${name} ${command}`);
    try {
      const reply = await next();
      log.push([name, reply]);
      return reply;
    } catch (error) {
      log.push([name, (error as RpcError).code]);
      throw error;
    }
  };
}

// Meta ---------------------------------------------------------------------------------------------------------------

const METAS: [name: string, meta: NonNullable<Options["meta"]>][] = [
  ["an object", { token: "t", trace: "x" }],
  ["a function", () => ({ token: "t", trace: "x" })],
  ["an async function", () => Promise.resolve({ token: "t", trace: "x" })],
];

for (const [name, meta] of METAS) {
  Deno.test(`connect() - meta as ${name} goes with every call; a call's own is added, and counts where both have a name`, async () => {
    await withClient({ meta }, async (client) => {
      assertEquals(await client.call.META(), { token: "t", trace: "x" });
      assertEquals(await client.call.META({}, { meta: { trace: "y", more: "z" } }), {
        token: "t",
        trace: "y",
        more: "z",
      });
      assertEquals((await client.reply.META()).res, { token: "t", trace: "x" });
      assertEquals(await client.outcome.META(), { ok: true, value: { token: "t", trace: "x" } });
      assertEquals(await all(client.stream.COUNT({ to: 1 })), [1, "t"]);
      assertEquals(await all(client.stream.COUNT({ to: 1 }, { meta: { token: "own" } })), [1, "own"]);
    });
  });
}

Deno.test("connect() - meta as a function is asked for each call; if it fails, the call does, and nothing is sent", async () => {
  let asked = 0;
  const failure = new Error("no token today");
  const meta = () => {
    if (++asked === 3) throw failure;
    return { token: String(asked) };
  };
  await withClient({ meta }, async (client) => {
    assertEquals([await client.call.META(), await client.call.META()], [{ token: "1" }, { token: "2" }]);
    assertStrictEquals(await assertRejects(() => client.call.META()), failure);
    assertEquals(await client.call.META(), { token: "4" });
    const { commands } = await client.call.STATS();
    assertEquals(commands.META.calls, 3);
  });
});

Deno.test("connect() - meta that is no text fails the call, whoever gives it", async () => {
  const wrong = { n: 1 } as unknown as Record<string, string>;
  for (
    const options of [{ meta: wrong }, { meta: () => wrong }, {
      middleware: [(_, next) => next({ meta: wrong })],
    }] as Options[]
  ) {
    await withClient(options, async (client) => {
      await assertRejects(() => client.call.META(), TypeError, "meta.n");
    });
  }
});

// Middleware ---------------------------------------------------------------------------------------------------------

Deno.test("client middleware - the first is outermost; each sees the call, and the reply whole", async () => {
  const log: unknown[] = [];
  await withClient({ middleware: [noting(log, "one"), noting(log, "two")] }, async (client) => {
    assertEquals(await client.call.ECHO({ value: [1] }), [1]);
    const whole = { res: [1], also: 1 };
    assertEquals(log, ["one ECHO", "two ECHO", ["two", whole], ["one", whole]]);
    assertEquals(await client.reply.ECHO({ value: [1] }), whole);
    assertEquals(await client.outcome("ECHO", { value: [1] }), { ok: true, value: [1] });
  });
});

Deno.test("client middleware - it sees command, parameters, meta so far and the caller's signal, and adds to meta", async () => {
  const seen: OutgoingCall[] = [];
  const adding = (meta: Record<string, string>): ClientMiddleware => (call, next) => {
    seen.push(call);
    return next({ meta });
  };
  const middleware = [adding({ token: "one" }), adding({ trace: "two" }), adding({})];
  await withClient({ meta: { token: "zero" }, middleware }, async (client) => {
    const { signal } = new AbortController();
    assertEquals(await client.call.META({}, { meta: { own: "o" }, signal }), { token: "one", own: "o", trace: "two" });
    const base = { command: "META", params: {}, signal };
    assertEquals(seen, [
      { ...base, meta: { token: "zero", own: "o" } },
      { ...base, meta: { token: "one", own: "o" } },
      { ...base, meta: { token: "one", own: "o", trace: "two" } },
    ]);
    for (const call of seen) assertStrictEquals(call.signal, signal);
    seen.length = 0;
    await client.call("ECHO", { value: undefined });
    assertEquals(seen[0], { command: "ECHO", params: {}, meta: { token: "zero" }, signal: undefined });
  });
});

Deno.test("client middleware - a failed call rejects next(); the error may be passed on, changed or answered", async () => {
  const log: unknown[] = [];
  const changing: ClientMiddleware = ({ meta }, next) =>
    next().catch((error) => {
      if (meta.answer) return { res: meta.answer };
      throw meta.change ? new RpcError("CHANGED") : error;
    });
  await withClient({ middleware: [changing, noting(log, "inner")] }, async (client) => {
    const code = async (meta: Record<string, string>) =>
      (await assertRejects(() => client.call.FAIL({}, { meta }), RpcError)).code;
    assertEquals([await code({}), await code({ change: "yes" })], ["BROKE", "CHANGED"]);
    assertEquals(await client.call("FAIL" as string, {}, { meta: { answer: "rescued" } }), "rescued");
    const outcome = await client.outcome.FAIL({}, { meta: { change: "yes" } });
    assertEquals(outcome.ok ? undefined : outcome.error.code as string, "CHANGED");
    assertEquals(log, new Array(4).fill(["inner FAIL", ["inner", "BROKE"]]).flat());
  });
});

Deno.test("client middleware - what it throws or returns that is no reply rejects the call; an outcome holds an RpcError alone", async () => {
  const wrong = new Error("a mistake");
  const cases: [ClientMiddleware, error: unknown][] = [
    [() => {
      throw wrong;
    }, wrong],
    [() => Promise.reject(wrong), wrong],
    [() => undefined as never, "the middleware returned undefined: return { res: value }"],
    [async (_, next) => void await next() as never, "the middleware returned undefined"],
    [() => "done" as never, "the middleware returned a string"],
  ];
  const pass: ClientMiddleware = (_, next) => next();
  for (const [middleware, expected] of cases) {
    for (const chain of [[middleware], [pass, middleware]]) {
      await withClient({ middleware: chain }, async (client) => {
        const calls = [
          client.call.PING(),
          client.reply.PING(),
          client.outcome.PING(),
          client.stream.COUNT({ to: 0 }).next(),
        ];
        for (const call of calls) {
          const error = await assertRejects(() => call as Promise<unknown>, Error);
          if (typeof expected !== "string") assertStrictEquals(error, expected);
          else assert(error instanceof TypeError && error.message.startsWith(expected), Deno.inspect(error));
        }
      });
    }
  }
});

Deno.test("client middleware - a call is sent once, however often next() is called, and not at all without", async () => {
  const log: unknown[] = [];
  const middleware: ClientMiddleware[] = [
    ({ meta }, next) => meta.cached ? { res: meta.cached, cached: true } : next(),
    async (_call, next) => {
      const first = next();
      assertStrictEquals(next({ meta: { token: "late" } }), first);
      return await first;
    },
    noting(log, "inner"),
  ];
  await withClient({ middleware }, async (client) => {
    assertEquals(await client.call.META(), {});
    assertEquals(log.length, 2);
    assertEquals(await client.reply.META({}, { meta: { cached: "yes" } }) as unknown, { res: "yes", cached: true });
    assertEquals(log.length, 2);
  });
});

Deno.test("client middleware - it need not wait: what fails behind it ends nothing", async () => {
  const hasty: ClientMiddleware = ({ command }, next) => {
    const passed = next();
    return command === "FAIL" ? { res: "at once" } : passed;
  };
  await withClient({ middleware: [hasty] }, async (client) => {
    assertEquals(await client.call("FAIL" as string), "at once");
    assertEquals(await client.call.PING(), "PONG"); // behind the failure's reply
  });
});

Deno.test("client middleware - parameters may be changed right after the call, although a middleware waits", async () => {
  for (
    const options of [{ middleware: [async (_, next) => (await Promise.resolve(), next())] }, {
      meta: async () => (await Promise.resolve(), {}),
    }] as Options[]
  ) {
    await withClient(options, async (client) => {
      const value = { list: [1], bytes: new Uint8Array([1, 2]) };
      const params = { value };
      const first = client.call.ECHO(params);
      const second = client.outcome.ECHO(params);
      const count = { to: 2 };
      const stream = client.stream.COUNT(count);
      count.to = 5;
      value.list.push(2);
      value.bytes.fill(9);
      params.value = { list: [], bytes: new Uint8Array() };
      const given = { list: [1], bytes: new Uint8Array([1, 2]) };
      assertEquals([await first, await second], [given, { ok: true, value: given }]);
      assertEquals(await all(stream), [1, 2, "none"]);
    });
  }
});

Deno.test("client middleware - options may be changed right after the call, and used for the next one", async () => {
  const commands = {
    LIST: command({ items: unchecked<number>(), handler: (_: object, { items }) => Array.fromAsync(items) }),
  };
  const before: Options[] = [{ meta: () => Promise.resolve({}) }, { middleware: [(_call, next) => next()] }];
  await using server = createServer({ commands });
  for (const options of before) {
    await using client = await connectInMemory<typeof commands>(server, options as object);
    const [first, second] = [new AbortController(), new AbortController()];
    const given = { items: [1, 2], signal: first.signal };
    const one = client.call.LIST({}, given);
    given.items = [3, 4];
    given.signal = second.signal;
    const other = assertRejects(() => client.call.LIST({}, given), RpcError, "CANCELLED");
    second.abort();
    assertEquals(await one, [1, 2]);
    await other;
  }
});

Deno.test("client middleware - what is added to the array after connect() is not used", async () => {
  const middleware: ClientMiddleware[] = [];
  await withClient({ middleware }, async (client) => {
    middleware.push(() => ({ res: "later" }));
    assertEquals(await client.call.ECHO({ value: "first" }), "first");
  });
});

Deno.test("client middleware - what cannot be sent rejects before any middleware runs", async () => {
  const log: unknown[] = [];
  await withClient({ middleware: [noting(log, "one")] }, async (client) => {
    const calls = [client.call, client.reply, client.outcome].map((call) => call("ECHO", { value: new Date() }));
    for (const call of calls) {
      await assertRejects(() => call as Promise<unknown>, TypeError, "params.value: a Date cannot be sent");
    }
    await assertRejects(() => client.call("ECHO" as string, { seq: 1 }), TypeError, '"seq" is reserved');
    assertEquals(log, []);
  });
});

// Streams ------------------------------------------------------------------------------------------------------------

Deno.test("client middleware - for a stream next() resolves after its last item, with the handler's return value", async () => {
  const log: unknown[] = [];
  await withClient({ middleware: [noting(log, "one"), noting(log, "two")] }, async (client) => {
    const stream = client.stream.COUNT({ to: 3 }, { meta: { token: "t" } });
    assertEquals(log, [], "nothing is sent before the first item is asked for");
    assertEquals([await stream.next(), await stream.next()].map(({ value }) => value), [1, 2]);
    assertEquals(log, ["one COUNT", "two COUNT"]);
    assertEquals(await all(stream), [3, "t"]);
    assertEquals(log.slice(2), [["two", { res: "t" }], ["one", { res: "t" }]]);
  });
});

Deno.test("client middleware - a stream that is left early ends its handler, and next() resolves without a result", async () => {
  const log: unknown[] = [];
  const finished = Promise.withResolvers<void>();
  const last: ClientMiddleware = async (_, next) => {
    const reply = await next();
    finished.resolve();
    return reply;
  };
  await withClient({ middleware: [last, noting(log, "one")] }, async (client) => {
    for await (const n of client.stream.COUNT({ to: Infinity })) {
      if (n === 2) break;
    }
    await finished.promise;
    assertEquals(log, ["one COUNT", ["one", { res: undefined }]]);
    assertEquals(await client.call.PING(), "PONG"); // behind the cancel
    assertEquals(ended, ["COUNT"]);
  });
});

Deno.test("client middleware - a stream that fails rejects next(); the error may be passed on, changed or answered", async () => {
  const log: unknown[] = [];
  const changing: ClientMiddleware = ({ meta }, next) =>
    next().catch((error) => {
      if (meta.answer) return { res: meta.answer };
      throw meta.change ? new RpcError("CHANGED") : error;
    });
  await withClient({ middleware: [changing, noting(log, "inner")] }, async (client) => {
    const items = (meta: Record<string, string>) => all(client.stream.COUNT({ to: 2, fails: true }, { meta }));
    assertEquals(await items({}), [1, 2, "BROKE"]);
    assertEquals(await items({ change: "yes" }), [1, 2, "CHANGED"]);
    assertEquals(await items({ answer: "rescued" }), [1, 2, "rescued"]);
    assertEquals(log, new Array(3).fill(["inner COUNT", ["inner", "BROKE"]]).flat());
  });
});

Deno.test("client middleware - it may refuse a stream, answer it alone, or answer in the place of its end", async () => {
  const middleware: ClientMiddleware = async ({ meta }, next) => {
    if (meta.refuse) throw new RpcError("REFUSED");
    if (meta.alone) return { res: meta.alone };
    return { ...await next(), res: "replaced" };
  };
  await withClient({ middleware: [middleware] }, async (client) => {
    const items = (meta: Record<string, string>) => all(client.stream.COUNT({ to: 2 }, { meta }));
    assertEquals(await items({ refuse: "yes" }), ["REFUSED"]);
    assertEquals(await items({ alone: "alone" }), ["alone"]);
    assertEquals(ended, [], "no handler ran");
    assertEquals(await items({}), [1, 2, "replaced"]);
  });
});

// lazy ---------------------------------------------------------------------------------------------------------------

Deno.test("connect() - lazy returns before there is a server; the first call dials, and waits for one", async () => {
  const states: string[] = [];
  const waiting = Promise.withResolvers<void>();
  let { port } = await serve({ port: 0 }).then(async (server) => (await server.shutdown(), server));
  await using client = await connect<Commands>({
    port,
    lazy: true,
    onState: (state) => {
      states.push(state);
      if (state === "waiting") waiting.resolve();
    },
  });
  assertEquals([client.state, states], ["idle", []]);
  const call = client.call.ECHO({ value: 1 });
  await waiting.promise;
  await using server = await serve({ port, commands });
  port = server.port;
  assertEquals(await call, 1);
  assertEquals([states[0], client.state], ["connecting", "open"]);
});

Deno.test("connect() - lazy without a server: a call fails within its time, and says why", async () => {
  const { port } = await serve({ port: 0 }).then(async (server) => (await server.shutdown(), server));
  await assertRejects(() => connect({ port }), RpcError, "CONNECTION_LOST");
  await using client = await connect({ port, lazy: true });
  const error = await assertRejects(() => client.call.PING({}, { timeoutMs: 50 }), RpcError);
  assertEquals([error.code, error.retryable], ["TIMEOUT", true]);
  assert(error.message.includes(String(port)), error.message);
});

// signal -------------------------------------------------------------------------------------------------------------

Deno.test("connect() - an aborted signal closes the client: calls reject with CLOSED, the connection ends", async () => {
  await using server = createServer({ commands });
  const controller = new AbortController();
  await using client = await connectInMemory<Commands>(server, { signal: controller.signal });
  const hanging = client.call.HANG();
  const rejected = assertRejects(() => hanging, RpcError, "CLOSED");
  controller.abort();
  await rejected;
  assertEquals(client.state, "closed");
  await assertRejects(() => client.call.PING(), RpcError, "CLOSED");
});

Deno.test("connect() - a signal that is aborted before, or during, the dial rejects with CLOSED", async () => {
  let dials = 0;
  const { promise: aborted, resolve } = Promise.withResolvers<unknown>();
  const dial = (signal: AbortSignal) => {
    dials++;
    return new Promise<never>((_, reject) =>
      signal.addEventListener("abort", () => (resolve(signal.reason), reject(signal.reason)))
    );
  };
  await assertRejects(() => connect({ dial, signal: AbortSignal.abort() }), RpcError, "CLOSED");
  assertEquals(dials, 0);
  const client = await connect({ dial, signal: AbortSignal.abort(), lazy: true });
  await assertRejects(() => client.call.PING(), RpcError, "CLOSED");
  assertEquals([dials, client.state], [0, "closed"]);

  const controller = new AbortController();
  const connecting = assertRejects(() => connect({ dial, signal: controller.signal }), RpcError, "CLOSED");
  controller.abort();
  await connecting;
  assertEquals([dials, (await aborted as RpcError).code], [1, "CLOSED"]);
});

Deno.test("connect() - a closed client leaves nothing at a signal that lives on", async () => {
  const { signal } = new AbortController();
  const listeners = new Set<unknown>();
  signal.addEventListener = (_type: string, listener: unknown) => void listeners.add(listener);
  signal.removeEventListener = (_type: string, listener: unknown) => void listeners.delete(listener);
  const states: string[] = [];
  await using server = createServer({ commands });
  {
    await using client = await connectInMemory<Commands>(server, {
      signal,
      onState: (state) => void states.push(state),
    });
    assertEquals([await client.call.PING(), listeners.size], ["PONG", 1]);
  }
  assertEquals([listeners.size, states], [0, ["connecting", "open", "closed"]]);
});

Deno.test("client middleware - the time and the signal of a call count while it waits, and nothing is sent then", async () => {
  const slow: ClientMiddleware = async (_call, next) => {
    await turn();
    return await next();
  };
  const never: ClientMiddleware = () => new Promise(() => {});
  const patience = new AbortController();
  await withClient({ middleware: [never] }, async (client) => {
    const late = await client.outcome.ECHO({}, { timeoutMs: 10 });
    if (late.ok) throw new Error("it has an answer");
    assertEquals([late.error.code, late.error.retryable], ["TIMEOUT", true]);
    assertEquals(late.error.message, "TIMEOUT: the client's middleware took 10 ms, and the call was not sent");
    const left = client.outcome.ECHO({}, { signal: patience.signal });
    patience.abort("enough");
    const aborted = await left;
    if (aborted.ok) throw new Error("it has an answer");
    assertEquals([aborted.error.code, aborted.error.retryable], ["CANCELLED", true]);
    assertEquals(aborted.error.cause, "enough");
  });
  await withClient({ middleware: [slow] }, async (client) => {
    const cut = await client.outcome.HANG({}, { timeoutMs: 60 });
    assert(!cut.ok && cut.error.code === "TIMEOUT" && !cut.error.retryable); // it was sent, with the time that was left
    assertEquals(await client.call.ECHO({ value: 1 }, { timeoutMs: Infinity }), 1);
  });
});

Deno.test("meta - one that has no fields to send is refused, wherever it is given", async () => {
  for (
    const meta of [new Map([["token", "secret"]]), new Headers({ token: "secret" }), ["secret"], "secret"] as never[]
  ) {
    const places: [Options, { meta?: never }?][] = [
      [{ meta }],
      [{ meta: () => meta }],
      [{ meta: { also: "1" } }, { meta }],
      [{ middleware: [(_call, next) => next()] }, { meta }],
      [{ middleware: [(_call, next) => next({ meta })] }],
    ];
    for (const [options, callOptions] of places) {
      await withClient(options, async (client) => {
        const call = () => client.call.META({}, callOptions);
        const { message } = await assertRejects(call, TypeError);
        assert(/^Cannot call META: meta: an? \w+ cannot be sent here, only a plain object$/.test(message), message);
      });
    }
  }
});
