/**
 * How calls and streams behind middleware end: by their time, their signal, the end of the client or their reader,
 * whatever a middleware does. With both engines of a client, a server that follows a script, and a clock that stands
 * still.
 */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { type Client, type ClientMiddleware, connect, type ConnectOptions } from "../../client.ts";
import { connect as connectPage } from "../../client/web.ts";
import type { Fields } from "../../codec/message.ts";
import type { RpcError } from "../../errors.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { CANCEL, END, failure, item, NEVER, Source } from "../support/outgoing_items.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

type Options = Pick<ConnectOptions, "meta" | "middleware" | "timeoutMs">;
type Scene = { client: Client; clock: FakeClock; server: ScriptedServer };

const CLIENTS: [name: string, connect: (options: ConnectOptions) => Promise<Client>][] = [
  ["client", (options) => connect(options)],
  ["client for pages", (options) => connectPage({ ...options, url: "ws://a" } as never)],
];

/** A test of each of the two clients. */
function test(name: string, body: (open: (options: Options) => Promise<Scene>) => Promise<void>): void {
  for (const [who, connect] of CLIENTS) {
    Deno.test(`${who}: middleware - ${name}`, () =>
      body(async (options) => {
        const network = memoryNetwork();
        const clock = new FakeClock();
        const client = await connect({ dial: network.dial, clock, random: () => 0, ...options });
        return { client, clock, server: await ScriptedServer.accept(network) };
      }));
  }
}

type CallOptions = { timeoutMs?: number; signal?: AbortSignal };

/** The ways to call. */
const WAYS: Record<string, (client: Client, options?: CallOptions, items?: Source) => Promise<unknown>> = {
  call: (client, options) => client.call("A", {}, options),
  upload: (client, options, items = new Source()) => client.call("A", {}, { ...options, items }),
  stream: (client, options) => client.stream("A", {}, options).next(),
  "stream both ways": (client, options, items = new Source()) => client.stream("A", {}, { ...options, items }).next(),
};

const pass: ClientMiddleware = (_call, next) => next();

/** What keeps a call before it is sent. */
const KEEPING: [name: string, options: Options][] = [
  ["a middleware", { middleware: [() => NEVER] }],
  ["the second middleware", { middleware: [pass, () => NEVER] }],
  ["the function for meta", { meta: () => NEVER }],
  ["the function for meta, before a middleware", { meta: () => NEVER, middleware: [pass] }],
];

/** Keeps the reply for a while, or for ever. */
function keepingReply(waits: (clock: FakeClock) => Promise<void>, clock: () => FakeClock): ClientMiddleware {
  return async (_call, next) => {
    try {
      return await next();
    } finally {
      await waits(clock());
    }
  };
}

function after(clock: FakeClock, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.setTimer(resolve, ms, true));
}

/** All messages up to the end that are not about the connection itself. */
async function sent(server: ScriptedServer): Promise<Fields[]> {
  return (await server.rest()).filter(({ notice }) => !notice);
}

async function errorOf(call: Promise<unknown>): Promise<RpcError> {
  return await assertRejects(() => call) as RpcError;
}

// Before it is sent ---------------------------------------------------------------------------------------------------

