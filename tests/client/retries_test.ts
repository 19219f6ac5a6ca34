/** Which calls a client sends again, where and when. Time stands still unless it is told to go on. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { CallQueue } from "../../client/calls.ts";
import { retryWaitMs } from "../../client/retries.ts";
import { RpcError } from "../../errors.ts";
import { command, serve } from "../../mod.ts";
import { systemClock } from "../../transport/clock.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";
import { twoServers } from "../support/two_servers.ts";

const NO_RETRIES = { perCall: 0, perSecond: 0 };

async function failure(call: Promise<unknown>): Promise<RpcError> {
  return await assertRejects(() => call, RpcError);
}

/** A client with one scripted server. */
async function oneServer(options: ConnectOptions = {}) {
  const network = memoryNetwork();
  const clock = new FakeClock();
  const client: Client = await connect({ clock, random: () => 0, dial: network.dial, ...options });
  const server = await ScriptedServer.accept(network);
  return {
    ...{ client, server, network, clock },
    async [Symbol.asyncDispose]() {
      await client.close();
      await server[Symbol.asyncDispose]();
      assertEquals(clock.timers, 0, "timers are left");
    },
  };
}

Deno.test("OVERLOADED - the call is sent again when the server has said, and not sooner", async () => {
  await using scene = await oneServer();
  const { client, server, clock } = scene;
  const call = client.call("A", { n: 1 });
  assertEquals((await server.request()).seq, 0);
  await server.reply({ seq: 0, err: "OVERLOADED", $after: 300 });
  let isBack = false;
  const again = server.request().then((request) => {
    isBack = true;
    return request;
  });
  await clock.advance(299);
  assertEquals([isBack, client.statistics().waiting], [false, 1]);
  await clock.advance(1);
  assertEquals(await again, { n: 1, cmd: "A", seq: 1, ttl: 29_700 });
  await server.reply({ seq: 1, res: "done" });
  assertEquals(await call, "done");
  assertEquals(client.statistics().retried, 1);
});

Deno.test("OVERLOADED - callers that were told the same time come back spread over a fifth of it", () => {
  const refusal = new RpcError("OVERLOADED", "busy", { retryAfterMs: 1_000 });
  assertEquals([0, 0.5, 1].map((random) => retryWaitMs(refusal, 7, random)), [1_000, 1_100, 1_200]);
});

Deno.test("OVERLOADED - without a time, the waits double up to 2 s, and are random from nothing up", () => {
  const refusal = new RpcError("OVERLOADED");
  assertEquals([0, 1, 2, 3, 10, 1_000].map((refusals) => retryWaitMs(refusal, refusals, 1)), [
    ...[50, 100, 200, 400],
    ...[2_000, 2_000],
  ]);
  assertEquals(retryWaitMs(refusal, 3, 0), 0);
  assertEquals(retryWaitMs(new RpcError("OVERLOADED", "busy", { retryAfterMs: 0 }), 1, 1), 100, "no time is none");
  assertEquals(retryWaitMs(new RpcError("SHUTTING_DOWN"), 3, 1), 0);
});

Deno.test("OVERLOADED - a server that stays full is asked again and again, until the call's time does not allow it", async () => {
  await using scene = await oneServer({ random: () => 1 });
  const { client, server, clock } = scene;
  const call = failure(client.call("A", {}, { timeoutMs: 500 }));
  const sentMs: number[] = [];
  for (const waitMs of [50, 100, 200, 0]) {
    const { seq } = await server.request();
    sentMs.push(clock.now());
    await server.reply({ seq, err: "OVERLOADED", msg: "busy" });
    await clock.advance(waitMs);
  }
  assertEquals(sentMs.map((ms) => ms - sentMs[0]), [0, 50, 150, 350]);
  const error = await call;
  assertEquals([error.message, error.retryable], ["OVERLOADED: busy", true]);
});

Deno.test("OVERLOADED - a time that is too late for the call is the caller's to know, at once", async () => {
  await using scene = await oneServer();
  const { client, server } = scene;
  const call = failure(client.call("A", {}, { timeoutMs: 500 }));
  const stream = failure(client.stream("B").next());
  await server.requests(2);
  await server.reply({ seq: 0, err: "OVERLOADED", $after: 500 }, { seq: 1, err: "OVERLOADED", $after: 60_000 });
  assertEquals((await call).retryAfterMs, 500);
  assertEquals((await stream).retryAfterMs, 60_000);
  assertEquals(client.statistics().retried, 0);
});

Deno.test("OVERLOADED - a stream that has not begun begins later", async () => {
  await using scene = await oneServer();
  const { client, server, clock } = scene;
  const stream = client.stream("A");
  const first = stream.next();
  await server.request();
  await server.reply({ seq: 0, err: "OVERLOADED", $after: 100 });
  await clock.advance(100);
  assertEquals((await server.request()).seq, 1);
  await server.reply({ seq: 1, res: 7, more: true });
  assertEquals(await first, { done: false, value: 7 });
  await stream.return(undefined);
});

