/** `server.fetch`: WebSockets beside other routes of an HTTP server; and what one who floods meets there, and on the own port. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect, createServer, serve, type Server } from "../../mod.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { connectResettable, openWebSocket, settle, webSocketPeer } from "../support/peers.ts";
import { Held, stderrLines } from "../support/test_server.ts";
import { message } from "../support/wire.ts";
import { writeAll } from "../../transport/transport.ts";
import { OPCODES, webSocketFrame } from "../support/web_socket.ts";
import { answerTo, commands, MASK, MIB, PAGE, Raw, upgradeOf, useAll } from "../support/web_socket_service.ts";

/** A server of HTTP with a page, and packline at a path. */
function beside(server: Server) {
  return Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request, info) => {
    return new URL(request.url).pathname === "/rpc" ? server.fetch(request, info) : new Response("a page");
  });
}

Deno.test("server.fetch serves everything beside other routes, and is told of the peer", async () => {
  await using server = createServer({ commands, webOrigins: [] });
  await using http = beside(server);
  const origin = `http://127.0.0.1:${http.addr.port}`;
  assertEquals(await (await fetch(origin)).text(), "a page");
  await using client = await connect<typeof commands>({ url: `${origin.replace("http", "ws")}/rpc` });
  await useAll(client);
  assertMatch((await client.call.WHO()).peer, /^127\.0\.0\.1:\d+$/);
  assertEquals(server.statistics().connections.open, 1);
});

Deno.test("server.fetch refuses what the port refuses, and everybody if there are no webOrigins", async () => {
  const lines = await stderrLines(async () => {
    for (
      const [webOrigins, statuses] of [[[PAGE], [101, 101, 403, 426, 426]], [undefined, [
        403,
        403,
        403,
        403,
        403,
      ]]] as const
    ) {
      await using server = createServer({ webOrigins });
      await using http = beside(server);
      const asked = [{}, { Origin: PAGE }, { Origin: "https://evil.example" }, { Upgrade: "h2c" }, {
        "Sec-WebSocket-Version": "8",
      }];
      const answers: number[] = [];
      for (const headers of asked) answers.push((await answerTo(http.addr.port, upgradeOf(headers))).status);
      assertEquals(answers, statuses as unknown as number[]);
      const plain = await fetch(`http://127.0.0.1:${http.addr.port}/rpc`);
      assertEquals([plain.status, (await plain.text()).slice(0, 15)], [webOrigins ? 426 : 403, "packline: this "]);
    }
  });
  assertMatch(lines.join("\n"), /is refused: this server takes no WebSockets: it has no webOrigins$/m);
});

Deno.test("the drain of server.fetch answers what is in flight, and refuses what comes", async () => {
  const held = new Held();
  const server = createServer({ commands: { HOLD: held.command }, webOrigins: [] });
  await using http = beside(server);
  await using client = await connect({ url: `ws://127.0.0.1:${http.addr.port}/rpc`, waitForReady: false });
  const call = client.reply("HOLD");
  while (held.running < 1) await settle(1);
  const shutdown = server.shutdown();
  await settle();
  held.finishAll();
  assertEquals(await call, { res: null });
  assertEquals(await shutdown, { finished: 1, cut: 0 });
});

Deno.test("through server.fetch, text is refused with 1003, and one who floods a server that waits is cut off", async () => {
  const held = new Held();
  const maxHeldBytes = 4 * MIB;
  await using server = createServer({
    commands: { HOLD: held.command },
    webOrigins: [],
    ...{ maxHeldBytes, maxInFlight: 4 },
    logLevel: "error",
  });
  await using http = beside(server);
  const text = new WebSocket(`ws://127.0.0.1:${http.addr.port}/rpc`);
  text.onopen = () => text.send("hello");
  assertEquals(await new Promise<number>((resolve) => text.onclose = ({ code }) => resolve(code)), 1003);

  const flood = new WebSocket(`ws://127.0.0.1:${http.addr.port}/rpc`);
  const closed = new Promise<number>((resolve) => flood.onclose = ({ code }) => resolve(code));
  await new Promise((resolve) => flood.onopen = resolve);
  for (let seq = 0; seq < 400; seq++) flood.send(message({ cmd: "HOLD", seq, data: new Uint8Array(50_000) }));
  const code = await closed;
  assert([1008, 1006, 0].includes(code), `${code}`); // what it still sends may reset the connection before it reads the code
  while (server.statistics().connections.open > 0) await settle(1);
  assert(held.calls.every(({ context }) => context.signal.aborted));
  held.finishAll();
  await settle();
  assert(server.statistics().bytes.received < 2 * maxHeldBytes);
});

