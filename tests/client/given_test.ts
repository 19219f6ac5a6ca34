/** What a caller gives is encoded when it is given; what cannot be sent is refused before anything is. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type CallOptions, type Client, type ClientMiddleware, connect, type StreamOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { memoryPair } from "../../transport/memory.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

/** Changes all that was given, after each call: with a server that is there, and where calls wait for their turn. */
for (const maxInFlight of [128, 1]) {
  for (const sequenced of [true, false]) {
    Deno.test(`what is given may be used again at once (maxInFlight ${maxInFlight}, sequenced ${sequenced})`, async () => {
      const commands = {
        ECHO: command({ handler: (params: Record<string, unknown>, { meta }) => ({ ...params, meta }) }),
        STREAM: command({
          async *handler(params: Record<string, unknown>, { meta }) {
            yield { ...params, meta };
          },
        }),
      };
      await using server = await serve({ port: 0, commands });
      await using client = await connect<typeof commands>({ port: server.port, maxInFlight, sequenced });
      const bytes = new Uint8Array(4), inner = { n: 0 }, list = [0], meta = { token: "" };
      const params: Record<string, unknown> = { bytes, inner, list };
      const calls: Promise<unknown>[] = [];
      const wanted: unknown[] = [];
      for (let n = 0; n < 20; n++) {
        bytes.fill(n), inner.n = list[0] = n, meta.token = `${n}`, params[`p${n}`] = n;
        wanted.push(structuredClone({ ...params, meta }));
        if (sequenced && n % 4 === 0) {
          const stream = client.stream("STREAM", params, { meta });
          calls.push((async () => (await Array.fromAsync(stream))[0])());
        } else {
          calls.push(client.reply("ECHO", params, { meta, idempotent: n % 2 === 0 }).then(({ res }) => res));
        }
      }
      bytes.fill(255), inner.n = -1, list.length = 0, meta.token = "changed", delete params.p3;
      assertEquals(await Promise.all(calls), wanted);
    });
  }
}

Deno.test("a function for meta may give the same object for each call", async () => {
  const commands = { TOKEN: command((_: object, { meta }) => meta.token) };
  await using server = await serve({ port: 0, commands });
  const meta: Record<string, string> = {};
  let calls = 0;
  const options = { port: server.port, meta: () => Object.assign(meta, { token: `${++calls}` }) };
  await using client = await connect<typeof commands>(options);
  assertEquals(await Promise.all([client.call.TOKEN(), client.call.TOKEN(), client.call.TOKEN()]), ["1", "2", "3"]);
});

Deno.test("null is neither the parameters nor the options of a call", async () => {
  await using client = await connect({ dial: () => Promise.resolve(memoryPair()[0]) });
  const options = "Cannot use null as options: it must be an object";
  await assertRejects(() => client.call("A", {}, null as never), TypeError, options);
  assertThrows(() => client.stream("A", {}, null as never), TypeError, options);
  const passing: ClientMiddleware = (_call, next) => next();
  await using behind = await connect({ dial: () => Promise.resolve(memoryPair()[0]), middleware: [passing] });
  for (const { call } of [client, behind]) {
    await assertRejects(() => call("A", null as never), TypeError, "params: null cannot be sent here");
  }
});

Deno.test("what cannot be a command is refused at once, and nothing is sent", async () => {
  const passing: ClientMiddleware = (_call, next) => next();
  for (const middleware of [[], [passing]]) {
    using network = memoryNetwork();
    await using client = await connect({ dial: () => network.dial(), middleware });
    await using server = await ScriptedServer.accept(network);
    const wrong: [name: unknown, shown: string][] = [
      ...[[0, "0"], [-1, "-1"], [1.5, "1.5"], [NaN, "NaN"], [Infinity, "Infinity"]] as [number, string][],
      ...[[null, "null"], [undefined, "undefined"], [{}, "an Object"], [() => {}, "a function"]] as [unknown, string][],
    ];
    for (const [name, shown] of wrong) {
      const text = `Cannot call ${shown}: a command is called by its name, as in call("PING")`;
      const call = await assertRejects(() => client.call(name as string), TypeError);
      const stream = assertThrows(() => client.stream(name as string), TypeError);
      assertEquals([call.message, stream.message], [text, text]);
    }
    const answer = client.call(16 as unknown as string);
    assertEquals((await server.request()).cmd, 16);
    await server.reply({ seq: 0, res: 1 });
    assertEquals(await answer, 1);
  }
});