Deno.test("OVERLOADED - a stream and an upload that are refused again and again end within the client's timeout", async () => {
  await using scene = await oneServer({ timeoutMs: 1_000 });
  const { client, server, clock } = scene;
  const calls = [failure(client.stream("A").next()), failure(client.call("UP", {}, { items: [] }))];
  for (let refusals = 0; refusals < 3; refusals++) {
    const [stream, upload] = await server.requests(3); // the end of the upload is the third
    assertEquals([stream.cmd, upload.cmd, client.statistics().inFlight], ["A", "UP", 2]);
    await clock.advance(100); // also the server's time counts
    await server.reply(...[stream, upload].map(({ seq }) => ({ seq, err: "OVERLOADED", $after: 300 })));
    await clock.advance(300);
  }
  assertEquals(client.statistics().failed, { OVERLOADED: 2 }, "100 ms were left, and the server wanted 300");
  for (const { retryable } of await Promise.all(calls)) assertEquals(retryable, true);
});

Deno.test("OVERLOADED - a stream that waits again has only the rest of its time to begin", async () => {
  await using scene = await oneServer({ timeoutMs: 1_000, maxInFlight: 1 });
  const { client, server, clock } = scene;
  const stream = failure(client.stream("A").next());
  await server.request();
  await clock.advance(600);
  await server.reply({ seq: 0, err: "OVERLOADED", $after: 100 });
  await turn();
  const before = client.call("B", {}, { timeoutMs: Infinity });
  await server.request();
  await clock.advance(400);
  assertEquals(client.statistics().failed, { TIMEOUT: 1 });
  const { message, retryable } = await stream;
  assertEquals([message.startsWith("TIMEOUT: no reply within 1000 ms, and the call was not sent again"), retryable], [
    true,
    true,
  ]);
  await server.reply({ seq: 1, res: "done" });
  assertEquals(await before, "done");
});

Deno.test("what one server refuses goes to another: SHUTTING_DOWN at once, OVERLOADED when it may", async () => {
  for (const [err, $after] of [["SHUTTING_DOWN", 0], ["OVERLOADED", 250]] as const) {
    await using scene = await twoServers();
    const { client, a, b, clock } = scene;
    const call = client.call("A");
    await a.request();
    await a.reply({ seq: 0, err, ...$after > 0 ? { $after } : {} });
    await clock.advance($after);
    const { seq } = await b.request();
    await b.reply({ seq, res: "b" });
    assertEquals(await call, "b");
    const [first, second] = client.servers;
    assertEquals([first.sent, first.refused, second.sent, second.refused], [1, 1, 1, 0]);
  }
});

Deno.test("a connection that the server had no place for, or that came as it shut down: its calls go out again", async () => {
  for (const refusal of [{ err: "OVERLOADED", msg: "too many connections" }, { err: "SHUTTING_DOWN" }]) {
    await using scene = await oneServer();
    const { client, server, network, clock } = scene;
    const calls = [client.call("A"), client.call("B")];
    await server.requests(2);
    await server.reply(refusal);
    await server.rest();
    await clock.advance(1_000);
    await using second = await ScriptedServer.accept(network);
    const requests = await second.requests(2);
    assertEquals(requests.map(({ cmd }) => cmd), ["A", "B"]);
    await second.reply(...requests.map(({ seq, cmd }) => ({ seq, res: cmd })));
    assertEquals(await Promise.all(calls), ["A", "B"]);
  }
});

Deno.test("the budget is everybody's: beyond it, callers get the server's error as it is", async () => {
  await using scene = await oneServer({ retryBudget: { perCall: 0.2, perSecond: 0 } });
  const { client, server, clock } = scene;
  const calls = Array.from({ length: 100 }, () => client.outcome("A"));
  const requests = await server.requests(100);
  await server.reply(...requests.map(({ seq }) => ({ seq, err: "OVERLOADED", $after: 10 })));
  await clock.advance(10);
  const again = await server.requests(20);
  await server.reply(...again.map(({ seq }) => ({ seq, res: 1 })));
  const outcomes = await Promise.all(calls);
  const failed = outcomes.flatMap((outcome) => outcome.ok ? [] : [outcome.error]);
  assertEquals(failed.length, 80);
  for (const { code, retryable, retryAfterMs } of failed) {
    assertEquals([code, retryable, retryAfterMs], ["OVERLOADED", true, 10]);
  }
  const { begun, answered, failed: byCode, retried, inFlight, waiting } = client.statistics();
  assertEquals([begun, answered, byCode, retried, inFlight, waiting], [100, 20, { OVERLOADED: 80 }, 20, 0, 0]);
});

Deno.test("with an empty budget nothing is sent again: refused, shut down, or lost and idempotent", async () => {
  await using scene = await oneServer({ retryBudget: NO_RETRIES });
  const { client, server } = scene;
  const codes = ["A", "B", "C"].map((name) => failure(client.call(name, {}, { idempotent: true })));
  await server.requests(3);
  await server.reply({ seq: 0, err: "OVERLOADED" }, { seq: 1, err: "SHUTTING_DOWN" });
  const refused = await Promise.all(codes.slice(0, 2));
  server.cut();
  const lost = await codes[2];
  assertEquals([...refused, lost].map(({ code, retryable }) => [code, retryable]), [
    ["OVERLOADED", true],
    ["SHUTTING_DOWN", true],
    ["CONNECTION_LOST", false],
  ]);
  assertEquals([client.servers[0].refused, client.servers[0].lost], [2, 1]);
});