for (const [what, options] of KEEPING) {
  test(`kept by ${what}, every call ends in its own time or in the client's, with its items`, async (open) => {
    for (const [way, make] of Object.entries(WAYS)) {
      for (const [own, ms] of [[{}, 300], [{ timeoutMs: 50 }, 50]] as const) {
        const { client, clock, server } = await open({ ...options, timeoutMs: 300 });
        const items = new Source();
        let hasEnded = false;
        const call = errorOf(make(client, own, items)).finally(() => hasEnded = true);
        await clock.advance(ms - 1);
        assert(!hasEnded, way);
        await clock.advance(1);
        const { code, message, retryable } = await call;
        const text = `TIMEOUT: the client's middleware took ${ms} ms, and the call was not sent`;
        assertEquals([code, message, retryable], ["TIMEOUT", text, true], way);
        await turn();
        assertEquals([items.asked, items.ended], way === "upload" || way === "stream both ways" ? [0, 1] : [0, 0], way);
        await client.close();
        assertEquals([await sent(server), clock.timers], [[], 0], way);
      }
    }
  });

  test(`kept by ${what}, every call ends with its signal`, async (open) => {
    for (const [way, make] of Object.entries(WAYS)) {
      const { client, clock, server } = await open(options);
      const patience = new AbortController();
      const call = errorOf(make(client, { signal: patience.signal, timeoutMs: Infinity }));
      await turn();
      patience.abort("enough");
      const { code, cause, retryable } = await call;
      assertEquals([code, cause, retryable], ["CANCELLED", "enough", true], way);
      await client.close();
      assertEquals([await sent(server), clock.timers], [[], 0], way);
    }
  });

  test(`kept by ${what}, every call ends with the client`, async (open) => {
    const { client, clock, server } = await open(options);
    const calls = Object.values(WAYS).map((make) => errorOf(make(client, { timeoutMs: Infinity })));
    await turn();
    void client.close();
    for (const { code, retryable } of await Promise.all(calls)) assertEquals([code, retryable], ["CLOSED", true]);
    for (const make of Object.values(WAYS)) assertEquals(await failure(make(client)), "CLOSED");
    assertEquals([await sent(server), clock.timers], [[], 0]);
  });
}

test("a call whose signal is aborted already ends at once, and runs no middleware", async (open) => {
  let runs = 0;
  const { client, server } = await open({ middleware: [() => (runs++, NEVER)] });
  for (const [way, make] of Object.entries(WAYS)) {
    const items = new Source();
    const error = await errorOf(make(client, { signal: AbortSignal.abort("before"), timeoutMs: Infinity }, items));
    assertEquals([error.code, error.cause, error.retryable], ["CANCELLED", "before", true], way);
    await turn();
    assertEquals(items.ended, way === "upload" || way === "stream both ways" ? 1 : 0, way);
  }
  assertEquals(runs, 0);
  await client.close();
  assertEquals(await sent(server), []);
});

test("the time until a stream begins starts with its first next(); once it is sent, it has no end", async (open) => {
  const passing = async (): Promise<Scene & { release: () => void }> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const middleware: ClientMiddleware = async (_call, next) => (await promise, await next());
    return { ...await open({ middleware: [middleware], timeoutMs: 100 }), release: resolve };
  };
  for (const make of [WAYS.upload, WAYS.stream, WAYS["stream both ways"]]) {
    const { client, clock, server, release } = await passing();
    const unread = client.stream("A");
    await clock.advance(150);
    const call = make(client);
    await clock.advance(90);
    release();
    await server.request();
    await clock.advance(1_500);
    await server.reply({ seq: 0, res: 1, ...make !== WAYS.upload && { more: true } });
    assertEquals(await call, make === WAYS.upload ? 1 : { done: false, value: 1 });
    await unread.return(undefined);
    await client.close();
  }
});

test("a call is sent with the time that its middleware has left", async (open) => {
  const scene: Scene = await open({
    middleware: [async (_call, next) => (await after(scene.clock, 30), await next())],
  });
  for (const [seq, make] of [WAYS.call, WAYS.stream].entries()) {
    const call = errorOf(make(scene.client, { timeoutMs: 100 }));
    await scene.clock.advance(30);
    assertEquals((await scene.server.request()).ttl, 70);
    await scene.clock.advance(70);
    const { code, message, retryable } = await call;
    assertEquals([code, retryable], ["TIMEOUT", false]);
    assert(message.startsWith("TIMEOUT: no reply within 70 ms: sent to "), message);
    assertEquals(await scene.server.request(), { ...CANCEL, seq });
  }
  await scene.client.close();
});

// After it was sent ---------------------------------------------------------------------------------------------------