Deno.test("an option that a call or a stream does not have is refused by its name, and nothing is sent", async () => {
  const passing: ClientMiddleware = (_call, next) => next();
  for (const middleware of [[], [passing]]) {
    using network = memoryNetwork();
    await using client = await connect({ dial: () => network.dial(), middleware, meta: { token: "t" } });
    await using server = await ScriptedServer.accept(network);
    const call = (options: unknown) => client.call.A({}, options as CallOptions);
    const stream = async (options: unknown) => await client.stream.A({}, options as StreamOptions).next();
    const known = "timeoutMs, signal, meta, idempotent, waitForReady";
    const wrong: [make: (options: unknown) => Promise<unknown>, options: object, error: string][] = [
      [call, { timeout: 5 }, `Cannot use "timeout": unknown option; the options are ${known}, hedgeAfterMs, items`],
      [call, { credit: 1 }, 'Cannot use "credit": unknown option'],
      [call, { toString: 1 }, 'Cannot use "toString": unknown option'],
      [stream, { timeout: 5 }, `Cannot use "timeout": unknown option; the options are ${known}, credit, items`],
      [stream, { hedgeAfterMs: 5 }, 'Cannot use "hedgeAfterMs": unknown option'],
      [call, { signal: {} }, "Cannot use an object as signal: it must be an AbortSignal"],
      [stream, { signal: "5" }, 'Cannot use "5" as signal: it must be an AbortSignal'],
      [call, { idempotent: "false" }, 'Cannot use "false" as idempotent: it must be true or false'],
      [stream, { waitForReady: null }, "Cannot use null as waitForReady: it must be true or false"],
      [call, { timeoutMs: {} }, "Cannot use an object as timeoutMs: it must be a number"],
      [stream, { timeoutMs: null }, "Cannot use null as timeoutMs: it must be a number"],
      [stream, { credit: Symbol("all") }, "Cannot use Symbol(all) as credit: it must be a number"],
    ];
    for (const [make, options, text] of wrong) {
      let returns = 0;
      const items = {
        [Symbol.asyncIterator]: () => items,
        next: () => Promise.resolve({ done: false, value: 1 }),
        return: () => Promise.resolve({ done: true, value: returns++ }),
      };
      await assertRejects(() => make(options), TypeError, text);
      await assertRejects(() => make({ ...options, items }), TypeError, text);
      await turn();
      assertEquals(returns, 1, "the items were told to end");
    }
    const inherited = Object.create({ timeout: 5 }, { idempotent: { value: true, enumerable: true } });
    const answer = call(inherited);
    await server.request();
    await server.reply({ seq: 0, res: 1 });
    assertEquals(await answer, 1);
    assertEquals(client.statistics().begun, 1);
  }
  for (const before of [{}, { middleware: [passing] }, { meta: () => ({}) }]) {
    using network = memoryNetwork();
    await using client = await connect({ dial: () => network.dial(), lazy: true, ...before });
    for (const [options, shown] of [[5_000, "5000"], ["5s", '"5s"'], [null, "null"]] as const) {
      const text = `Cannot use ${shown} as options: it must be an object`;
      await assertRejects(() => client.call.A({}, options as CallOptions), TypeError, text);
      assertThrows(() => client.stream.A({}, options as unknown as StreamOptions), TypeError, text);
    }
  }
});

Deno.test("a generator that an earlier call has had is refused, and is no empty stream; an array may be given again", async () => {
  const commands = {
    COUNT: command(async (_: object, { items = [] }) => {
      let count = 0;
      for await (const _ of items) count++;
      return count;
    }),
  };
  await using server = await serve({ port: 0, commands });
  await using client = await connect({ port: server.port });
  const list = [1, 2, 3];
  const sources: (() => Iterable<number> | AsyncIterable<number>)[] = [
    function* () {
      yield* list;
    },
    async function* () {
      yield* list;
    },
    () => list.values(),
    () => new Set(list).values(),
  ];
  for (const make of sources) {
    const items = make();
    assertEquals(await client.call("COUNT", {}, { items }), 3);
    const error = await assertRejects(() => client.call("COUNT", {}, { items }), TypeError);
    assertEquals(
      error.message,
      "Cannot call COUNT: an earlier call had these items, and has closed them; make new ones",
    );
    await assertRejects(async () => await client.stream("COUNT", {}, { items }).next(), TypeError, error.message);
  }
  for (const _ of [1, 2]) assertEquals(await client.call("COUNT", {}, { items: list }), 3);
});