/** What a server answers to a request, or without any. */
const REFUSALS = [{ err: "OVERLOADED", msg: "no room" }, { err: "SHUTTING_DOWN" }];

Deno.test("a call that was lost once is not retryable any more, whoever refuses it then", async () => {
  for (const refusal of REFUSALS) {
    for (const isAsked of [true, false]) {
      await using scene = await oneServer({ retryBudget: { perCall: 0, perSecond: 0.1 } }); // one retry
      const call = failure(scene.client.call("A", {}, { idempotent: true }));
      await scene.server.request();
      scene.server.cut();
      const accepted = ScriptedServer.accept(scene.network);
      await scene.clock.advance(500);
      await using second = await accepted;
      const { seq } = await second.request();
      await second.reply(isAsked ? { seq, ...refusal } : refusal);
      const { code, retryable, message } = await call;
      assertEquals([code, retryable], [refusal.err, false], message);
    }
  }
});

Deno.test("a call that waits after a loss is not retryable when its client ends", async () => {
  await using scene = await oneServer();
  const stream = scene.client.stream("A", {}, { idempotent: true });
  const calls = [failure(scene.client.call("A", {}, { idempotent: true })), failure(stream.next())];
  await scene.server.requests(2);
  scene.server.cut();
  await turn();
  const fresh = failure(scene.client.call("A"));
  await scene.client.close();
  const ends = (await Promise.all([...calls, fresh])).map(({ code, retryable }) => [code, retryable]);
  assertEquals(ends, [["CLOSED", false], ["CLOSED", false], ["CLOSED", true]]);
});

Deno.test("a call that waits for its time ends by its signal, its timeout or the client's end like any other", async () => {
  const patience = new AbortController();
  const scene = await oneServer();
  const { client, server, clock } = scene;
  const calls = [
    failure(client.call("A", {}, { signal: patience.signal })),
    failure(client.stream("B", {}, { timeoutMs: 2_000, signal: patience.signal }).next()),
    failure(client.call("C")),
  ];
  const requests = await server.requests(3);
  await server.reply(...requests.map(({ seq }) => ({ seq, err: "OVERLOADED", $after: 1_000 })));
  await clock.advance(500);
  assertEquals(client.statistics().waiting, 3);
  patience.abort();
  await turn();
  assertEquals(client.statistics().waiting, 1);
  await scene[Symbol.asyncDispose]();
  const errors = await Promise.all(calls);
  assertEquals(errors.map(({ code, retryable }) => [code, retryable]), [
    ["CANCELLED", true],
    ["CANCELLED", true],
    ["CLOSED", true],
  ]);
});

Deno.test("CallQueue - a call that waits for its time keeps the program alive, and counts as memory", async () => {
  const clock = new FakeClock();
  const kept: boolean[] = [];
  const watched = {
    now: () => clock.now(),
    setTimer(callback: () => void, delayMs: number, keepAlive: boolean) {
      kept.push(keepAlive);
      return clock.setTimer(callback, delayMs, keepAlive);
    },
    clearTimer: (timer: number | object) => clock.clearTimer(timer),
  };
  let due = 0;
  const queue = new CallQueue(watched, () => due++);
  // deno-lint-ignore no-explicit-any -- a queue looks at no more of a call
  const call: any = { waitingBytes: 2 ** 28, isSettled: false, policy: { waitForReady: true } };
  queue.pushLater(call, 100);
  assertEquals([kept, queue.empty, queue.length, queue.full], [[true], true, 1, true]);
  assertEquals(queue.impatient(), []);
  await clock.advance(100);
  assertEquals([due, queue.empty, queue.length, queue.shift() === call, queue.full], [1, false, 1, true, false]);
  queue.pushLater(call, 100);
  queue.forget(call);
  assertEquals([queue.length, queue.full, clock.timers], [0, false, 0]);
  queue.pushLater(call, 100);
  assertEquals([queue.all()[0] === call, queue.length, clock.timers], [true, 1, 1]);
});

Deno.test("two real servers that take one call at a time answer more, within the callers' time", async () => {
  const WORK = command(() => new Promise<number>((resolve) => setTimeout(resolve, 5, 1)));
  const limits = { port: 0, commands: { WORK }, maxInFlightTotal: 1 };
  await using one = await serve(limits);
  await using other = await serve(limits);
  const servers = [one, other].map(({ port }) => `127.0.0.1:${port}`);
  await using client = await connect({ servers, commands: { WORK }, clock: systemClock });
  const results = await Promise.all(Array.from({ length: 20 }, () => client.call.WORK()));
  assertEquals(results.length, 20);
  const { answered, retried, failed } = client.statistics();
  assert(answered === 20 && retried > 0, JSON.stringify({ answered, retried }));
  assertEquals(failed, {});
});