test("the engine's error counts, if a middleware passes it on within a second; else the call ends then", async (open) => {
  for (const way of ["call", "stream"]) {
    for (const [keptMs, text] of [[900, "no reply within 50 ms"], [Infinity, "a middleware kept the reply"]]) {
      const wait = (clock: FakeClock) => keptMs === Infinity ? NEVER : after(clock, keptMs as number);
      const scene: Scene = await open({ middleware: [keepingReply(wait, () => scene.clock)] });
      const call = errorOf(WAYS[way](scene.client, { timeoutMs: 50 }));
      await scene.server.request();
      await scene.clock.advance(50 + 1_000);
      const { code, message, retryable } = await call;
      assertEquals([code, retryable], ["TIMEOUT", false], way);
      assert(message.includes(text as string), message);
      await scene.client.close();
      assertEquals(scene.clock.timers, 0);
    }
  }
});

test("a reply that stays in a middleware ends with its time, its signal or the client", async (open) => {
  const ends: [code: string, end: (scene: Scene, patience: AbortController) => unknown][] = [
    ["TIMEOUT", ({ clock }) => clock.advance(5_000)],
    ["CANCELLED", (_scene, patience) => patience.abort()],
    ["CLOSED", ({ client }) => void client.close()],
  ];
  for (const way of ["call", "stream"]) {
    for (const [code, end] of ends) {
      const scene: Scene = await open({ middleware: [keepingReply(() => NEVER, () => scene.clock)] });
      const patience = new AbortController();
      const options = { timeoutMs: code === "TIMEOUT" ? 5_000 : Infinity, signal: patience.signal };
      let hasEnded = false;
      const call = errorOf(WAYS[way](scene.client, options)).finally(() => hasEnded = true);
      await scene.server.request();
      await scene.server.reply({ seq: 0, res: 1, ...way === "stream" && { $items: 0 } });
      await scene.clock.advance(4_000);
      assert(!hasEnded, `${way} ${code}`);
      end(scene, patience);
      const error = await call;
      assertEquals([error.code, error.retryable], [code, false], way);
      assert(error.message.endsWith("a middleware kept the reply"));
      await scene.client.close();
      assertEquals(scene.clock.timers, 0);
    }
  }
});

test("after the signal or the client ended it, a call ends within a second, with or without its middleware", async (open) => {
  for (const [way, make] of Object.entries(WAYS)) {
    for (const keeps of [false, true]) {
      for (const code of ["CANCELLED", "CLOSED"]) {
        const wait = () => keeps ? NEVER : turn();
        const scene: Scene = await open({ middleware: [keepingReply(wait, () => scene.clock)] });
        const patience = new AbortController();
        const call = errorOf(make(scene.client, { signal: patience.signal }));
        await scene.server.request();
        if (code === "CANCELLED") patience.abort();
        else void scene.client.close();
        await turn();
        if (keeps) await scene.clock.advance(1_000);
        const error = await call;
        assertEquals([error.code, error.message.includes("kept the reply")], [code, keeps], way);
        await scene.client.close();
        assertEquals(scene.clock.timers, 0);
      }
    }
  }
});

test("a call that has ended leaves nothing at a signal that lives on, and no timer", async (open) => {
  const { signal } = new AbortController();
  const listeners = new Set<unknown>();
  signal.addEventListener = (_type: string, listener: unknown) => void listeners.add(listener);
  signal.removeEventListener = (_type: string, listener: unknown) => void listeners.delete(listener);
  const { client, clock, server } = await open({ middleware: [pass] });
  const call = client.call("A", {}, { signal });
  await server.request();
  await server.reply({ seq: 0, res: 1 });
  await call;
  const stream = client.stream("A", {}, { signal });
  const first = stream.next();
  await server.request();
  await server.reply({ seq: 1, res: 1, more: true });
  await first;
  assertEquals(listeners.size, 1, "the engine's own");
  await stream.return(undefined);
  assertEquals([listeners.size, (await server.requests(2))[1]], [0, { ...CANCEL, seq: 1 }]);
  await client.close();
  assertEquals(clock.timers, 0);
});

