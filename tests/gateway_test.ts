/** A handler that calls another server: what of that server's answers its own caller hears, and what the hook does. */

import { assertEquals, assertRejects } from "@std/assert";
import { demoCommands } from "../cli/demo_commands.ts";
import { markReceived } from "../errors.ts";
import { connect, RpcError, serve, tracked } from "../mod.ts";
import { command } from "../handlers/command.ts";
import { FakeClock, turn } from "./support/fake_clock.ts";

/** A client of a server whose handlers pass on each call to a server behind it. */
async function setUp() {
  const reported: unknown[] = [];
  const stopped = Promise.withResolvers<void>();
  const behindCommands = {
    ...demoCommands,
    FAIL: command({
      handler({ code }: { code: string }): null {
        throw new RpcError(code, "from behind");
      },
    }),
  };
  const retryBudget = { perCall: 0, perSecond: 0 }; // what is refused for ever would be sent again for 30 s
  const behind = await serve({ port: 0, commands: behindCommands });
  const inner = await connect({ port: behind.port, commands: behindCommands, retryBudget });
  const commands = {
    PASS: command({ handler: ({ code }: { code: string }) => inner.call.FAIL({ code }) }),
    SLEEP: command({
      async handler(_params: Record<never, never>, { signal }) {
        try {
          return await inner.reply("DELAY", { sleep: 60 }, { signal });
        } finally {
          stopped.resolve();
        }
      },
    }),
    OWN: command({
      handler({ code }: { code: string }): null {
        throw new RpcError(code);
      },
    }),
  };
  const server = await serve({ port: 0, commands, onError: (error) => reported.push(error) });
  const client = await connect({ port: server.port, commands, retryBudget });
  return {
    client,
    reported,
    stopped: stopped.promise,
    async [Symbol.asyncDispose]() {
      await client.close();
      await server.shutdown();
      await inner.close();
      await behind.shutdown();
    },
  };
}

Deno.test("a handler that lets OVERLOADED pass from another server does not say that it was not started itself", async () => {
  await using gateway = await setUp();
  const error = await assertRejects(() => gateway.client.reply("PASS", { code: "OVERLOADED" }), RpcError);
  assertEquals([error.code, error.retryable], ["INTERNAL", false]);
  assertEquals(gateway.reported.map((each) => (each as RpcError).message), ["OVERLOADED: from behind"]);
});

Deno.test("a handler does not let OVERLOADED pass either if it is not retryable there, as after an earlier copy was lost", async () => {
  const lost = markReceived(new RpcError("OVERLOADED", "from behind", { retryable: false }));
  const commands = { PASS: command({ handler: (): Promise<null> => Promise.reject(lost) }) };
  const reported: unknown[] = [];
  await using server = await serve({ port: 0, commands, onError: (error) => reported.push(error) });
  await using client = await connect({ port: server.port, commands });
  assertEquals((await assertRejects(() => client.call.PASS(), RpcError)).code, "INTERNAL");
  assertEquals(reported, [lost]);
});

Deno.test("a handler does not say that its own server is going away if another one has cut its call or its stream", async () => {
  const running = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const lasting = {
    CALL: command((_params: object, { signal }) => {
      running[0].resolve();
      return new Promise<null>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    }),
    STREAM: command(async function* (_params: object, { signal }) {
      yield 1;
      running[1].resolve();
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    }),
  };
  await using behind = await serve({ port: 0, commands: lasting });
  await using inner = await connect({ port: behind.port, commands: lasting });
  const commands = {
    CALL: command(() => inner.call.CALL()),
    STREAM: command(() => inner.stream.STREAM()),
  };
  const reported: unknown[] = [];
  await using server = await serve({ port: 0, commands, onError: (error) => reported.push((error as RpcError).code) });
  await using client = await connect({ port: server.port, commands });
  const call = assertRejects(() => client.call.CALL(), RpcError);
  const stream = assertRejects(() => Array.fromAsync(client.stream.STREAM()), RpcError);
  await Promise.all(running.map(({ promise }) => promise));
  await behind.shutdown({ graceMs: 0 });
  assertEquals([(await call).code, (await stream).code], ["INTERNAL", "INTERNAL"]);
  assertEquals(reported.sort(), ["CANCELLED", "GOING_AWAY"]);
});