Deno.test("through server.fetch, a peer that does not answer a close frame is open until it has gone, and a shutdown does not wait", async () => {
  const closed: string[] = [];
  const lines = await stderrLines(async () => {
    const server = createServer({ webOrigins: [], maxConnections: 1, onClose: ({ peer }) => void closed.push(peer) });
    await using http = beside(server);
    const { port } = http.addr;
    /** Opens a WebSocket, is refused for a text, and says no more. */
    const silentPeer = async () => {
      const raw = await Raw.connect(port);
      await raw.send(upgradeOf());
      assertMatch(await raw.readHead(), /^HTTP\/1\.1 101 /);
      await raw.send(webSocketFrame(OPCODES.text, new Uint8Array(1), { mask: MASK }));
      assertEquals(await raw.readText(4), "\ufffd\x02\x03\ufffd"); // its close frame, with 1003
      return raw;
    };
    using first = await silentPeer();
    while (closed.length < 1) await settle(1);
    assertEquals(server.statistics().connections.open, 1);
    const refused = await answerTo(port, upgradeOf());
    assertEquals(refused.status, 503);
    assertMatch(refused.text, /packline: this server has no room for another connection, or shuts down/);
    assertEquals(server.statistics().connections.refused, 1);
    await first.send(webSocketFrame(OPCODES.pong, new Uint8Array(0), { mask: MASK }));
    await first.readToEnd();
    while (server.statistics().connections.open > 0) await settle(1);
    using _second = await silentPeer();
    while (closed.length < 2) await settle(1);
    assertEquals(await server.shutdown(), { finished: 0, cut: 0 });
    assertEquals(server.statistics().connections.open, 1);
    assertEquals((await answerTo(port, upgradeOf())).status, 503);
  });
  assertMatch(lines.join("\n"), /is refused: 1 connections are open/);
});

// The runtime itself never lets go of such a peer.
const LEAKING = { sanitizeOps: false, sanitizeResources: false };

Deno.test("through server.fetch, a peer that has left before the answer does not keep its place", LEAKING, async () => {
  const clock = new FakeClock();
  await using server = createServer({ webOrigins: [], clock, frameTimeoutMs: 3_000 });
  const left = Promise.withResolvers<void>();
  const http = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request, info) => {
    const response = server.fetch(request, info);
    await left.promise;
    return response;
  });
  const { port } = http.addr;
  await using peer = await connectResettable({ port });
  await peer.sendBytes(new TextEncoder().encode(upgradeOf()));
  while (server.statistics().connections.accepted === 0) await settle(1);
  peer.reset();
  await settle();
  left.resolve();
  await clock.advance(2_900);
  assertEquals(server.statistics().connections.open, 1);
  await clock.advance(200);
  assertEquals(server.statistics().connections.open, 0);
  using raw = await Raw.connect(port);
  await raw.send(upgradeOf());
  assertMatch(await raw.readHead(), /^HTTP\/1\.1 101 /);
  await clock.advance(3_000);
  assertEquals(server.statistics().connections.open, 1);
  void http.shutdown();
});

Deno.test("through server.fetch, a connection that is cut gets 1001", async () => {
  const clock = new FakeClock();
  const server = createServer({ webOrigins: [], idleTimeoutMs: 1_000, clock });
  await using http = beside(server);
  const page = new WebSocket(`ws://127.0.0.1:${http.addr.port}/rpc`);
  const closed = new Promise<number>((resolve) => page.onclose = ({ code }) => resolve(code));
  await new Promise((resolve) => page.onopen = resolve);
  await clock.advance(2_000);
  assertEquals(await closed, 1001);
  while (server.statistics().connections.open > 0) await settle(1);
});

Deno.test("on the own port, one who floods a server that waits is held back, and loses nothing", async () => {
  const held = new Held();
  const limits = { maxInFlight: 4, maxHeldBytes: MIB / 2 };
  await using server = await serve({ port: 0, commands: { HOLD: held.command }, webOrigins: [], ...limits });
  const transport = await openWebSocket(`ws://127.0.0.1:${server.port}/`);
  const callBytes = 50_000;
  const calls = 1_000;
  let sent = 0;
  const sending = (async () => {
    for (let id = 0; id < calls; id++) {
      await writeAll(transport, message({ cmd: "HOLD", id, data: new Uint8Array(callBytes) }));
      sent++;
    }
  })();
  // It has stopped when nothing moves for a while.
  for (let before = -1; before !== sent || held.running < 1; await settle(2_000)) before = sent;
  console.log(`${sent} of ${calls} calls of ${callBytes} bytes were taken by the system and the server`);
  assert(sent < calls / 2);
  assert(server.statistics().bytes.received < MIB);
  const peer = webSocketPeer(transport);
  const answers = peer.readReplies(calls);
  let done = false;
  const answered = answers.finally(() => done = true);
  while (!done) await settle(1).then(() => held.finishAll());
  await sending;
  assertEquals((await answered).map(({ res }) => res), Array.from({ length: calls }, (_, seq) => seq));
  await peer[Symbol.asyncDispose]();
});