// The reader of a stream ----------------------------------------------------------------------------------------------

test("return() ends a stream at once, and each pending next() with done", async (open) => {
  const replies: unknown[] = [];
  const middleware: ClientMiddleware = async (_call, next) => {
    const reply = await next();
    replies.push(reply);
    return reply;
  };
  const { client, server } = await open({ middleware: [middleware] });
  const items = new Source();
  const stream = client.stream("A", {}, { items });
  const pending = [stream.next(), stream.next(), stream.next()];
  assertEquals((await server.requests(2))[1], item(0));
  await server.reply({ seq: 0, res: "a", more: true });
  assertEquals(await pending[0], { done: false, value: "a" });
  assertEquals(await stream.return("mine"), { done: true, value: "mine" });
  const done = { done: true, value: undefined };
  assertEquals(await Promise.all([...pending.slice(1), stream.next()]), [done, done, done]);
  assertEquals((await server.requests(2))[1], CANCEL, "after a grant");
  await turn();
  assertEquals([replies, items.ended], [[{ res: undefined }], 1]);
  assertEquals(await stream.return(undefined), done);
  await client.close();
});

test("a reader may leave while a middleware keeps the call or its end; nothing is sent afterwards", async (open) => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const late = Promise.withResolvers<unknown>();
  const middleware: ClientMiddleware = async ({ meta }, next) => {
    if (meta.after) return (await next(), await NEVER);
    await released;
    const reply = next();
    late.resolve(reply);
    return await reply;
  };
  const { client, server, clock } = await open({ middleware: [middleware] });
  const done = { done: true, value: undefined };
  const items = new Source();
  const before = client.stream("A", {}, { items });
  const pending = [before.next(), before.next()];
  await turn();
  assertEquals(await before.return(undefined), done);
  assertEquals(await Promise.all(pending), [done, done]);
  release();
  assertEquals(await failure(late.promise as Promise<unknown>), "CANCELLED");
  assertEquals(items.ended, 1);

  const ended = client.stream("A", {}, { meta: { after: "yes" } });
  const last = [ended.next(), ended.next()];
  assertEquals((await server.request()).meta, { after: "yes" }, "the first that is sent");
  await server.reply({ seq: 0, res: 1, $items: 0 });
  await turn();
  assertEquals(await ended.return(undefined), done);
  assertEquals(await Promise.all(last), [done, done]);
  await client.close();
  assertEquals([await sent(server), clock.timers], [[], 0]);
});

test("a stream that is left before its first next() starts nothing", async (open) => {
  let runs = 0;
  const { client, server, clock } = await open({ middleware: [(_call, next) => (runs++, next())] });
  const done = { done: true, value: undefined };
  const mistake = new Error("mine");
  for (const leave of ["return", "throw", "dispose"]) {
    const items = new Source();
    const stream = client.stream("A", {}, { items });
    if (leave === "return") assertEquals(await stream.return(undefined), done);
    else if (leave === "dispose") await stream[Symbol.asyncDispose]();
    else assertStrictEquals(await assertRejects(() => stream.throw(mistake)), mistake);
    await turn();
    assertEquals([items.asked, items.ended], [0, 1], leave);
    await stream.return(undefined);
    assertEquals(await stream.next(), done);
    await turn();
    assertEquals(items.ended, 1, leave);
  }
  await client.close();
  assertEquals([runs, await sent(server), clock.timers], [0, [], 0]);
});

test("throw() ends a stream that is open, and rejects", async (open) => {
  const { client, server } = await open({ middleware: [pass] });
  const stream = client.stream("A");
  const pending = stream.next();
  await server.request();
  const mistake = new Error("mine");
  assertStrictEquals(await assertRejects(() => stream.throw(mistake)), mistake);
  assertEquals(await pending, { done: true, value: undefined });
  assertEquals(await server.request(), CANCEL);
  await client.close();
});

