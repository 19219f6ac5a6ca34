/** A client keeps its word by PING while something of its own is open, and gives up a server that is silent. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { encodeFrame } from "../../codec/encode.ts";
import { connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { createServer, serve } from "../../server.ts";
import { command, type Middleware } from "../../handlers/command.ts";
import { memoryPair } from "../../transport/memory.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { Hosts } from "../support/hosts.ts";
import { PING_SEQ } from "../../client/client_call.ts";

const PING = { cmd: 1, seq: PING_SEQ };
const PONG = { seq: PING_SEQ, res: "PONG" };

async function setUp(options: ConnectOptions = {}) {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  const accepted = hosts.accept("the server", { answersPings: false });
  const dial = (signal: AbortSignal) => hosts.dial(signal, "the server");
  const client = await connect({ dial, clock, random: () => 1, timeoutMs: Infinity, ...options });
  return { client, clock, hosts, server: await accepted };
}

Deno.test("keep-alive - a PING after a quarter of the time, while a call is open; its answer lets the call go on", async () => {
  const { client, clock, server } = await setUp();
  const call = client.reply("SLOW");
  assertEquals(await server.message(), { cmd: 0, max: 1_048_576, alive: 30_000, notice: true });
  assertEquals((await server.message())?.cmd, "SLOW");
  for (let minutes = 0; minutes < 2; minutes++) {
    let pings = 0;
    for (let step = 0; step < 60; step++) {
      await clock.advance(1_000);
      while (server.waiting > 0) {
        assertEquals(await server.message(), PING);
        pings++;
        await server.reply(PONG);
        await turn();
      }
    }
    assert(pings >= 7 && pings <= 8, `${pings} in a minute`);
  }
  assertEquals([client.servers[0].inFlight, client.statistics().lateReplies], [1, 0], "a PING is not counted");
  await server.reply({ seq: 0, res: "done" });
  assertEquals((await call).res, "done");
  await clock.advance(600_000);
  assertEquals([server.waiting, clock.timers], [0, 0], "nothing is open: no PING, no timer");
  await client.close();
});

Deno.test("keep-alive - a server that is silent after the PING is lost within the time, streams included", async () => {
  const { client, clock, server, hosts } = await setUp({ aliveMs: 10_000 });
  const stream = client.stream("NEWS");
  const first = stream.next();
  const [call, again] = [client.reply("SLOW"), client.reply("SLOW", {}, { idempotent: true })];
  const lost = assertRejects(() => call, RpcError);
  await server.requests(3);
  await server.reply({ seq: 0, res: 1, more: true });
  assertEquals((await first).value, 1);
  const startMs = clock.now();
  const ended = assertRejects(() => stream.next(), RpcError).then((error: RpcError) =>
    [error, clock.now() - startMs] as const
  );
  await clock.advance(9_000);
  const [error, afterMs] = await ended;
  assertEquals([error.code, (await lost).code, error.retryable], ["CONNECTION_LOST", "CONNECTION_LOST", false]);
  assert(afterMs >= 7_500 && afterMs <= 8_500, `after ${afterMs} ms`);
  const [, ms] =
    /^CONNECTION_LOST: memory has been silent for (\d+) ms, and has not answered a PING$/.exec(error.message) ?? [];
  assert(Number(ms) >= 7_500 && Number(ms) <= 8_500, error.message);
  const second = hosts.accept("the server");
  await clock.advance(1_000);
  assertEquals((await (await second).request()).cmd, "SLOW", "an idempotent call goes on elsewhere");
  const closed = assertRejects(() => again, RpcError);
  await client.close();
  await closed;
});

Deno.test("keep-alive - while both sides say something, there is no PING", async () => {
  const { client, clock, server } = await setUp();
  const stream = client.stream("NEWS", {}, { credit: 1 });
  const first = stream.next();
  await server.requests(1);
  await server.reply({ seq: 0, res: 0, more: true });
  await first;
  for (let n = 1; n < 60; n++) {
    const next = stream.next();
    await clock.advance(2_000);
    assertEquals(await server.message(), { cmd: 0, seq: 0, credit: 1 });
    await server.reply({ seq: 0, res: n, more: true });
    assertEquals((await next).value, n);
  }
  await new Promise(setImmediate); // what is written leaves at the end of the turn
  assertEquals(server.waiting, 1);
  assertEquals(await server.message(), { cmd: 0, seq: 0, credit: 1 });
  await client.close();
});

Deno.test("keep-alive - a client that only listens says PING, and needs no answer to it", async () => {
  const { client, clock, server } = await setUp();
  const stream = client.stream("NEWS", {}, { credit: 1_000 });
  const first = stream.next();
  await server.requests(1);
  await server.reply({ seq: 0, res: 0, more: true });
  await first;
  assertEquals(await server.message(), { cmd: 0, seq: 0, credit: 997 }); // the size of items is known now
  const heard: unknown[] = [];
  for (let n = 1; n <= 90; n++) {
    await clock.advance(1_000);
    await server.reply({ seq: 0, res: n, more: true });
    assertEquals((await stream.next()).value, n);
    while (server.waiting > 0) heard.push(await server.message());
    assert(heard.length >= Math.floor(n / 30), `nothing for 30 s at ${n} s`);
  }
  assertEquals(heard[0], PING);
  const again = { cmd: 0, alive: 30_000 };
  assertEquals(heard.slice(1), heard.slice(1).fill(again), "the second PING waits for the answer to the first");
  assert(heard.length >= 9 && heard.length <= 12, `${heard.length} in 90 s`);
  await client.close();
});

Deno.test("keep-alive - a server has 2 s for its answer, however short aliveMs is, and hears the promise kept meanwhile", async () => {
  const { client, clock, server } = await setUp({ aliveMs: 1_000 });
  const call = assertRejects(() => client.reply("SLOW"), RpcError);
  await server.requests(1);
  await clock.advance(500);
  assertEquals(await server.message(), PING);
  for (const lateMs of [1_000, 1_900]) {
    await clock.advance(1_000);
    assertEquals(await server.message(), { cmd: 0, alive: 1_000 }, `${lateMs} ms late`);
    while (server.waiting > 0) await server.message();
    await clock.advance(lateMs - 1_000);
    assertEquals(client.state, "open", `${lateMs} ms late`);
    while (server.waiting > 0) await server.message();
    await server.reply(PONG);
    await turn();
    await clock.advance(1_000);
    assertEquals(await server.message(), PING);
  }
  const startMs = clock.now();
  const lost = call.then((error: RpcError) => [error.code, clock.now() - startMs] as const);
  await clock.advance(3_000);
  const [code, afterMs] = await lost;
  assertEquals(code, "CONNECTION_LOST");
  assert(afterMs >= 1_000 && afterMs <= 2_000, `${afterMs} ms`);
});

Deno.test("keep-alive - a part of a frame is a sign of life", async () => {
  const { client, clock, server } = await setUp();
  const call = client.reply("LARGE");
  await server.requests(1);
  const text = "x".repeat(600_000);
  const frame = encodeFrame({ seq: 0, res: text }, (writer, message) => writer.writeValue(message));
  for (let start = 0; start < frame.length; start += 10_000) {
    await clock.advance(1_000);
    await server.send(frame.subarray(start, start + 10_000));
  }
  assertEquals((await call).res, text);
  await client.close();
});

Deno.test("keep-alive - aliveMs: 0 promises nothing, and sends no PING", async () => {
  const { client, clock, server } = await setUp({ aliveMs: 0 });
  const call = assertRejects(() => client.reply("SLOW"), RpcError);
  assertEquals(await server.message(), { cmd: 0, max: 1_048_576, notice: true });
  await server.message();
  await clock.advance(4_000_000);
  assertEquals(server.waiting, 0);
  await client.close();
  await call;
});

Deno.test("keep-alive - without seq not a byte is said of it", async () => {
  const { client, clock, server } = await setUp({ sequenced: false });
  const call = assertRejects(() => client.reply("SLOW"), RpcError);
  await server.message();
  await clock.advance(4_000_000);
  assertEquals([server.waiting, server.receivedHex], [0, "202a81a3636d64a4534c4f570a"]);
  await client.close();
  await call;
});

Deno.test("keep-alive - a client that was stopped reads first, then judges", async () => {
  const { client, clock, server } = await setUp();
  const call = client.reply("SLOW");
  await server.requests(1);
  await clock.advance(15_500);
  assertEquals(await server.message(), PING);
  // SIGSTOP, SIGCONT an hour later: the answer waits in the socket.
  const answered = server.reply(PONG);
  clock.leap(3_600_000);
  await answered;
  await turn();
  await clock.advance(1_000);
  assertEquals(client.state, "open");
  await server.reply({ seq: 0, res: "done" });
  assertEquals((await call).res, "done");
  await client.close();
});

Deno.test("keep-alive - after a stop, a server that is silent still gets its time", async () => {
  const { client, clock, server } = await setUp();
  const call = assertRejects(() => client.reply("SLOW"), RpcError);
  await server.requests(1);
  clock.leap(3_600_000);
  await turn();
  assertEquals(await server.message(), PING, "it is asked at once");
  await clock.advance(14_000);
  assertEquals(client.state, "open");
  await clock.advance(2_000);
  assertEquals((await call).code, "CONNECTION_LOST");
});

Deno.test("keep-alive - the second of two calls in a row counts its own silence", async () => {
  const { client, clock, server } = await setUp();
  for (let seq = 0; seq < 20; seq++) {
    const call = client.reply("A");
    assertEquals((await server.request()).seq, seq);
    await server.reply({ seq, res: 1 });
    await call;
    await clock.advance(14_000);
  }
  assertEquals(server.waiting, 0);
  await client.close();
});

Deno.test("keep-alive - a wrong aliveMs is refused", async () => {
  for (const aliveMs of [-1, 1, 999, 1_000.5, 3_600_001, Infinity, NaN]) {
    await assertRejects(
      () => connect({ aliveMs }),
      RangeError,
      `Cannot use ${aliveMs} as aliveMs: it must be 0, or a whole number from 1000 to 3600000`,
    );
  }
});

Deno.test("keep-alive - 1,024 open calls leave room for the PING of a real server, and a slow call is not taken for a death", async () => {
  let release = () => {};
  const wait = new Promise<void>((resolve) => release = resolve);
  const commands = { WAIT: command(() => wait.then(() => 1)) };
  await using server = await serve({ port: 0, commands, maxInFlight: 16 });
  await using client = await connect<typeof commands>({ port: server.port, aliveMs: 1_000, timeoutMs: Infinity });
  const calls = Array.from({ length: 1_024 }, () => client.call.WAIT());
  const settled = Promise.allSettled(calls);
  const endMs = performance.now() + 2_500;
  while (performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 100));
  assertEquals(client.servers[0].inFlight, 1_024);
  release();
  const outcomes = await settled;
  assertEquals(outcomes.filter(({ status }) => status === "rejected"), []);
});

Deno.test("keep-alive - a real server whose middleware hangs is not dead: a stream that has begun goes on", async () => {
  const clock = new FakeClock();
  let hangs = false;
  const second = Promise.withResolvers<number>();
  const NEWS = command(async function* () {
    yield 1;
    yield await second.promise;
  });
  const middleware: Middleware[] = [(_call, next) => hangs ? new Promise<never>(() => {}) : next()];
  await using server = createServer({ commands: { NEWS }, middleware, clock });
  const [here, there] = memoryPair();
  void server.accept(there);
  await using client = await connect({ dial: () => Promise.resolve(here), clock, timeoutMs: Infinity });
  const stream = client.stream("NEWS");
  assertEquals((await stream.next()).value, 1);
  hangs = true;
  const next = stream.next();
  for (let seconds = 0; seconds < 60; seconds++) await clock.advance(1_000);
  second.resolve(2);
  assertEquals((await next).value, 2);
  assertEquals((await stream.next()).done, true);
});