Deno.test("a handler lets every other code pass as it is", async () => {
  await using gateway = await setUp();
  for (const code of ["OUT_OF_STOCK", "INVALID_PARAMS", "INTERNAL"]) {
    const error = await assertRejects(() => gateway.client.reply("PASS", { code }), RpcError);
    assertEquals([error.code, error.message], [code, `${code}: from behind`]);
  }
  assertEquals(gateway.reported, []);
});

Deno.test("a handler may refuse a request by a code of its own that says it was not started", async () => {
  await using gateway = await setUp();
  const error = await assertRejects(() => gateway.client.reply("OWN", { code: "OVERLOADED" }), RpcError);
  assertEquals([error.code, error.retryable], ["OVERLOADED", true]);
  assertEquals(gateway.reported, []);
});

Deno.test("a handler that passes its signal on ends with its call, and the hook hears nothing of it", async () => {
  await using gateway = await setUp();
  const patience = new AbortController();
  const call = gateway.client.reply("SLEEP", {}, { signal: patience.signal });
  await gateway.client.reply("PING"); // the call has begun when this one, behind it, is answered
  patience.abort();
  assertEquals((await assertRejects(() => call, RpcError)).code, "CANCELLED");
  await gateway.stopped;
  await gateway.client.reply("PING");
  assertEquals(gateway.reported, []);
});

/** Commands that never answer, and end with their calls. */
const endless = {
  CALL: command((_params: object, { signal }) => {
    return new Promise<null>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  }),
  STREAM: command(async function* (_params: object, { signal }) {
    yield 1;
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  }),
};

Deno.test("a handler that gives up its own call does not say that its caller has, or that its server is going away", async () => {
  await using behind = await serve({ port: 0, commands: endless });
  await using inner = await connect({ port: behind.port, commands: endless });
  const hanging = { port: behind.port, commands: endless, meta: () => new Promise<Record<string, string>>(() => {}) };
  await using kept = await connect(hanging);
  let runs = 0;
  const commands = {
    CALL: command(() => inner.call.CALL({}, { signal: AbortSignal.timeout(1) })),
    UNSENT: command(() => inner.call.CALL({}, { signal: AbortSignal.abort() })),
    KEPT: command(() => kept.call.CALL({}, { signal: AbortSignal.timeout(1) })),
    STREAM: command(async function* ({ after = 0 }: { after?: number }) {
      runs++;
      const patience = new AbortController();
      for await (const item of inner.stream.STREAM({}, { signal: patience.signal })) {
        yield tracked(after + item, item);
        patience.abort();
      }
    }),
  };
  const reported: unknown[] = [];
  await using server = await serve({ port: 0, commands, onError: (error) => reported.push((error as RpcError).code) });
  await using client = await connect({ port: server.port, commands });
  for (const name of ["CALL", "UNSENT", "KEPT"] as const) {
    const error = await assertRejects(() => client.call[name](), RpcError);
    assertEquals([error.code, error.retryable], ["INTERNAL", false], name);
  }
  const error = await assertRejects(() => Array.fromAsync(client.stream.STREAM({})), RpcError);
  assertEquals([error.code, runs], ["INTERNAL", 1]); // not begun again, as at a server that goes away
  assertEquals(reported, new Array(4).fill("CANCELLED"));
});

Deno.test("a handler that ends its own calls with its own signal, after its caller has left, is not reported", async () => {
  await using behind = await serve({ port: 0, commands: endless });
  await using inner = await connect({ port: behind.port, commands: endless });
  const ended = Promise.withResolvers<void>();
  const commands = {
    CALL: command(async (_params: object, { signal }) => {
      const own = new AbortController();
      signal.addEventListener("abort", () => own.abort());
      return await inner.call.CALL({}, { signal: own.signal });
    }),
  };
  const reported: unknown[] = [];
  await using server = await serve({
    port: 0,
    commands,
    middleware: [(call, next) => call.command === "CALL" ? next().finally(ended.resolve) : next()],
    onError: (error) => reported.push(error),
  });
  await using client = await connect({ port: server.port, commands });
  const patience = new AbortController();
  const call = client.call.CALL({}, { signal: patience.signal });
  await client.call.PING(); // the call has begun
  patience.abort();
  assertEquals((await assertRejects(() => call, RpcError)).code, "CANCELLED");
  await ended.promise;
  await client.call.PING();
  assertEquals(reported, []);
});

