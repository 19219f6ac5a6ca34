/** Streams whose items have ids: they go on elsewhere after a loss, and their reader sees one stream. */

import { assertEquals, assertRejects } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import type { Fields } from "../../codec/message.ts";
import { RpcError } from "../../errors.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

async function scene(options: ConnectOptions = {}) {
  const network = memoryNetwork();
  const clock = new FakeClock();
  const client: Client = await connect({ dial: network.dial, clock, random: () => 0, ...options });
  const server = await ScriptedServer.accept(network);
  /** The next connection, after a loss. */
  const next = async () => {
    const accepted = ScriptedServer.accept(network);
    await clock.advance(100);
    return await accepted;
  };
  return { client, clock, network, server, next };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

async function failure(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, RpcError)).code;
}

/** The next message that calls or ends something. */
async function requestTo(server: ScriptedServer): Promise<Fields> {
  const message = await server.request();
  return message.cmd === 0 && "credit" in message ? await requestTo(server) : message;
}

function tracked(id: number | string, seq = 0): Fields {
  return { seq, res: id, more: true, $id: id };
}

Deno.test("resume - after a loss it is asked for again from the last id; no item is lost, none comes twice", async () => {
  const { client, server, next } = await scene();
  const stream = client.stream("NEWS", { topic: "a", deep: [{ x: 1n, y: 0.5 }] }, { meta: { token: "t" } });
  const first = stream.next();
  assertEquals((await requestTo(server)).after, undefined);
  await server.reply(tracked(1), tracked(2), tracked(3));
  assertEquals((await first).value, 1);
  await turn();
  server.cut();
  const second = await next();
  assertEquals(await requestTo(second), {
    topic: "a",
    deep: [{ x: 1, y: 0.5 }],
    after: 3,
    cmd: "NEWS",
    meta: { token: "t" },
    credit: 254,
    seq: 0,
  });
  assertEquals((await stream.next()).value, 2, "what was unread is kept");
  await second.reply(tracked(4));
  assertEquals([(await stream.next()).value, (await stream.next()).value], [3, 4]);
  second.cut();
  const third = await next();
  assertEquals((await requestTo(third)).after, 4);
  await third.reply(tracked("five"), { seq: 0, res: "end" });
  assertEquals(await stream.next(), { done: false, value: "five" });
  assertEquals(await stream.next(), { done: true, value: "end" });
  const { begun, answered, retried, failed, inFlight, waiting } = client.statistics();
  assertEquals({ begun, answered, retried, failed, inFlight, waiting }, {
    ...{ begun: 1, answered: 1, retried: 2 },
    ...{ failed: {}, inFlight: 0, waiting: 0 },
  });
  await client.close();
});

Deno.test("resume - a parameter `after` of the caller's own begins it, and gives way", async () => {
  const { client, server, next } = await scene();
  const stream = client.stream("NEWS", { after: "b", topic: "x" });
  const first = stream.next();
  assertEquals((await requestTo(server)).after, "b");
  await server.reply(tracked("c"));
  await first;
  server.cut();
  const second = await next();
  const { after, topic } = await requestTo(second);
  assertEquals([after, topic], ["c", "x"]);
  await second.reply({ seq: 0, res: 7 });
  assertEquals(await stream.next(), { done: true, value: 7 }, "an end without a new item is an end");
  await client.close();
});

Deno.test("resume - GOING_AWAY, and a server that cuts it at its end: it goes on elsewhere", async () => {
  for (const err of ["GOING_AWAY", "CANCELLED"]) {
    const { client, server, next } = await scene();
    const stream = client.stream("NEWS");
    const first = stream.next();
    await requestTo(server);
    await server.reply({ going: 10_000 }, tracked(1), { seq: 0, err });
    assertEquals((await first).value, 1);
    const second = await next();
    assertEquals((await requestTo(second)).after, 1);
    await second.reply(tracked(2));
    assertEquals((await stream.next()).value, 2);
    await client.close();
  }
});

Deno.test("resume - not without an id, not with the caller's own items, not for other errors", async () => {
  const { client, server } = await scene();
  const stream = client.stream("NEWS");
  const first = stream.next();
  await requestTo(server);
  await server.reply({ seq: 0, res: 1, more: true });
  await first;
  server.cut();
  assertEquals(await failure(stream.next()), "CONNECTION_LOST");
  await client.close();

  const both = await scene();
  const chat = both.client.stream("CHAT", {}, { items: [1, 2] });
  const answered = chat.next();
  await requestTo(both.server);
  await both.server.reply(tracked(1));
  await answered;
  both.server.cut();
  assertEquals(await failure(chat.next()), "CONNECTION_LOST");
  await both.client.close();

  for (const err of ["NO_SUCH_TOPIC", "INTERNAL", "CONNECTION_LOST", "OVERLOADED"]) {
    const { client, server } = await scene();
    const stream = client.stream("NEWS");
    const first = stream.next();
    await requestTo(server);
    await server.reply(tracked(1), { seq: 0, err });
    await first;
    assertEquals(await failure(stream.next()), err);
    await client.close();
  }
});

