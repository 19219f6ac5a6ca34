/** The client against a server that is late, wrong, silent, gone, or never silent. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { serve } from "../support/demo_server.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { type Network, NETWORKS, ScriptedServer } from "../support/scripted_server.ts";
import { concat, message } from "../support/wire.ts";

interface Scene {
  client: Client;
  server: ScriptedServer;
  network: Network;
  clock: FakeClock;
}

/** Waits for something that the other end of a socket does in its own time. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

const NO_RETRIES = { retryBudget: { perCall: 0, perSecond: 0 } };

async function failure(call: Promise<unknown>): Promise<[code: string, retryable: boolean, text: string]> {
  const error = await assertRejects(() => call, RpcError);
  return [error.code, error.retryable, error.message];
}

for (const makeNetwork of NETWORKS) {
  const test = (
    what: string,
    { reads, ...options }: ConnectOptions & { reads?: boolean },
    body: (scene: Scene) => Promise<void>,
  ): void => {
    const name = makeNetwork === NETWORKS[0] ? "memory" : "TCP";
    Deno.test(`client and bad server over ${name} - ${what}`, async () => {
      using network = makeNetwork();
      const clock = new FakeClock();
      const dial = () => network.dial();
      const accepted = ScriptedServer.accept(network, { reads });
      await using client = await connect({ dial, clock, timeoutMs: Infinity, random: () => 0, ...options });
      await using server = await accepted;
      await body({ client, server, network, clock });
      await client.close();
      assertEquals(clock.timers, 0, "timers are left");
    });
  };

  test("a late reply is dropped and counted", {}, async ({ client, server, clock }) => {
    const call = failure(client.reply("PING", {}, { timeoutMs: 100 }));
    assertEquals(await server.request(), { cmd: 1, seq: 0, ttl: 100 });
    await clock.advance(110);
    const [code, retryable, text] = await call;
    assertEquals([code, retryable], ["TIMEOUT", false]);
    assertMatch(`${text}`, /^TIMEOUT: no reply within 100 ms: sent to (memory|127\.0\.0\.1:\d+) after 0 ms$/);
    assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
    await server.reply({ seq: 0, res: "late" });
    const next = client.reply("PING");
    assertEquals(await server.request(), { cmd: 1, seq: 1 });
    await server.reply({ seq: 1, res: "in time" });
    assertEquals((await next).res, "in time");
    assertEquals(client.statistics().lateReplies, 1);
  });

  test("the server's DEADLINE_EXCEEDED at the end of the time is a TIMEOUT too", {}, async (scene) => {
    const { client, server, clock } = scene;
    const due = failure(client.reply("PING", {}, { timeoutMs: 101 }));
    const early = failure(client.reply("PING", {}, { timeoutMs: 1000 }));
    await server.requests(2);
    await clock.advance(102); // the client looks every 5 ms
    await server.reply({ seq: 0, err: "DEADLINE_EXCEEDED" }, { seq: 1, err: "DEADLINE_EXCEEDED" });
    assertEquals((await due)[0], "TIMEOUT");
    assertEquals((await early)[0], "DEADLINE_EXCEEDED");
  });

  test("a reply to nobody is dropped and counted, a second one as well", {}, async ({ client, server }) => {
    const call = client.reply("PING");
    await server.request();
    await server.reply({ seq: 77, res: "whose?" }, { seq: 0, res: 1 }, { seq: 0, res: 2 });
    assertEquals(await call, { res: 1 });
    const next = client.reply("PING");
    await server.request();
    await server.reply({ seq: 1, res: 3 });
    assertEquals((await next).res, 3);
    assertEquals(client.statistics().lateReplies, 2);
  });

  const STRAYS = {
    reply: { seq: 77, res: 1 },
    credit: { seq: 77, credit: 1 },
    notice: { news: 1 },
    going: { going: 1 },
  };
  for (const [what, stray] of Object.entries(STRAYS)) {
    test(`100,000 times a ${what} for no call is read, but no more within half a second`, {}, async (scene) => {
      const { client, server, clock } = scene;
      const [first, second, third] = ["A", "B", "C"].map((name) => client.reply(name, {}, { idempotent: false }));
      await server.requests(3);
      const strays = concat(...new Array(99_000).fill(message(stray)));
      await server.send(concat(strays, message({ seq: 0, res: "A" })));
      assertEquals(await first, { res: "A" });
      await clock.advance(500);
      await server.send(concat(strays, message({ seq: 1, res: "B" })));
      assertEquals(await second, { res: "B" });
      const sent = server.send(strays).catch(() => {}); // the client closes on the way
      const [code, , text] = await failure(third);
      await sent;
      assertEquals(code, "BAD_REPLY");
      assertMatch(text, /has sent 100000 messages that are for no open call$/);
    });
  }

  test("replies come in pieces and out of order", {}, async ({ client, server }) => {
    const calls = [client.reply("A"), client.reply("B"), client.reply("C")];
    await server.requests(3);
    const frames = "202b82a373657102a372657301 0a 202b82a373657100a372657302 0a 202b82a373657101a372657303 0a";
    for (const byte of Uint8Array.fromHex(frames.replaceAll(" ", ""))) await server.send(Uint8Array.of(byte));
    assertEquals((await Promise.all(calls)).map(({ res }) => res), [2, 3, 1]);
  });

  test("a cut rejects what was sent, and what was not goes on", { maxInFlight: 2 }, async (scene) => {
    const { client, server, network } = scene;
    const sent = [client.reply("A"), client.reply("B")].map(failure);
    const waiting = client.reply("C");
    await server.requests(2);
    server.cut();
    for (const call of sent) assertEquals((await call).slice(0, 2), ["CONNECTION_LOST", false]);
    await using second = await ScriptedServer.accept(network);
    assertEquals((await second.request()).cmd, "C");
    await second.reply({ seq: 0, res: "C" });
    assertEquals((await waiting).res, "C");
  });

  test("an end in order, without the reply", {}, async ({ client, server }) => {
    const call = failure(client.reply("A"));
    await server.request();
    await server.halfClose();
    const [code, retryable, text] = await call;
    assertEquals([code, retryable], ["CONNECTION_LOST", false]);
    assert(text.endsWith("is lost: the server closed it"), text);
    await until(() => client.state === "idle");
  });

  test("an end inside a frame", {}, async ({ client, server }) => {
    const call = failure(client.reply("A"));
    await server.request();
    await server.send(Uint8Array.fromHex("202e82a3"));
    await server.halfClose();
    assert((await call)[2].endsWith("it ended 4 bytes into a frame"));
  });

  test("garbage ends the connection", {}, async ({ client, server }) => {
    const calls = [client.reply("A"), client.reply("B")].map(failure);
    await server.requests(2);
    await server.send(new TextEncoder().encode("  this is no frame"));
    for (const call of calls) assertEquals((await call).slice(0, 2), ["BAD_REPLY", false]);
    await server.rest();
  });

  test("a frame without a message ends the connection", {}, async ({ client, server }) => {
    const call = failure(client.reply("A"));
    await server.request();
    await server.send(Uint8Array.fromHex("2021c10a"));
    assertEquals((await call)[0], "BAD_REPLY");
    await server.rest();
  });

  test("a reply that says nothing is that call's matter", {}, async ({ client, server }) => {
    const calls = [client.reply("A"), client.reply("B"), client.reply("C"), client.reply("D")];
    const first = calls.slice(0, 3).map(failure);
    await server.requests(4);
    await server.reply({ seq: 0 }, { seq: 1, err: 5 }, { seq: 2, err: null }, { seq: 3, res: null });
    for (const call of first) assertEquals((await call)[0], "BAD_REPLY");
    assertEquals(await calls[3], { res: null });
    assertEquals(client.state, "open");
  });

  test("a reply without seq says what to do", {}, async ({ client, server }) => {
    const call = failure(client.reply("A"));
    await server.request();
    await server.reply({ res: "PONG" });
    const [code, , text] = await call;
    assertEquals(code, "BAD_REPLY");
    assert(text.includes(" sent a reply without seq. ") && text.includes("sequenced: false"), text);
  });

  test("an answer to the settings says what the server has answered, and that it must not", {}, async (scene) => {
    const { client, server } = scene;
    const call = failure(client.reply("A"));
    await server.request();
    await server.reply({ err: "CMD_NOT_FOUND", msg: "no command 0" });
    const [code, , text] = await call;
    assertEquals(code, "BAD_REPLY");
    assert(text.includes(" sent CMD_NOT_FOUND without seq. "), text);
    assert(text.includes("a message with cmd: 0 gets none"), text);
  });

  test("an error about the whole connection is everybody's", NO_RETRIES, async ({ client, server, network }) => {
    const refused = [client.reply("A"), client.reply("B")].map(failure);
    await server.requests(2);
    await server.reply({ err: "OVERLOADED", msg: "no room" });
    for (const call of refused) assertEquals(await call, ["OVERLOADED", true, "OVERLOADED: no room"]);
    await server.rest();
    const bad = failure(client.reply("C"));
    await using second = await ScriptedServer.accept(network);
    await second.request();
    await second.reply({ err: "BAD_FRAME", msg: "too long" });
    assertEquals(await bad, ["BAD_FRAME", false, "BAD_FRAME: too long"]);
  });

  test("a reply before any call ends the connection, and the next call dials", {}, async (scene) => {
    const { client, server, network } = scene;
    await server.reply({ res: "hello" });
    assertEquals((await server.rest()).map(({ cmd }) => cmd), [0]); // the settings
    assertEquals(client.state, "idle");
    const call = client.reply("A");
    await using second = await ScriptedServer.accept(network);
    await second.request();
    await second.reply({ seq: 0, res: 1 });
    assertEquals((await call).res, 1);
  });

  test("a server that answers not even a cancel is given up", { aliveMs: 0 }, async ({ client, server, clock }) => {
    const impatient = failure(client.reply("A", {}, { timeoutMs: 100 }));
    const patient = failure(client.reply("B"));
    await server.requests(2);
    await clock.advance(105);
    assertEquals((await impatient)[0], "TIMEOUT");
    await clock.advance(9_990);
    assertEquals(client.state, "open");
    await clock.advance(20);
    const [code, , text] = await patient;
    assertEquals(code, "CONNECTION_LOST");
    assert(text.endsWith("has been silent for 10000 ms"), text);
  });

  test("a cancelled call that is never answered gives back its place", { maxInFlight: 1 }, async (scene) => {
    const { client, server, clock } = scene;
    const patience = new AbortController();
    const cancelled = failure(client.reply("A", {}, { signal: patience.signal }));
    await server.request();
    patience.abort();
    assertEquals((await cancelled)[0], "CANCELLED");
    const next = client.reply("B");
    assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
    await server.reply({ seq: 99, res: "alive" });
    await until(() => client.statistics().lateReplies === 1);
    await clock.advance(10_010);
    assertEquals((await server.request()).cmd, "B");
    await server.reply({ seq: 1, res: 2 });
    assertEquals((await next).res, 2);
  });

  test("a stream where one reply was expected is refused and cancelled", {}, async ({ client, server }) => {
    const call = failure(client.reply("A"));
    await server.request();
    await server.reply({ seq: 0, res: 1, more: true });
    assertEquals((await call)[0], "BAD_REPLY");
    assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
    await server.reply({ seq: 0, res: 2, more: true }, { seq: 0, err: "CANCELLED" });
    await until(() => client.statistics().lateReplies === 2);
    assertEquals(client.state, "open");
  });

  test("an error with more ends its call, with the server's code", {}, async ({ client, server }) => {
    const single = failure(client.reply("A"));
    const stream = client.stream("B", {}, { credit: 4 });
    const first = stream.next();
    await server.requests(2);
    await server.reply({ seq: 0, err: "NO", msg: "not now", more: true });
    assertEquals(await single, ["NO", false, "NO: not now"]);
    await server.reply({ seq: 1, res: 1, more: true }, { seq: 1, err: "NO", more: true });
    assertEquals(await first, { done: false, value: 1 });
    assertEquals((await failure(stream.next()))[0], "NO");
    assertEquals(client.state, "open");
    await client.close();
    assertEquals(await server.rest(), []); // no cancel: both calls are over
  });

  test("an item without res ends its stream, which is cancelled", {}, async ({ client, server }) => {
    const stream = client.stream("A", {}, { credit: 4 });
    const first = stream.next();
    await server.request();
    await server.reply({ seq: 0, res: null, more: true }, { seq: 0, more: true });
    assertEquals(await first, { done: false, value: null });
    assertEquals(await failure(stream.next()), ["BAD_REPLY", false, "BAD_REPLY: a reply without res"]);
    assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
    await server.reply({ seq: 0, err: "CANCELLED" });
    await until(() => client.statistics().lateReplies === 1);
    assertEquals(client.state, "open");
  });

  test("the settings go out with the first request, in one message", { maxPayloadBytes: 60_000 }, async (scene) => {
    const call = scene.client.reply("PING");
    assertEquals(await scene.server.message(), { cmd: 0, max: 60_000, alive: 30_000, notice: true });
    assertEquals(await scene.server.message(), { cmd: 1, seq: 0 });
    const settings = "203e84a3636d6400a36d6178cdea60a5616c697665cd7530a66e6f74696365c30a";
    assertEquals(scene.server.receivedHex, settings + "202b82a3636d6401a3736571000a");
    await scene.server.reply({ seq: 0, res: 1 });
    await call;
  });

  test(
    "no max for 57,310 bytes, no alive for 0",
    { maxPayloadBytes: 57_310, aliveMs: 0 },
    async ({ client, server }) => {
      const call = client.reply("PING");
      assertEquals(await server.message(), { cmd: 0, notice: true });
      assertEquals(await server.message(), { cmd: 1, seq: 0 });
      await server.reply({ seq: 0, res: 1 });
      await call;
    },
  );

  test("close cancels what is in flight, then says no more", {}, async ({ client, server }) => {
    const call = failure(client.reply("A"));
    await server.request();
    await client.close();
    assertEquals((await call).slice(0, 2), ["CLOSED", false]);
    assertEquals(await server.rest(), [{ cmd: 0, seq: 0, cancel: true }]);
  });

  test("close does not wait for a server that does not read", { reads: false }, async ({ client, clock }) => {
    const call = failure(client.reply("A", { value: "x".repeat(1_000_000) }));
    const more = failure(client.reply("A", { value: "x".repeat(1_000_000) }));
    for (let turns = 0; turns < 20; turns++) await turn();
    const closing = client.close();
    assertEquals((await call)[0], "CLOSED");
    assertEquals((await more)[0], "CLOSED");
    await clock.advance(1_000);
    await closing;
  });

  test("without seq, requests are the article's, byte for byte", { sequenced: false }, async (scene) => {
    const { client, server, clock } = scene;
    const ping = client.reply("PING");
    await server.request();
    assertEquals(server.receivedHex, "202681a3636d64010a");
    await server.reply({ res: "PONG" });
    assertEquals(await ping, { res: "PONG" });
    server.receivedHex = "";
    await clock.advance(20); // the server has not closed: it is not of the kind that serves once
    const delay = client.reply("DELAY", { sleep: 10 });
    await server.request();
    assertEquals(server.receivedHex, "202d82a5736c6565700aa3636d64020a");
    await server.reply({ res: "DONE" });
    await delay;
  });
}

Deno.test("a server that sends without a pause leaves the program, and its other connections, their turns", async () => {
  const notices = concat(...new Array(20_000).fill(message({ news: new Array(60).fill(1) })));
  const MOST_READS = 80; // fewer messages than may be for no call
  let reads = 0;
  let position = 0;
  const endless = {
    read(into: Uint8Array) {
      if (++reads > MOST_READS) return Promise.resolve(null);
      const part = notices.subarray(position, position + into.length);
      into.set(part);
      position = (position + part.length) % notices.length;
      return Promise.resolve(part.length);
    },
    write: ({ length }: Uint8Array) => Promise.resolve(length),
    closeWrite: () => Promise.resolve(),
    close() {},
  };
  await using client: Client = await connect({ dial: () => Promise.resolve(endless) });
  await using server = await serve({ port: 0 });
  await using other = await connect({ port: server.port });
  assertEquals(await other.call.PING(), "PONG");
  for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => setTimeout(resolve, 0));
  assert(reads < MOST_READS, "a call and five timers waited for all the input");
  assertEquals(client.state, "open");
});
