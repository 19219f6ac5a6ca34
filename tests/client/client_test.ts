/** The client against the real server, in memory and over TCP. */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { demoCommands } from "../../cli/demo_commands.ts";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command, reply } from "../../handlers/command.ts";
import { createServer, serve } from "../../server.ts";
import { connectInMemory } from "../../testing.ts";
import { serveOne } from "../support/serve_one.ts";
import { memoryPair } from "../../transport/memory.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";

let started = 0;
let aborted: unknown[] = [];

const commands = {
  ...demoCommands,
  ECHO: command({ number: 16, handler: ({ value }: { value: unknown }) => reply(value, { also: 1 }) }),
  TWICE: command({ number: 21, handler: ({ text }: { text: string }) => text + text }),
  FAIL: command({
    number: 17,
    handler: ({ code }: { code: string }): null => {
      throw new RpcError(code, "as you wish", { data: [1, { two: 2 }] });
    },
  }),
  LIST: command({ number: 22, handler: ({ length }: { length: number }) => new Array(length).fill(1) }),
  NAMED: command({ handler: () => "by name" }),
  META: command({ number: 18, handler: (_: { nothing?: 0 }, { meta }) => ({ ...meta }) }),
  BREAK: command({
    number: 19,
    handler: (): null => {
      throw new Error("a secret");
    },
  }),
  HANG: command({
    number: 20,
    handler: (_: { nothing?: 0 }, { signal }) => {
      started++;
      return new Promise<null>((_, reject) =>
        signal.addEventListener("abort", () => {
          aborted.push(signal.reason);
          reject(signal.reason);
        })
      );
    },
  }),
};

interface Setup {
  client: Client<typeof commands>;
  end(): Promise<void>;
}

type Options = Omit<ConnectOptions<typeof commands>, "commands">;

async function overMemory(options: Options): Promise<Setup> {
  const served: Promise<void>[] = [];
  const { clock } = options;
  const client = await connect({
    ...options,
    commands,
    dial: () => {
      const [here, there] = memoryPair();
      served.push(serveOne(there, { commands, onError() {}, clock }));
      return Promise.resolve(here);
    },
  });
  return {
    client,
    end: async () => {
      await client.close();
      await Promise.all(served);
    },
  };
}

async function overTcp(options: Options): Promise<Setup> {
  const { clock } = options;
  const server = await serve({ port: 0, commands, onError() {}, clock });
  const client = await connect({ ...options, commands, port: server.port });
  return {
    client,
    end: async () => {
      await client.close();
      await server.shutdown({ graceMs: 0 });
    },
  };
}

async function rejection(call: Promise<unknown>): Promise<RpcError> {
  return await assertRejects(() => call, RpcError);
}