Deno.test("resume - one that is idempotent and has had no item begins anew, without `after`", async () => {
  const { client, server, next } = await scene();
  const stream = client.stream("NEWS", { topic: "x" }, { idempotent: true });
  const first = stream.next();
  const request = { topic: "x", cmd: "NEWS", credit: 4, seq: 0 };
  assertEquals(await requestTo(server), request);
  server.cut();
  const second = await next();
  assertEquals(await requestTo(second), request);
  await second.reply({ seq: 0, err: "CANCELLED", msg: "the server has shut down" });
  assertEquals(await requestTo(second), { ...request, seq: 1 });
  await second.reply(tracked(1, 1));
  assertEquals((await first).value, 1);
  second.cut();
  const third = await next();
  assertEquals((await requestTo(third)).after, 1);
  await third.reply({ seq: 0, res: null });
  assertEquals(await stream.next(), { done: true, value: null });
  await client.close();
});

Deno.test("resume - one that is idempotent ends with a loss after an item without an id: it would come twice", async () => {
  const { client, server, next } = await scene();
  const stream = client.stream("NEWS", {}, { idempotent: true });
  const first = stream.next();
  await requestTo(server);
  server.cut();
  const second = await next();
  await requestTo(second);
  await second.reply({ seq: 0, res: 1, more: true });
  await first;
  second.cut();
  assertEquals(await failure(stream.next()), "CONNECTION_LOST");

  const crashing = failure(client.stream("NEWS", {}, { idempotent: true }).next());
  for (let losses = 0; losses < 3; losses++) {
    const server = await next();
    await requestTo(server);
    server.cut();
  }
  assertEquals(await crashing, "CONNECTION_LOST", "one that crashes servers is not sent on and on");
  await client.close();
});

Deno.test("resume - an id must be one", async () => {
  for (const id of [-1, 1.5, null, [1]]) {
    const { client, server } = await scene();
    const first = client.stream("NEWS").next();
    await requestTo(server);
    await server.reply({ seq: 0, res: 1, more: true, $id: id });
    assertEquals(await failure(first), "BAD_REPLY");
    assertEquals(await requestTo(server), { cmd: 0, seq: 0, cancel: true });
    await client.close();
  }
});

Deno.test("resume - three losses without a new item end it, and each new item counts them anew", async () => {
  const { client, server, next } = await scene();
  const stream = client.stream("NEWS");
  const first = stream.next();
  await requestTo(server);
  await server.reply(tracked(1));
  await first;
  let current = server;
  for (let round = 2; round < 6; round++) {
    current.cut();
    current = await next();
    assertEquals((await requestTo(current)).after, round - 1);
    current.cut();
    current = await next();
    assertEquals((await requestTo(current)).after, round - 1);
    await current.reply(tracked(round));
    assertEquals((await stream.next()).value, round);
  }
  const ended = assertRejects(() => stream.next(), RpcError, "sent 3 times without a new item: ");
  for (let losses = 1; losses <= 3; losses++) {
    current.cut();
    if (losses === 3) break;
    current = await next();
    await requestTo(current);
  }
  assertEquals((await ended).code, "CONNECTION_LOST");
  await client.close();
});

Deno.test("resume - a server that says GOING_AWAY again and again ends it with that code", async () => {
  const { client, server } = await scene();
  const stream = client.stream("NEWS");
  const first = stream.next();
  await requestTo(server);
  await server.reply(tracked(1), { seq: 0, err: "CANCELLED", msg: "shut down" });
  await first;
  const ended = assertRejects(() => stream.next(), RpcError, "sent 3 times without a new item: shut down");
  for (let seq = 1; seq < 3; seq++) {
    await requestTo(server);
    await server.reply({ seq, err: "CANCELLED", msg: "shut down" });
  }
  assertEquals((await ended).code, "GOING_AWAY");
  await client.close();
});

Deno.test("resume - without a budget for retries it ends as others do", async () => {
  const { client, server } = await scene({ retryBudget: { perCall: 0, perSecond: 0 } });
  const stream = client.stream("NEWS");
  const first = stream.next();
  await requestTo(server);
  await server.reply(tracked(1), tracked(2));
  await first;
  await turn();
  server.cut();
  await turn();
  assertEquals((await stream.next()).value, 2);
  assertEquals(await failure(stream.next()), "CONNECTION_LOST");
  await client.close();
});

Deno.test("resume - one that is refused elsewhere is sent once more, from the same id", async () => {
  const { client, clock, server, next } = await scene();
  const stream = client.stream("NEWS");
  const first = stream.next();
  await requestTo(server);
  await server.reply(tracked(1));
  await first;
  server.cut();
  const second = await next();
  await requestTo(second);
  await second.reply({ seq: 0, err: "OVERLOADED", $after: 10 });
  await clock.advance(20);
  assertEquals((await requestTo(second)).after, 1);
  await second.reply(tracked(2, 1));
  assertEquals((await stream.next()).value, 2);
  await client.close();
});

