/**
 * Handlers that throw, hang and answer nonsense, many times over and all at once, beside good clients: each call gets one
 * answer, the hook each error once, and the server comes to rest.
 */

import { assertEquals, AssertionError, assertMatch, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command, type Context, reply } from "../../handlers/command.ts";
import type { Middleware } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { type Clock, systemClock } from "../../transport/clock.ts";
import { ErrorLog, stderrLines, withServer } from "../support/test_server.ts";
import { overEach, TCP, type Transport } from "../support/transports.ts";
import { besideGoodClients, shown, until, untilAtRest } from "./beside.ts";

/** How often each handler is called. */
const RUNS = 20;

/** The time of calls whose handlers take longer: enough that each handler begins, on a busy machine too. */
const BEGINS_WITHIN_MS = 1_000;

/** Handlers of all kinds of authors; types are in nobody's way. */
// deno-lint-ignore no-explicit-any -- nonsense is what this is about
type Handler = (params: any, context: Context) => any;

function revokedProxy(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

const cycle: Record<string, unknown> = {};
cycle.itself = cycle;

function fail(): never {
  throw new Error("a secret");
}

/** What each handler does, the code its caller gets, and how many errors the hook gets. */
const BAD: [name: string, handler: Handler, code: string, errors: number][] = [
  ["throws", fail, "INTERNAL", 1],
  ["rejects", () => Promise.reject(new Error("a secret")), "INTERNAL", 1],
  ["throws later", () => new Promise((resolve) => setTimeout(resolve, 1)).then(fail), "INTERNAL", 1],
  ["throws nothing at all", () => Promise.reject(undefined), "INTERNAL", 1],
  ["throws null at once", () => throwValue(null), "INTERNAL", 1],
  ["throws what cannot be shown", () => throwValue({ [Symbol.for("Deno.customInspect")]: fail }), "INTERNAL", 1],
  ["throws a code that is its caller's", () => throwValue(new RpcError("TIMEOUT")), "INTERNAL", 1],
  ["throws a code of its own", () => throwValue(new RpcError("TEAPOT", "short and stout")), "TEAPOT", 0],
  ["answers with a reserved field", () => reply(1, { seq: 5 }), "REPLY_NOT_ENCODABLE", 1],
  ["answers a function", () => fail, "REPLY_NOT_ENCODABLE", 1],
  ["answers a date", () => new Date(), "REPLY_NOT_ENCODABLE", 1],
  ["answers a date deep inside", () => ({ list: [{ at: new Date() }] }), "REPLY_NOT_ENCODABLE", 1],
  ["answers a cycle", () => cycle, "REPLY_NOT_ENCODABLE", 1],
  ["answers an integer of 65 bits", () => 2n ** 64n, "REPLY_NOT_ENCODABLE", 1],
  ["answers 2 MB", () => "x".repeat(2e6), "REPLY_TOO_LARGE", 1],
  ["answers a thenable that throws", () => ({ then: fail }), "INTERNAL", 1],
  [
    "answers a thenable whose then cannot be read",
    () => ({
      get then() {
        return fail();
      },
    }),
    "INTERNAL",
    1,
  ],
  [
    "answers with a getter that throws",
    () => ({
      get inside() {
        return fail();
      },
    }),
    "REPLY_NOT_ENCODABLE",
    1,
  ],
  [
    "answers with a getter that throws, deep inside",
    () => ({
      list: [{
        get inside() {
          return fail();
        },
      }],
    }),
    "REPLY_NOT_ENCODABLE",
    1,
  ],
  ["answers a proxy that is no more", revokedProxy, "INTERNAL", 1],
  ["hangs", () => new Promise(() => {}), "TIMEOUT", 0],
  [
    "hangs until it is told",
    (_params, { signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      }),
    "TIMEOUT",
    0,
  ],
  [
    "throws as it is told",
    (_params, { signal }) =>
      new Promise((resolve) => {
        signal.addEventListener("abort", () => {
          resolve("too late");
          fail();
        });
      }),
    "TIMEOUT",
    1,
  ],
  [
    "answers too late",
    () => new Promise((resolve) => setTimeout(() => resolve(1), 2 * BEGINS_WITHIN_MS)),
    "TIMEOUT",
    0,
  ],
  [
    "throws too late",
    () => new Promise((_, reject) => setTimeout(() => reject(new Error("late")), 2 * BEGINS_WITHIN_MS)),
    "TIMEOUT",
    1,
  ],
];

function throwValue(value: unknown): never {
  throw value;
}

const HANGS_FOR_EVER = "hangs";

/** Calls each handler many times, beside good clients; fails unless each call, and the hook, gets what it must. */
async function checkBad(transport: Transport, middleware: readonly Middleware[] = []): Promise<void> {
  const commands = Object.fromEntries(BAD.map(([name, handler]) => [name, command(handler)]));
  const errors = new ErrorLog();
  await using server = await withServer({ commands, middleware, onError: errors.onError }, transport);
  const fared = await besideGoodClients(server.address, 8, async () => {
    await using client = await connect({ ...server.address, maxInFlight: 1_000 });
    const calls = BAD.filter(([name]) => name !== HANGS_FOR_EVER).flatMap(([name, , code]) =>
      Array.from({ length: RUNS }, async () => {
        const options = code === "TIMEOUT" ? { timeoutMs: BEGINS_WITHIN_MS } : {};
        const outcome = await client.reply(name, {}, options).then(() => "value", (error) => (error as RpcError).code);
        assertEquals(outcome, code, name);
      })
    );
    // Also where one is wrong, those that are late have their time.
    await Promise.allSettled(calls);
    await Promise.all(calls);
  }).finally(() => untilAtRest(server.address));
  console.log(shown(fared));
  const expected = BAD.reduce((sum, [, , , errors]) => sum + errors, 0) * RUNS;
  const met: unknown[] = [];
  await until("the hook has them all", () => met.push(...errors.take()) > 0 && met.length >= expected);
  assertEquals(met.length, expected);
}

overEach("handler faults - each bad answer is that call's alone", checkBad);

Deno.test("handler faults - canary: a middleware that hides errors is caught", async () => {
  const hide: Middleware = (_request, next) => next().catch(() => ({ res: null }));
  await assertRejects(() => checkBad(TCP, [hide]), AssertionError);
});

overEach(
  "handler faults - an error of the server's own ends that connection alone, and reaches the hook",
  async (transport) => {
    let stopsNext = false;
    const clock: Clock = {
      ...systemClock,
      now() {
        if (!stopsNext) return systemClock.now();
        stopsNext = false;
        throw new Error("the clock has stopped");
      },
    };
    await using server = await withServer({ clock }, transport);
    await using other = await connect({ ...server.address });
    const peer = await server.connect();
    assertEquals(await peer.ask({ cmd: 1 }), { res: "PONG" });
    stopsNext = true;
    await peer.send({ cmd: 1 });
    assertEquals(await peer.readToBreak(), []);
    assertEquals(server.errors.take().map(String), ["Error: the clock has stopped"]);

    stopsNext = true;
    const late = await server.connect(); // it stops when the connection begins
    assertEquals(await late.readToBreak(), []);
    assertEquals(server.errors.take().map(String), ["Error: the clock has stopped"]);
    assertEquals(await other.reply("PING"), { res: "PONG" });
  },
);

Deno.test("handler faults - what cannot be shown is a line on stderr all the same", async () => {
  const odd = { [Symbol.for("Deno.customInspect")]: fail };
  const commands = {
    ODD: command({ handler: () => throwValue(odd) }),
    LATER: command({ handler: () => Promise.reject(odd) }),
  };
  const lines = await stderrLines(async () => {
    await using server = await serve({ port: 0, commands });
    await using client = await connect({ port: server.port });
    for (const name of ["ODD", "LATER"] as const) await assertRejects(() => client.reply(name), RpcError, "INTERNAL");
    assertEquals(await client.reply("PING"), { res: "PONG" });
  });
  assertEquals(lines.length, 2);
  for (const line of lines) assertMatch(line, /^packline: error in \w+ for 127\.0\.0\.1:\d+: [^\n]+$/);
});

overEach(
  "handler faults - those that hang for ever take up their places, and no more than theirs",
  async (transport) => {
    const hang = command({ handler: (): Promise<null> => new Promise(() => {}) });
    await using server = await withServer({ commands: { HANG: hang }, maxInFlight: 10 }, transport);
    await using client = await connect({ ...server.address, maxInFlight: 10 });
    const calls = Array.from(
      { length: 10 },
      () => client.reply("HANG", {}, { timeoutMs: 20 }).catch(({ code }) => code),
    );
    assertEquals(new Set(await Promise.all(calls)), new Set(["TIMEOUT"]));
    // The connection's places are taken for good; other connections have theirs.
    const late = await client.reply("HANG", {}, { timeoutMs: 50 }).catch(({ code }) => code);
    assertEquals(late, "TIMEOUT");
    assertEquals(await client.reply("PING"), { res: "PONG" }, "the client hears that the server lives");
    await using other = await connect({ ...server.address });
    assertEquals(await other.reply("PING"), { res: "PONG" });
    assertEquals((await other.reply("STATS")).res.inFlight, 10);
  },
);

overEach("handler faults - a stream that throws, hangs or answers nonsense ends with the truth", async (transport) => {
  let ended = 0;
  const commands = {
    THROWS: command({
      async *handler() {
        yield 1;
        await Promise.resolve();
        throw new Error("a secret");
      },
    }),
    NONSENSE: command({
      async *handler() {
        yield 1 as unknown;
        await Promise.resolve();
        yield fail;
      },
    }),
    HANGS: command({
      async *handler(_params: Record<never, never>, { signal }) {
        try {
          yield 1;
          await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
        } finally {
          ended++;
        }
      },
    }),
  };
  await using server = await withServer({ commands }, transport);
  const client = await connect({ ...server.address, commands });
  const follow = async (name: "THROWS" | "NONSENSE" | "HANGS", timeoutMs: number) => {
    const items: unknown[] = [];
    try {
      for await (const item of client.stream(name, {}, { timeoutMs })) items.push(item);
    } catch (error) {
      items.push((error as RpcError).code);
    }
    return items;
  };
  for (let run = 0; run < RUNS; run++) {
    assertEquals(await follow("THROWS", Infinity), [1, "INTERNAL"]);
    assertEquals(await follow("NONSENSE", Infinity), [1, "REPLY_NOT_ENCODABLE"]);
  }
  // Those that hang cost their time, so fewer of them, at once; and enough of it that they begin on a busy machine, too.
  const hanging = Array.from({ length: 5 }, () => follow("HANGS", 1_000));
  assertEquals(await Promise.all(hanging), Array(5).fill([1, "TIMEOUT"]));
  await client.close();
  await untilAtRest(server.address);
  assertEquals([ended, server.errors.take().length], [5, 2 * RUNS]);
});