for (const [name, setUp] of [["memory", overMemory], ["TCP", overTcp]] as const) {
  const test = (what: string, options: Options, body: (client: Client<typeof commands>) => Promise<void>): void => {
    Deno.test(`client over ${name} - ${what}`, async () => {
      started = 0;
      aborted = [];
      const { client, end } = await setUp(options);
      try {
        await body(client);
      } finally {
        await end();
      }
      assertEquals(client.state, "closed");
    });
  };

  test("a reply comes whole", {}, async (client) => {
    assertEquals(await client.reply("PING"), { res: "PONG" });
    assertEquals(await client.reply("ECHO", { value: [1, null, { a: "b" }] }), { res: [1, null, { a: "b" }], also: 1 });
    assertEquals(await client.reply("NAMED"), { res: "by name" });
    assertEquals((await client.reply("DELAY", { sleep: 0 })).res, "DONE");
    assertEquals(client.state, "open");
  });

  test("thousands of calls share the connection, each gets its own reply", { maxInFlight: 100 }, async (client) => {
    const calls = Array.from({ length: 3_000 }, (_, value) => client.reply("ECHO", { value }));
    const replies = await Promise.all(calls);
    assertEquals(replies.map(({ res }) => res), Array.from({ length: 3_000 }, (_, value) => value));
    assertEquals(client.statistics().lateReplies, 0);
  });

  test("a slow call does not hold back a fast one", {}, async (client) => {
    const patience = new AbortController();
    const slow = client.reply("HANG", {}, { signal: patience.signal });
    assertEquals((await client.reply("PING")).res, "PONG");
    patience.abort();
    await rejection(slow);
  });

  test("a failure keeps code, text and data", { retryBudget: { perCall: 0, perSecond: 0 } }, async (client) => {
    const error = await rejection(client.reply("FAIL", { code: "BROKE" }));
    assertEquals([error.code, error.message, error.data, error.retryable], [
      "BROKE",
      "BROKE: as you wish",
      [1, { two: 2 }],
      false,
    ]);
    assertEquals((await rejection(client.reply("DELAY", { sleep: -1 }))).message, "INVALID_SLEEP");
    assertEquals((await rejection(client.reply("BREAK"))).code, "INTERNAL");
    assertEquals((await rejection(client.reply("NONE" as string))).code, "CMD_NOT_FOUND");
    assertEquals((await rejection(client.reply("FAIL", { code: "OVERLOADED" }))).retryable, true);
  });

  test(
    "call, reply, outcome and stream may be passed around, also through promises; their methods stay the same",
    {},
    async (client) => {
      const { call } = client;
      assertEquals(await call.TWICE({ text: "a" }), "aa");
      assertEquals(await call("TWICE", { text: "a" }), "aa");
      const later = await Promise.resolve(call);
      assertStrictEquals(later, call);
      assertStrictEquals(call.TWICE, call.TWICE);
      assertEquals(await Promise.all([{ text: "a" }, { text: "b" }].map((each) => call.TWICE(each))), ["aa", "bb"]);
      const { outcome, reply, stream } = client;
      assertEquals([await Promise.resolve(outcome), await Promise.resolve(reply), await Promise.resolve(stream)], [
        outcome,
        reply,
        stream,
      ]);
      assertEquals(await outcome.TWICE({ text: "a" }), { ok: true, value: "aa" });
      assertEquals(await reply.TWICE({ text: "a" }), { res: "aa" });
    },
  );

  test("names that functions and objects have are commands like any other", {}, async (client) => {
    for (const name of ["name", "length", "apply", "bind", "call", "constructor", "__proto__", "prototype"]) {
      // deno-lint-ignore no-explicit-any -- names that are no commands
      const method = (client.call as any)[name];
      assertEquals((await rejection(method({}))).code, "CMD_NOT_FOUND", name);
    }
    for (const name of ["then", "toString", "valueOf", "toJSON"]) {
      assertEquals((await rejection(client.call(name as string))).code, "CMD_NOT_FOUND", name);
    }
  });

  test("a client that is written as text or as JSON makes no calls", {}, async (client) => {
    const { begun } = client.statistics();
    for (const face of [client.call, client.reply, client.outcome, client.stream]) {
      assertEquals([typeof `${face}`, await face === face, JSON.stringify({ face })], ["string", true, "{}"]);
    }
    JSON.stringify({ client });
    assertEquals(client.statistics().begun, begun);
  });

  test(
    "an outcome holds the value, or the error that the call rejects with; a mistake of the program rejects",
    {},
    async (client) => {
      assertEquals(await client.outcome.ECHO({ value: 5 }), { ok: true, value: 5 });
      const failed = await client.outcome.FAIL({ code: "BROKE" });
      if (failed.ok) throw new Error("it must fail");
      assert(failed.error instanceof RpcError);
      assertEquals([failed.error.code as string, failed.error.data], ["BROKE", [1, { two: 2 }]]);
      const late = await client.outcome.HANG({}, { timeoutMs: -1 });
      assertEquals(late.ok ? undefined : late.error.code, "TIMEOUT");
      const cancelled = await client.outcome("HANG", {}, { signal: AbortSignal.abort() });
      assertEquals(cancelled.ok ? undefined : cancelled.error.code, "CANCELLED");
      await assertRejects(() => client.outcome.ECHO({ value: new Date() }), TypeError, "params.value");
      await assertRejects(() => client.outcome.PING({}, { timeoutMs: NaN }), RangeError);
    },
  );

  test("meta travels", {}, async (client) => {
    assertEquals((await client.reply("META", {}, { meta: { token: "t" } })).res, { token: "t" });
  });

  test("what cannot be sent rejects, and the rest goes on", { maxPayloadBytes: 1000 }, async (client) => {
    const calls = [
      client.reply("ECHO", { value: () => 1 }),
      client.reply("ECHO", { value: 1 }),
      client.reply("ECHO", { value: "x".repeat(2000) }),
      // deno-lint-ignore no-explicit-any -- a reserved name
      client.reply("ECHO", { value: 1, seq: 2 } as any),
      // deno-lint-ignore no-explicit-any -- no parameters at all
      client.reply("ECHO", [1] as any),
      client.reply("PING", {}, { timeoutMs: -1 }),
      client.reply("ECHO", {
        get value() {
          throw Object.create(null);
        },
      }),
    ];
    const outcomes = await Promise.allSettled(calls);
    const succeeded = outcomes.map(({ status }) => status === "fulfilled");
    assertEquals(succeeded, [false, true, false, false, false, false, false]);
    const reasons = outcomes.map((outcome) => outcome.status === "rejected" ? String(outcome.reason.message) : "");
    assertEquals(reasons[0], "Cannot call ECHO: params.value: a function cannot be sent");
    assertEquals(reasons[2], "Cannot call ECHO: the payload is 2015 bytes, the limit is 1000");
    assertEquals(reasons[3], 'Cannot call ECHO: the parameter name "seq" is reserved');
    assertEquals(reasons[4], "Cannot call ECHO: params: an array cannot be sent here, only a plain object");
    assertEquals(reasons[5], "TIMEOUT: no time was left, and the call was not sent");
    assertEquals(reasons[6], "Cannot call ECHO: thrown: something that cannot be shown");
    assertEquals((await client.reply("PING")).res, "PONG");
  });

  test("long frames travel both ways", {}, async (client) => {
    const value = "x".repeat(300_000);
    assertEquals((await client.reply("ECHO", { value })).res, value);
  });

  test("without leave for long frames a long reply is refused by name", { maxPayloadBytes: 57_310 }, async (client) => {
    assertEquals((await rejection(client.reply("TWICE", { text: "x".repeat(40_000) }))).code, "REPLY_TOO_LARGE");
  });

  test("a smaller limit holds for replies too", { maxPayloadBytes: 1_000 }, async (client) => {
    assertEquals((await rejection(client.reply("TWICE", { text: "x".repeat(800) }))).code, "REPLY_TOO_LARGE");
    assertEquals((await client.reply("TWICE", { text: "x" })).res, "xx");
  });

  test("an abort rejects at once, keeps its reason and ends the handler", {}, async (client) => {
    const patience = new AbortController();
    const call = client.reply("HANG", {}, { signal: patience.signal });
    await client.reply("PING");
    assertEquals(started, 1);
    const reason = new Error("enough");
    patience.abort(reason);
    const error = await rejection(call);
    assertEquals([error.code, error.cause, error.retryable], ["CANCELLED", reason, false]);
    await client.reply("PING");
    assertEquals((aborted[0] as RpcError).code, "CANCELLED");
    assertEquals(client.statistics().lateReplies, 1);
  });

  test("a signal that is aborted already sends nothing", {}, async (client) => {
    const error = await rejection(client.reply("HANG", {}, { signal: AbortSignal.abort("no") }));
    assertEquals([error.code, error.cause, error.retryable], ["CANCELLED", "no", true]);
    await client.reply("PING");
    assertEquals(started, 0);
  });

  test("a signal that outlives its calls keeps none of them", {}, async (client) => {
    const patience = new AbortController();
    let listeners = 0;
    const { signal } = patience;
    const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
    // deno-lint-ignore no-explicit-any -- passed on as they come
    signal.addEventListener = (...args: any) => (listeners++, add(...args as [any, any]));
    // deno-lint-ignore no-explicit-any -- passed on as they come
    signal.removeEventListener = (...args: any) => (listeners--, remove(...args as [any, any]));
    await Promise.all(Array.from({ length: 50 }, () => client.reply("PING", {}, { signal })));
    assertEquals(listeners, 0);
  });

  test("calls above maxInFlight wait, and a cancel gets through", { maxInFlight: 2 }, async (client) => {
    const patience = new AbortController();
    const hanging = [1, 2].map(() => client.reply("HANG", {}, { signal: patience.signal }));
    const next = client.reply("PING");
    while (started < 2) await turn();
    patience.abort();
    for (const call of hanging) await rejection(call);
    assertEquals((await next).res, "PONG");
  });

  test("close rejects what waits, and again is the same", { maxInFlight: 1 }, async (client) => {
    const sent = client.reply("HANG");
    const waiting = client.reply("PING");
    while (started < 1) await turn();
    const closing = client.close();
    assert(client.close() === closing);
    assertEquals(((e) => [e.code, e.retryable])(await rejection(sent)), ["CLOSED", false]);
    assertEquals(((e) => [e.code, e.retryable])(await rejection(waiting)), ["CLOSED", true]);
    await closing;
    assertEquals((await rejection(client.reply("PING"))).code, "CLOSED");
    while (aborted.length === 0) await turn();
  });

  test("no timeout, no ttl", { timeoutMs: Infinity }, async (client) => {
    assertEquals((await client.reply("PING")).res, "PONG");
  });

  test("a request or a reply that is heavier than a message may be is that call's alone", {}, async (client) => {
    const patience = new AbortController();
    const other = client.reply("HANG", {}, { signal: patience.signal });
    await assertRejects(
      () => client.reply("ECHO", { value: new Array(300_000).fill(1) }),
      TypeError,
      "Cannot call ECHO",
    );
    const received = await rejection(client.reply("LIST", { length: 300_000 }));
    assertEquals(received.code, "REPLY_NOT_ENCODABLE");
    assertEquals((await client.reply("LIST", { length: 200_000 })).res.length, 200_000);
    patience.abort();
    assertEquals((await rejection(other)).code, "CANCELLED");
  });

  test("a limit too small for any request refuses it, and no word of the client's own", {
    maxPayloadBytes: 10,
  }, async (client) => {
    const call = () => client.reply("PING", {}, { timeoutMs: Infinity });
    await assertRejects(call, RangeError, "Cannot call PING: the payload is 11 bytes, the limit is 10");
    assertEquals(client.state, "open");
  });

  test("without seq, replies come in order", { sequenced: false }, async (client) => {
    const calls = [client.reply("DELAY", { sleep: 0.005 }), client.reply("PING"), client.reply("ECHO", { value: 3 })];
    assertEquals((await Promise.all<{ res: unknown }>(calls)).map(({ res }) => res), ["DONE", "PONG", 3]);
    await Promise.all(Array.from({ length: 500 }, () => client.reply("PING")));
  });
}