Deno.test("a caller that waits for the work of another call does not hear that it has cancelled, if the other has", async () => {
  let shared: Promise<null> | undefined;
  const commands = {
    ONCE: command((_params: object, { signal }) =>
      shared ??= new Promise<null>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
    ),
  };
  const reported: unknown[] = [];
  await using server = await serve({ port: 0, commands, onError: (error) => reported.push((error as RpcError).code) });
  await using client = await connect({ port: server.port, commands });
  const patience = new AbortController();
  const first = client.call.ONCE({}, { signal: patience.signal });
  const second = client.call.ONCE();
  await client.call.PING(); // both have begun
  patience.abort();
  assertEquals((await assertRejects(() => first, RpcError)).code, "CANCELLED");
  assertEquals((await assertRejects(() => second, RpcError)).code, "INTERNAL");
  assertEquals(reported, ["CANCELLED"]);
});

Deno.test("a handler that passes its deadline on answers DEADLINE_EXCEEDED, whichever of the two calls ends first", async () => {
  const clock = new FakeClock();
  await using behind = await serve({ port: 0, commands: endless, clock });
  await using inner = await connect({ port: behind.port, commands: endless, clock, aliveMs: 0 });
  const commands = {
    CALL: command({ timeoutMs: 1_000, handler: (_, { remaining }) => inner.call.CALL({}, { timeoutMs: remaining() }) }),
    // A stream rejects later than a call, and its own deadline has ended the call before.
    STREAM: command({
      timeoutMs: 1_000,
      handler: (_, { remaining }) => inner.stream.STREAM({}, { timeoutMs: remaining() }),
    }),
    EARLY: command({ timeoutMs: 1_000, handler: () => inner.call.CALL({}, { timeoutMs: 500 }) }),
  };
  const reported: unknown[] = [];
  await using server = await serve({
    port: 0,
    commands,
    clock,
    onError: (error) => reported.push((error as RpcError).code),
  });
  await using client = await connect({ port: server.port, commands, clock, aliveMs: 0, timeoutMs: Infinity });
  for (const innerIsFirst of [true, false]) {
    // Of two timers for the same time, the older one is the first.
    const older = innerIsFirst ? inner.outcome.CALL({}, { timeoutMs: 1_000 }) : undefined;
    const ended = [client.outcome.CALL(), Array.fromAsync(client.stream.STREAM()).catch((error) => ({ error }))];
    while (behind.statistics().inFlight < (innerIsFirst ? 3 : 2)) await turn();
    await clock.advance(1_010);
    for (const outcome of await Promise.all(ended)) {
      assertEquals("error" in outcome && outcome.error.code, "DEADLINE_EXCEEDED", `${innerIsFirst}`);
    }
    await older;
    while (behind.statistics().inFlight > 0) await turn();
  }
  assertEquals(reported, []);
  const early = client.outcome.EARLY();
  while (behind.statistics().inFlight < 1) await turn();
  await clock.advance(510);
  const outcome = await early;
  assertEquals([outcome.ok ? "" : outcome.error.code, reported], ["INTERNAL", ["TIMEOUT"]]);
});

Deno.test("a handler that ends its own call because its server shuts down sends its reader elsewhere", async () => {
  await using behind = await serve({ port: 0, commands: endless });
  await using inner = await connect({ port: behind.port, commands: endless });
  const commands = {
    GIVEN: command((_params: object, { signal, draining }) =>
      inner.stream.STREAM({}, { signal: AbortSignal.any([signal, draining]) })
    ),
    OWN: command((_params: object, { draining }) => {
      const own = new AbortController();
      draining.addEventListener("abort", () => own.abort());
      return inner.stream.STREAM({}, { signal: own.signal });
    }),
  };
  const reported: unknown[] = [];
  const server = await serve({ port: 0, commands, onError: (error) => reported.push(error) });
  await using client = await connect({ port: server.port, commands });
  const streams = [client.stream.GIVEN(), client.stream.OWN()];
  for (const stream of streams) await stream.next();
  const ended: Promise<RpcError>[] = streams.map((stream) => assertRejects(() => stream.next(), RpcError));
  await server.shutdown();
  assertEquals((await Promise.all(ended)).map(({ code }) => code), ["GOING_AWAY", "GOING_AWAY"]);
  assertEquals(reported, []);
});