test("several next() at once get the items in their order, then one the result or the error, and the others done", async (open) => {
  for (const last of [{ res: "end" }, { err: "BROKE" }]) {
    const { client, server } = await open({ middleware: [async (_call, next) => (await turn(), await next())] });
    const stream = client.stream("A");
    const pending = Array.from({ length: 4 }, () => stream.next().catch(({ code }) => code));
    await server.request();
    await server.reply({ seq: 0, res: 1, more: true }, { seq: 0, res: 2, more: true }, { seq: 0, ...last });
    assertEquals(await Promise.all(pending), [
      { done: false, value: 1 },
      { done: false, value: 2 },
      "res" in last ? { done: true, value: "end" } : "BROKE",
      { done: true, value: undefined },
    ]);
    assertEquals(await stream.next(), { done: true, value: undefined });
    await client.close();
  }
});

test("next() that comes after a middleware's own answer to a stream rejects, and nothing is sent", async (open) => {
  const late = Promise.withResolvers<unknown>();
  const middleware: ClientMiddleware = (_call, next) => {
    void turn().then(() => late.resolve(next()));
    return { res: "mine" };
  };
  const { client, server } = await open({ middleware: [middleware] });
  assertEquals(await client.stream("A").next(), { done: true, value: "mine" });
  const { code, message } = await errorOf(late.promise as Promise<unknown>);
  assertEquals(code, "CANCELLED");
  assert(message.includes("next() was late"), message);
  await client.close();
  assertEquals(await sent(server), []);
});

// Items ---------------------------------------------------------------------------------------------------------------

test("the items of a call that cannot be made are ended once", async (open) => {
  const { client, server } = await open({ middleware: [pass] });
  const mistakes: [name: string, make: (items: Source) => unknown][] = [
    ["a timeout", (items) => client.call("A", {}, { items, timeoutMs: NaN })],
    ["a timeout of a stream", (items) => client.stream("A", {}, { items, timeoutMs: NaN }).next()],
    ["no time", (items) => client.call("A", {}, { items, timeoutMs: 0 })],
    ["no credit", (items) => client.stream("A", {}, { items, credit: 0 }).next()],
    ["a credit", (items) => client.stream("A", {}, { items, credit: NaN }).next()],
    ["meta", (items) => client.call("A", {}, { items, meta: { a: 1 } as never })],
    ["meta of a stream", (items) => client.stream("A", {}, { items, meta: { a: 1 } as never }).next()],
    ["idempotent", (items) => client.call("A", {}, { items, idempotent: true })],
    ["an idempotent stream", (items) => client.stream("A", {}, { items, idempotent: true }).next()],
    ["parameters", (items) => client.call("A", { at: new Date() }, { items })],
    ["parameters of a stream", (items) => client.stream("A", { at: new Date() }, { items }).next()],
  ];
  for (const [name, make] of mistakes) {
    const items = new Source();
    await assertRejects(async () => await make(items), Error, undefined, name);
    await turn();
    assertEquals([items.asked, items.ended], [0, 1], name);
  }
  await client.close();
  assertEquals(await sent(server), []);
});

test("items are read as the server takes them, also after the client's time", async (open) => {
  const { client, clock, server } = await open({ middleware: [pass], timeoutMs: 100 });
  const items = new Source((index) => index, 2);
  const call = client.call("A", {}, { items });
  assertEquals(await server.requests(2), [{ cmd: "A", $items: true, meta: {}, seq: 0 }, item(0)]);
  await clock.advance(2_000);
  assertEquals(items.asked, 1);
  await server.reply({ seq: 0, credit: 5 });
  assertEquals(await server.requests(2), [item(1), END]);
  await server.reply({ seq: 0, res: 2 });
  assertEquals(await call, 2);
  await client.close();
});