Deno.test("resume - a stream that is lost has the client's timeout once more to go on, and no limit when it does", async () => {
  const { client, clock, server, next } = await scene({ timeoutMs: 1_000 });
  const stream = client.stream("NEWS");
  const first = stream.next();
  await requestTo(server);
  await server.reply(tracked(1));
  await first;
  await clock.advance(10_000);
  server.cut();
  const second = await next();
  await requestTo(second);
  await second.reply({ seq: 0, err: "OVERLOADED", $after: 500 });
  await clock.advance(500);
  await requestTo(second);
  await clock.advance(10_000);
  await second.reply(tracked(2, 1), { seq: 1, err: "DEADLINE_EXCEEDED" });
  assertEquals((await stream.next()).value, 2);
  assertEquals(await failure(stream.next()), "DEADLINE_EXCEEDED", "the server's limit, not the client's");
  await client.close();
});

Deno.test("resume - in the gap: leaving, the signal and the timeout end it, and nothing is sent", async () => {
  for (const end of ["left", "CANCELLED", "TIMEOUT", "CLOSED"]) {
    const network = memoryNetwork();
    const clock = new FakeClock();
    let isDown = false;
    const dial = () => isDown ? Promise.reject(new Error("down")) : network.dial();
    const client: Client = await connect({ dial, clock, random: () => 1, timeoutMs: 2_000 });
    const server = await ScriptedServer.accept(network);
    const patience = new AbortController();
    const stream = client.stream("NEWS", {}, { signal: patience.signal });
    const first = stream.next();
    await requestTo(server);
    await server.reply(tracked(1));
    await first;
    isDown = true;
    server.cut();
    await clock.advance(50);
    assertEquals([client.statistics().waiting, client.statistics().inFlight], [1, 0]);
    const reading = stream.next().then(({ done }) => done ? "left" : "item", ({ code }) => code);
    if (end === "left") await stream.return(undefined);
    if (end === "CANCELLED") patience.abort();
    if (end === "TIMEOUT") await clock.advance(2_000); // as long as the start of a stream may take
    if (end === "CLOSED") await client.close();
    assertEquals(await reading, end);
    assertEquals([client.statistics().waiting, client.statistics().inFlight], [0, 0]);
    isDown = false;
    await clock.advance(10_000);
    await client.close();
  }
});

Deno.test("resume - with waitForReady: false it does not wait for a server; what came is read first", async () => {
  const network = memoryNetwork();
  const clock = new FakeClock();
  let isDown = false;
  const dial = () => isDown ? Promise.reject(new Error("down")) : network.dial();
  const client: Client = await connect({ dial, clock, random: () => 1 });
  const server = await ScriptedServer.accept(network);
  const stream = client.stream("NEWS", {}, { waitForReady: false });
  const first = stream.next();
  await requestTo(server);
  await server.reply(tracked(1), tracked(2));
  await first;
  isDown = true;
  server.cut();
  await clock.advance(1_000);
  assertEquals((await stream.next()).value, 2);
  assertEquals(await failure(stream.next()), "CONNECTION_LOST");
  await client.close();
});

Deno.test("resume - the credit of the new request is what fits beside the unread items", async () => {
  const { client, server, next } = await scene();
  const stream = client.stream("NEWS", {}, { credit: 4 });
  const first = stream.next();
  assertEquals((await requestTo(server)).credit, 4);
  await server.reply(tracked(1), tracked(2), tracked(3), tracked(4));
  await first;
  await turn();
  server.cut();
  const second = await next();
  assertEquals((await requestTo(second)).credit, 1);
  await second.reply(tracked(5));
  for (const id of [2, 3, 4, 5]) assertEquals((await stream.next()).value, id);
  assertEquals(await second.request(), { cmd: 0, seq: 0, credit: 2 });
  assertEquals(await second.request(), { cmd: 0, seq: 0, credit: 2 });
  await client.close();
});

Deno.test("resume - what is read in the gap is granted on the new connection, not lost with the old one", async () => {
  const { client, server, clock, network } = await scene();
  const stream = client.stream("NEWS", {}, { credit: 2 });
  const first = stream.next();
  await requestTo(server);
  await server.reply(tracked(1), tracked(2));
  await first;
  await turn();
  server.cut();
  await until(() => client.statistics().waiting === 1 || client.state !== "open");
  assertEquals((await stream.next()).value, 2);
  const third = stream.next();
  const accepted = ScriptedServer.accept(network);
  await clock.advance(100);
  const second = await accepted;
  assertEquals((await requestTo(second)).credit, 2);
  await second.reply(tracked(3), tracked(4));
  assertEquals([(await third).value, (await stream.next()).value], [3, 4]);
  await client.close();
});

Deno.test("resume - an id that makes the request too large ends the stream by what is wrong", async () => {
  const { client, server, clock, network } = await scene({ maxPayloadBytes: 200 });
  const stream = client.stream("NEWS", { topic: "x".repeat(100) });
  const first = stream.next();
  await requestTo(server);
  await server.reply({ seq: 0, res: 1, more: true, $id: "y".repeat(120) });
  await first;
  server.cut();
  const ended = assertRejects(() => stream.next(), RangeError, "Cannot call NEWS: the payload is");
  const accepted = ScriptedServer.accept(network);
  await clock.advance(100);
  await accepted;
  await ended;
  await client.close();
});
