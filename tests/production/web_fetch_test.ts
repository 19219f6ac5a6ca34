/** `server.fetch`: WebSockets beside other routes of an HTTP server; and what one who floods meets there, and on the own port. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect, createServer, serve, type Server } from "../../mod.ts";
import { openWebSocket, settle, webSocketPeer } from "../support/peers.ts";
import { Held, stderrLines } from "../support/test_server.ts";
import { message } from "../support/wire.ts";
import { writeAll } from "../../transport/transport.ts";
import { answerTo, commands, MIB, PAGE, upgradeOf, useAll } from "../support/web_socket_service.ts";

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