Deno.test("client - what a caller computes behind a call, in the same turn, is no time of the call", async () => {
  const clock = new FakeClock();
  const { client, end } = await overMemory({ clock });
  const [first, second] = [client.reply("PING", {}, { timeoutMs: 100 }), client.reply("HANG", {}, { timeoutMs: 100 })];
  const hung = assertRejects(() => second, RpcError, "no reply within 100 ms");
  clock.leap(1_000);
  assertEquals((await first).res, "PONG");
  await clock.advance(110);
  await hung;
  await end();
});

Deno.test("client - the time is up: TIMEOUT, and the handler is ended", async () => {
  started = 0;
  aborted = [];
  const clock = new FakeClock();
  const { client, end } = await overMemory({ clock, timeoutMs: 500 });
  const own = client.reply("HANG", {}, { timeoutMs: 100 });
  const general = client.reply("HANG");
  let settled = "";
  own.catch(() => settled += "own ");
  general.catch(() => settled += "general ");
  await clock.advance(99);
  assertEquals(settled, "");
  await clock.advance(11);
  assertEquals(settled, "own ");
  await clock.advance(400);
  assertEquals(settled, "own general ");
  const error = await assertRejects(() => own, RpcError);
  assertEquals([error.message, error.retryable], ["TIMEOUT: no reply within 100 ms: sent to memory after 0 ms", false]);
  assertEquals(aborted.length, 2);
  await end();
});

Deno.test("client.call and the others are no promises: an async function may return them", async () => {
  await using server = createServer();
  await using client = await connectInMemory(server);
  for (const each of [client.call, client.reply, client.outcome, client.stream]) {
    assertEquals((await (async () => await each)()) === each, true);
  }
});
