/** Streams at the caller: against the real server, in memory and over TCP, and against one that does what it is told. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { demoCommands } from "../../cli/demo_commands.ts";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { serveOne } from "../support/serve_one.ts";
import { memoryPair } from "../../transport/memory.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

let made = 0;
let ended = "";

const commands = {
  ...demoCommands,
  COUNT: command({
    number: 16,
    async *handler({ to, fail }: { to: number; fail?: boolean }) {
      try {
        for (let item = 1; item <= to; item++) {
          made = item;
          yield item;
        }
        if (fail) throw new RpcError("ENOUGH", "no more");
        ended = "done";
        return `${to} items`;
      } finally {
        ended ||= "left";
      }
    },
  }),
  ECHO: command({ handler: ({ value }: { value: number }) => value }),
};

type Commands = typeof commands;

async function overMemory(): Promise<[Client<Commands>, () => Promise<void>]> {
  const [here, there] = memoryPair();
  const served = serveOne(there, { commands, onError() {} });
  return [await connect<Commands>({ dial: () => Promise.resolve(here) }), () => served];
}

async function overTcp(): Promise<[Client<Commands>, () => Promise<void>]> {
  const server = await serve({ port: 0, commands, onError() {} });
  return [await connect<Commands>({ port: server.port }), async () => void await server.shutdown({ graceMs: 0 })];
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

async function failure(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, RpcError)).code;
}

for (const [name, setUp] of [["memory", overMemory], ["TCP", overTcp]] as const) {
  const test = (what: string, body: (client: Client<Commands>) => Promise<void>): void => {
    Deno.test(`stream over ${name} - ${what}`, async () => {
      made = 0;
      ended = "";
      const [client, end] = await setUp();
      try {
        await body(client);
      } finally {
        await client.close();
        await end();
      }
    });
  };

  test("all items come, in order, and the return value", async (client) => {
    const items: number[] = [];
    for await (const item of client.stream("COUNT", { to: 1_000 })) items.push(item);
    assertEquals(items, Array.from({ length: 1_000 }, (_, index) => index + 1));
    const stream = client.stream("COUNT", { to: 1 }, { credit: 1 });
    assertEquals(await stream.next(), { done: false, value: 1 });
    assertEquals(await stream.next(), { done: true, value: "1 items" });
    assertEquals(await stream.next(), { done: true, value: undefined });
  });

  test("a built-in one", async (client) => {
    const ticks: number[] = [];
    for await (const tick of client.stream("TICK", { count: 3, interval: 0 })) ticks.push(tick);
    assertEquals(ticks, [1, 2, 3]);
  });

  test("a reader that does nothing holds the handler at the credit, and nobody else", async (client) => {
    const stream = client.stream("COUNT", { to: 1_000 }, { credit: 10 });
    await stream.next();
    await until(() => made >= 10);
    for (let value = 0; value < 200; value++) assertEquals((await client.reply("ECHO", { value })).res, value);
    assert(made <= 11, `${made} items were made`);
    let items = 1;
    for await (const _ of stream) items++;
    assertEquals(items, 1_000);
  });

  test("leaving the loop ends the handler", async (client) => {
    for await (const item of client.stream("COUNT", { to: 1e9 }, { credit: 4 })) if (item === 3) break;
    await until(() => ended !== "");
    assertEquals(ended, "left");
    assertEquals((await client.reply("ECHO", { value: 1 })).res, 1);
  });

  test("an error in the loop ends the handler too", async (client) => {
    await assertRejects(
      async () => {
        for await (const _ of client.stream("COUNT", { to: 1e9 }, { credit: 4 })) throw new Error("mine");
      },
      Error,
      "mine",
    );
    await until(() => ended !== "");
  });

  test("the handler's error comes behind its items", async (client) => {
    const items: number[] = [];
    const reading = (async () => {
      for await (const item of client.stream("COUNT", { to: 3, fail: true })) items.push(item);
    })();
    assertEquals(await failure(reading), "ENOUGH");
    assertEquals(items, [1, 2, 3]);
  });

  test("a command that answers once says so to who wants a stream of it", async (client) => {
    {
      const stream = client.stream("ECHO" as string, { value: 7 }); // not a stream, by its type
      const error = await assertRejects(() => stream.next(), RpcError);
      assertEquals([error.code, error.toJSON().msg], [
        "BAD_REPLY",
        "command ECHO returns a single reply: use client.call()",
      ]);
    }
  });

  test("a stream without items has its result all the same", async (client) => {
    assertEquals(await client.stream("TICK", { count: 0 }).next(), { done: true, value: 0 });
  });

  test("many at once", async (client) => {
    const sums = await Promise.all(Array.from({ length: 50 }, async (_, index) => {
      let sum = 0;
      for await (const item of client.stream("COUNT", { to: index }, { credit: 1 + index % 7 })) sum += item;
      return sum;
    }));
    assertEquals(sums, sums.map((_, index) => index * (index + 1) / 2));
  });
}

async function scene(options: ConnectOptions = {}) {
  const network = memoryNetwork();
  const clock = new FakeClock();
  const client: Client = await connect({ dial: network.dial, clock, random: () => 0, ...options });
  return { client, clock, network, server: await ScriptedServer.accept(network) };
}

Deno.test("stream - nothing is sent before the first item is asked for", async () => {
  const { client, server } = await scene();
  const unread = client.stream("A");
  assertEquals(await unread.return("left"), { done: true, value: "left" });
  assertEquals(await unread.next(), { done: true, value: undefined });
  client.stream("B");
  const call = client.reply("C");
  assertEquals((await server.request()).cmd, "C");
  await server.reply({ seq: 0, res: 1 });
  await call;
  await client.close();
  assertEquals(await server.rest(), []);
});

Deno.test("stream - credit goes out with the request, and again by halves", async () => {
  const { client, server } = await scene();
  const stream = client.stream("A", { x: 1 }, { credit: 4, meta: { token: "t" } });
  const first = stream.next();
  assertEquals(await server.request(), { x: 1, cmd: "A", seq: 0, meta: { token: "t" }, credit: 4 });
  await server.reply(...[1, 2, 3, 4].map((res) => ({ seq: 0, res, more: true })));
  assertEquals((await first).value, 1);
  assertEquals((await stream.next()).value, 2);
  assertEquals(await server.request(), { cmd: 0, seq: 0, credit: 2 });
  await stream.next();
  await stream.next();
  assertEquals(await server.request(), { cmd: 0, seq: 0, credit: 2 });
  await server.reply({ seq: 0, res: null });
  assertEquals(await stream.next(), { done: true, value: null });
  await client.close();
});

Deno.test("stream - those who ask at once are served in their order, and all find the end", async () => {
  const { client, server } = await scene();
  const stream = client.stream("A");
  const asked = [stream.next(), stream.next(), stream.next(), stream.next()];
  await server.request();
  await server.reply({ seq: 0, res: 1, more: true }, { seq: 0, res: 2, more: true }, { seq: 0, res: "end" });
  assertEquals(await Promise.all(asked), [
    { done: false, value: 1 },
    { done: false, value: 2 },
    { done: true, value: "end" },
    { done: true, value: undefined },
  ]);
  await client.close();
});

Deno.test("stream - leaving does not wait for an item", async () => {
  const { client, server } = await scene();
  const stream = client.stream("A");
  const asked = stream.next();
  await server.request();
  assertEquals(await stream.return(5), { done: true, value: 5 });
  assertEquals(await asked, { done: true, value: undefined });
  assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
  await server.reply({ seq: 0, res: 1, more: true }, { seq: 0, err: "CANCELLED" });
  await until(() => client.statistics().lateReplies === 2);
  await client.close();
});

Deno.test("stream - one that the server cuts has another code than one that its reader has ended", async () => {
  const { client, server } = await scene();
  const stream = client.stream("A");
  const asked = stream.next();
  await server.request();
  await server.reply({ seq: 0, err: "CANCELLED", msg: "the server has shut down" });
  const error = await assertRejects(() => asked, RpcError, "the server has shut down");
  assertEquals([error.code, (error.cause as RpcError).code, error.retryable], ["GOING_AWAY", "CANCELLED", false]);
  await client.close();
});

Deno.test("stream - await using leaves it", async () => {
  const { client, server } = await scene();
  {
    await using stream = client.stream("A");
    void stream.next();
    await server.request();
  }
  assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
  await client.close();
});

Deno.test("stream - a lost connection throws behind the items that came", async () => {
  const { client, server } = await scene();
  const stream = client.stream("A");
  const first = stream.next();
  await server.request();
  await server.reply({ seq: 0, res: 1, more: true }, { seq: 0, res: 2, more: true });
  await first;
  server.cut();
  await until(() => client.state === "idle");
  assertEquals((await stream.next()).value, 2);
  assertEquals(await failure(stream.next()), "CONNECTION_LOST");
  assertEquals(await stream.next(), { done: true, value: undefined });
  await client.close();
});

Deno.test("stream - signal, timeout and close end it at once", async () => {
  for (const code of ["CANCELLED", "TIMEOUT", "CLOSED"]) {
    const { client, clock, server } = await scene();
    const patience = new AbortController();
    const stream = client.stream("A", {}, { signal: patience.signal, timeoutMs: 1_000 });
    const first = stream.next();
    assertEquals((await server.request()).ttl, 1_000);
    await server.reply({ seq: 0, res: 1, more: true }, { seq: 0, res: 2, more: true });
    await first;
    assertEquals(await server.request(), { cmd: 0, seq: 0, credit: 253 }, "more, once the size of an item is known");
    if (code === "CANCELLED") patience.abort();
    if (code === "TIMEOUT") await clock.advance(1_010);
    if (code === "CLOSED") await client.close();
    assertEquals(await failure(stream.next()), code);
    assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
    await client.close();
  }
});

Deno.test("stream - it has no timeout of its own", async () => {
  const { client, clock, server } = await scene({ timeoutMs: 100 });
  const stream = client.stream("A");
  const first = stream.next();
  assertEquals(await server.request(), { cmd: "A", seq: 0, credit: 4 });
  await clock.advance(60_000);
  await server.reply({ seq: 0, res: 1, more: true });
  assertEquals((await first).value, 1);
  await client.close();
});

Deno.test("stream - more items than were granted are refused", async () => {
  const { client, server } = await scene();
  const stream = client.stream("A", {}, { credit: 2 });
  const first = stream.next();
  await server.request();
  await server.reply(...[1, 2, 3, 4].map((res) => ({ seq: 0, res, more: true })));
  assertEquals((await first).value, 1);
  assertEquals(await failure(stream.next()), "BAD_REPLY");
  await client.close();
});

Deno.test("stream - a server that shuts down: one that had not begun moves on", async () => {
  const { client, clock, server, network } = await scene();
  const stream = client.stream("A");
  const first = stream.next();
  await server.request();
  await server.reply({ seq: 0, err: "SHUTTING_DOWN" });
  await clock.advance(50);
  await using second = await ScriptedServer.accept(network);
  assertEquals(await second.request(), { cmd: "A", seq: 0, credit: 4 });
  await second.reply({ seq: 0, res: 1, more: true });
  assertEquals((await first).value, 1);
  await client.close();
});

Deno.test("stream - one that had begun does not begin anew, whatever the server says of it", async () => {
  for (const code of ["SHUTTING_DOWN", "OVERLOADED"]) {
    const network = memoryNetwork();
    const client = await connect({ dial: network.dial });
    await using server = await ScriptedServer.accept(network);
    const stream = client.stream("A");
    const first = stream.next();
    await server.request();
    await server.reply({ seq: 0, res: 1, more: true }, { seq: 0, err: code });
    assertEquals(await first, { done: false, value: 1 });
    const error = await assertRejects(() => stream.next(), RpcError);
    assertEquals([error.code, error.retryable], [code, false]);
    await client.close();
  }
});

Deno.test("stream - what is none is refused", async () => {
  const { client } = await scene();
  assertThrows(() => client.stream("A", {}, { credit: 0 }), RangeError, "credit");
  assertThrows(
    () => client.stream("A", {}, { credit: 1.5 }),
    RangeError,
    "Cannot use 1.5 as credit: it must be an integer above 0",
  );
  assertThrows(() => client.stream("A", {}, { timeoutMs: NaN }), RangeError, "timeout");
  await client.close();
  assertEquals(await failure(client.stream("A").next()), "CLOSED");
  const plain = await scene({ sequenced: false });
  assertThrows(() => plain.client.stream("A"), TypeError, "sequenced");
  await plain.client.close();
});