Deno.test("a stream's parameters are those of the time when it was made, not of the first next()", async () => {
  using network = memoryNetwork();
  await using client = await connect({ dial: () => network.dial() });
  await using server = await ScriptedServer.accept(network);
  const params = { n: 1 };
  const stream = client.stream("S", params);
  params.n = 2;
  const first = stream.next();
  assertEquals((await server.request()).n, 1);
  await server.reply({ seq: 0, res: "item", more: true });
  assertEquals((await first).value, "item");
});

Deno.test("an idempotent call that is sent again carries what was given", async () => {
  using network = memoryNetwork();
  await using client = await connect({ dial: () => network.dial(), random: () => 0 });
  const server = await ScriptedServer.accept(network);
  const params = { n: 1 };
  const call = client.reply("A", params, { idempotent: true });
  params.n = 2;
  assertEquals((await server.request()).n, 1);
  server.cut();
  await using second = await ScriptedServer.accept(network);
  assertEquals((await second.request()).n, 1);
  await second.reply({ seq: 0, res: "done" });
  assertEquals((await call).res, "done");
});

class Point {
  x = 1;
}

Deno.test("what cannot be sent is refused, by name, before a byte is sent", async () => {
  using network = memoryNetwork();
  await using client: Client = await connect({ dial: () => network.dial(), clock: new FakeClock() });
  await using server = await ScriptedServer.accept(network);
  // deno-lint-ignore no-explicit-any -- what the compiler refuses
  const wrong: [any, any, string][] = [
    [new Map([["a", 1]]), {}, "params: a Map"],
    [new Date(), {}, "params: a Date"],
    [new URLSearchParams("a=1"), {}, "URLSearchParams"],
    [new Point(), {}, "params: a Point"],
    [[1], {}, "params: an "],
    ["text", {}, "params: a string"],
    [null, {}, "params: null"],
    [{ ttl: 1 }, {}, '"ttl" is reserved'],
    [{ $x: 1 }, {}, '"$x" is reserved'],
    [{}, { meta: { n: 1 } }, "meta.n: a number"],
    [{}, { meta: new Map() }, "meta: a Map"],
    [{}, { meta: "token" }, "meta: a string"],
    [{}, { meta: null }, "meta: null"],
  ];
  for (const [params, options, text] of wrong) {
    await assertRejects(() => client.reply("A", params, options), TypeError, `Cannot call A: `);
    const error = assertThrows(() => client.stream("A", params, options), TypeError, text);
    assert(error.cause instanceof Error);
  }
  await assertRejects(() => client.reply("A", { b: new Uint8Array(2 ** 20) }), RangeError, "the limit is 1048576");
  const call = client.reply("A", Object.assign(Object.create(null), { fine: true }));
  assertEquals(await server.request(), { fine: true, cmd: "A", seq: 0, ttl: 30_000 });
  await server.reply({ seq: 0, res: 1 });
  await call;
});

Deno.test("no time left is out of time, and not sent; Infinity is without end", async () => {
  using network = memoryNetwork();
  const clock = new FakeClock();
  await using client = await connect({ dial: () => network.dial(), clock });
  await using server = await ScriptedServer.accept(network);
  for (const timeout of [0, -0, -1, -Infinity]) {
    for (
      const end of [
        client.reply("A", {}, { timeoutMs: timeout }),
        client.stream("A", {}, { timeoutMs: timeout }).next(),
      ]
    ) {
      const error = await assertRejects(() => end, RpcError);
      assertEquals([error.code, error.retryable], ["TIMEOUT", true]);
    }
  }
  const call = client.reply("A", {}, { timeoutMs: Infinity });
  assertEquals(await server.request(), { cmd: "A", seq: 0 });
  await clock.advance(1e9);
  await server.reply({ seq: 0, res: 1 });
  assertEquals((await call).res, 1);
  await assertRejects(() => client.reply("A", {}, { timeoutMs: NaN }), RangeError);
  await assertRejects(() => connect({ dial: () => Promise.resolve(memoryPair()[0]), timeoutMs: 0 }), RangeError);
});
