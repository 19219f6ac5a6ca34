/**
 * WebSockets as a user meets them on packline's own port: what works, and who may open one. What holds of every transport is tested
 * where that is, over WebSockets as well.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type CallerConnection, command, connect, createServer, RpcError, serve } from "../../mod.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { makeTestTls } from "../support/transports.ts";
import { closeFrame, OPCODES, webSocketFrame, webSocketFrames } from "../support/web_socket.ts";
import { openWebSocket, settle, webSocketPeer } from "../support/peers.ts";
import { Held, stderrLines, withServer } from "../support/test_server.ts";
import { concat, message, takeFrames } from "../support/wire.ts";
import { Folder, testWith } from "./programs.ts";
import { answerTo, commands, MASK, PAGE, Raw, upgradeOf, useAll } from "../support/web_socket_service.ts";

Deno.test("everything works over ws:// on packline's own port, beside TCP on the same", async () => {
  await using server = await serve({ port: 0, commands, webOrigins: [PAGE] });
  for (const address of [{ url: `ws://127.0.0.1:${server.port}/rpc?x=1` }, { port: server.port }]) {
    await using client = await connect<typeof commands>(address);
    await useAll(client);
  }
  const { connections } = server.statistics();
  assertEquals([connections.accepted, connections.refused], [2, 0]);
});

testWith(["openssl"], "everything works over wss://, and a server without it is said to be so", async () => {
  const { cert, key, ca } = await makeTestTls();
  await using server = await serve({ port: 0, commands, webOrigins: [], tls: { cert, key } });
  await using client = await connect<typeof commands>({ url: `wss://127.0.0.1:${server.port}`, tls: { ca } });
  await useAll(client);
  const untrusted = await assertRejects(() => connect({ url: `wss://127.0.0.1:${server.port}` }), RpcError) as RpcError;
  assertMatch(
    untrusted.message,
    /^CONNECTION_LOST: cannot reach wss:\/\/127\.0\.0\.1:\d+\/: .* pass its authority as ca$/,
  );
});

Deno.test("a list of servers may have WebSockets in it, and tls is for wss:// alone", async () => {
  await using server = await serve({ port: 0, webOrigins: [] });
  await using client = await connect({ servers: ["127.0.0.1:9", `ws://127.0.0.1:${server.port}/`] });
  assertEquals(await client.call.PING(), "PONG");
  assertEquals(client.servers.map(({ address }) => address), ["127.0.0.1:9", `ws://127.0.0.1:${server.port}/`]);
  const wrong: [options: Parameters<typeof connect>[0], text: RegExp][] = [
    [{ url: "ws://a/", port: 1 }, /^Cannot use url together with hostname, port or path/],
    [{ url: "ws://a/", servers: ["a"] }, /^Cannot use servers together with hostname, port, path or url/],
    [{ url: "ws://a/", tls: {} }, /^Cannot use tls with ws:\/\/a\/: .* begins with wss:\/\/$/],
    [{ servers: ["ws://a/"], tls: {} }, /^Cannot use tls with ws:\/\/a\//],
    ...["http://a", "ws://user:secret@a", "ws://a/#b", "ws://", "a"].map((url): [{ url: string }, RegExp] => {
      return [{ url }, /^Cannot use ".*" as url: it must be the URL of a WebSocket/];
    }),
  ];
  for (const [options, text] of wrong) {
    assertMatch((await assertRejects(async () => await connect(options), TypeError) as Error).message, text);
  }
});

Deno.test("a client comes back over its WebSocket when the server was restarted", async () => {
  const first = await serve({ port: 0, webOrigins: [] });
  await using client = await connect({ url: `ws://127.0.0.1:${first.port}/`, random: () => 0 });
  assertEquals(await client.call.PING(), "PONG");
  await first.shutdown();
  await using _second = await serve({ port: first.port, webOrigins: [] });
  assertEquals(await client.call.PING(), "PONG");
});

Deno.test("a call behind one without an answer does not wait for an acknowledgement", async () => {
  const held = new Held();
  await using server = await serve({ port: 0, webOrigins: [], commands: { HOLD: held.command } });
  const http = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, server.fetch);
  for (const { port } of [server, http.addr]) {
    await using client = await connect({ url: `ws://127.0.0.1:${port}/` });
    const times: number[] = [];
    const holding = Array.from({ length: 20 }, async () => await client.reply("HOLD"));
    for (let round = 0; round < 20; round++) {
      const [begin] = [performance.now(), client.reply("PING")];
      await Promise.resolve().then(() => client.reply("PING"));
      times.push(performance.now() - begin);
    }
    held.finishAll();
    while (held.running > 0) await settle(1).then(() => held.finishAll());
    await Promise.all(holding);
    assert(times.toSorted((a, b) => a - b)[10] < 30, `a stall of 40 ms: ${times.map(Math.round)}`);
  }
  await http.shutdown();
});

Deno.test("over a WebSocket, middleware and onConnect see headers and cookies; over TCP there are none", async () => {
  const seen: (string | null)[] = [];
  await using server = await serve({
    port: 0,
    commands,
    webOrigins: [PAGE],
    onConnect: ({ headers }) => void seen.push(headers?.get("cookie") ?? null),
    middleware: [(call, next) => (seen.push(call.connection.headers?.get("user-agent") ?? null), next())],
  });
  using raw = await Raw.connect(server.port);
  await raw.send(upgradeOf({ Origin: PAGE, Cookie: "session=abc; theme=dark", "User-Agent": "a browser" }));
  assertMatch(await raw.readHead(), /^HTTP\/1\.1 101 /);
  const end = closeFrame(1000, { mask: MASK });
  await raw.send(new Uint8Array([...webSocketFrame(OPCODES.binary, message({ cmd: "WHO" }), { mask: MASK }), ...end]));
  const frames = webSocketFrames(await raw.readToEnd());
  const [payload] = takeFrames(frames[0].payload).payloads;
  const text = new TextDecoder("latin1").decode(payload);
  assert(text.includes("session=abc; theme=dark") && text.includes(PAGE), text);
  assertEquals(seen, ["session=abc; theme=dark", "a browser"]);
  await using client = await connect<typeof commands>({ port: server.port });
  assertEquals((await client.call.WHO()).cookie, null);
});

Deno.test("a cookie of any text, as a page may set it, opens a WebSocket, and is the same at both doors", async () => {
  const seen: (string | null | undefined)[] = [];
  const options = {
    webOrigins: [PAGE],
    onConnect: ({ headers }: CallerConnection) => void seen.push(headers?.get("cookie")),
  };
  await using server = await serve({ port: 0, ...options });
  await using beside = createServer(options);
  await using http = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, beside.fetch);
  for (const cookie of ["name=J\u00fcrgen", "name=\u00dcbler", "price=5 \u20ac", "\u540d=\u5c71\u7530"]) {
    for (const port of [server.port, http.addr.port]) {
      using raw = await Raw.connect(port);
      await raw.send(upgradeOf({ Origin: PAGE, Cookie: cookie })); // in UTF-8, as a browser sends it
      assertMatch(await raw.readHead(), /^HTTP\/1\.1 101 /, cookie);
    }
    while (seen.length < 2) await settle(1);
    const characters = Array.from(new TextEncoder().encode(cookie), (byte) => String.fromCharCode(byte)).join("");
    assertEquals(seen.splice(0), [characters, characters]);
  }
});

Deno.test("calls before a close frame are answered, then comes the server's own", async () => {
  const held = new Held();
  await using server = await serve({ port: 0, webOrigins: [], commands: { HOLD: held.command } });
  await using peer = webSocketPeer(await openWebSocket(`ws://127.0.0.1:${server.port}/`));
  await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: 1, seq: 2 });
  await peer.halfClose();
  assertEquals(await peer.readReply(), { seq: 2, res: "PONG" });
  held.finishAll();
  assertEquals(await peer.readToEnd(), [{ seq: 1, res: null }]);
});

Deno.test("a peer that breaks the protocol directly behind a request gets the code for that", async () => {
  await using server = await serve({ port: 0, webOrigins: [] });
  const ping = webSocketFrame(OPCODES.binary, message({ cmd: 1, seq: 1 }), { mask: MASK });
  const text = webSocketFrame(OPCODES.text, Uint8Array.of(65), { mask: MASK });
  for (const parts of [[[...ping, ...text]], [ping, text]]) {
    using raw = await Raw.connect(server.port);
    await raw.send(upgradeOf());
    await raw.readHead();
    for (const part of parts) await raw.send(Uint8Array.from(part));
    const last = webSocketFrames(await raw.readToEnd()).at(-1);
    assertEquals([last?.opcode, last?.payload], [OPCODES.close, Uint8Array.of(1003 >> 8, 1003 & 255)]);
  }
});

Deno.test("a peer that closes with a code of its own directly behind a request gets it back", async () => {
  await using server = await serve({ port: 0, webOrigins: [] });
  const ping = webSocketFrame(OPCODES.binary, message({ cmd: 1, seq: 1 }), { mask: MASK });
  for (const code of [1001, 1012, 3000, 4999]) {
    using raw = await Raw.connect(server.port);
    await raw.send(upgradeOf());
    await raw.readHead();
    await raw.send(concat(ping, closeFrame(code, { mask: MASK })));
    const last = webSocketFrames(await raw.readToEnd()).at(-1);
    assertEquals([last?.opcode, last?.payload], [OPCODES.close, Uint8Array.of(code >> 8, code & 255)]);
  }
});

Deno.test("a unix socket takes WebSockets too, for a proxy in front of it", async () => {
  await using folder = await Folder.make();
  await using server = await serve({ path: `${folder.path}/socket`, webOrigins: [PAGE] });
  using conn = await Deno.connect({ transport: "unix", path: server.address.replace("unix:", "") });
  await conn.write(new TextEncoder().encode(upgradeOf({ Origin: PAGE })));
  const buffer = new Uint8Array(512);
  const bytes = await conn.read(buffer) ?? 0;
  assertMatch(new TextDecoder().decode(buffer.subarray(0, bytes)), /^HTTP\/1\.1 101 /);
});

// Who may -----------------------------------------------------------------------------------------------------------

Deno.test("without webOrigins a request for a WebSocket is BAD_FRAME, as ever, and a client says what to do", async () => {
  const lines = await stderrLines(async () => {
    await using server = await serve({ port: 0 });
    using raw = await Raw.connect(server.port);
    await raw.send(upgradeOf({ Origin: PAGE }));
    assert(new TextDecoder("latin1").decode(await raw.readToEnd()).includes("BAD_FRAME"));
    const error = await assertRejects(() => connect({ url: `ws://127.0.0.1:${server.port}/` }), RpcError);
    assertMatch((error as Error).message, /a server of packline takes WebSockets if it has webOrigins$/);
  });
  assertMatch(lines[0], /speaks HTTP: this port takes packline, and WebSockets if --web-origin is given$/);
});

Deno.test("a listed page and a program may; any other page, and any other request, has an answer of HTTP", async () => {
  const marks: string[] = [];
  const MARK = command({ number: 16, handler: (_params: object, { peer }) => void marks.push(peer) });
  const lines = await stderrLines(async () => {
    await using server = await serve({ port: 0, webOrigins: [PAGE, "http://localhost:8000"], commands: { MARK } });
    const { port } = server;
    const asked: [headers: Record<string, string>, status: number][] = [
      [{ Origin: PAGE }, 101],
      [{ Origin: "http://localhost:8000" }, 101],
      [{}, 101],
      [{ Origin: "https://evil.example" }, 403],
      [{ Origin: `http://127.0.0.1:${port}`, Host: `127.0.0.1:${port}` }, 403], // a name that was made to lead here
      [{ Origin: "null" }, 403],
      [{ Upgrade: "h2c" }, 426],
      [{ "Content-Length": "9" }, 400],
    ];
    for (const [headers, status] of asked) {
      assertEquals((await answerTo(port, upgradeOf(headers))).status, status, JSON.stringify(headers));
    }
    const plain = await answerTo(port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assertMatch(plain.text, /^HTTP\/1\.1 426 Upgrade Required\r\n[^]*packline: this is a packline server, which takes/);
    // What comes behind a request is never run, whatever the answer.
    const frames = new TextDecoder("latin1").decode(message({ cmd: 16 })).repeat(3_000);
    for (const headers of [undefined, { Origin: PAGE }, { Origin: "https://evil.example" }]) {
      using raw = await Raw.connect(port);
      await raw.send(Uint8Array.from(upgradeOf(headers) + frames, (char) => char.charCodeAt(0))).catch(() => {});
      assertMatch(await raw.readHead().catch(() => "HTTP/1.1 400 cut"), /^HTTP\/1\.1 40[03] /);
    }
    for (const method of ["POST", "PUT", "HEAD", "OPTIONS"]) {
      using raw = await Raw.connect(port);
      await raw.send(upgradeOf().replace("GET", method));
      assert(new TextDecoder("latin1").decode(await raw.readToEnd()).includes("BAD_FRAME"), method);
    }
    await using client = await connect({ port });
    await client.reply("MARK");
    assertEquals(marks.length, 1);
    assertEquals(server.statistics().connections.accepted, 3 + 4 + 1);
  });
  assertMatch(
    lines[0],
    /^packline: 127\.0\.0\.1:\d+ is refused: the origin of its page is not among those of webOrigins/,
  );
});

Deno.test("a head that does not come, or is too long, is refused; a silent connection waits, and is served", async () => {
  const clock = new FakeClock();
  const lines = await stderrLines(async () => {
    await using server = await withServer({ clock, webOrigins: [], idleTimeoutMs: 600_000 });
    using slow = await Raw.connect(server.port);
    await slow.send(upgradeOf().slice(0, 30));
    using begun = await Raw.connect(server.port);
    await begun.send("GE");
    const silent = await server.connect();
    await settle();
    assertEquals(server.server.statistics().connections.open, 0);
    await clock.advance(10_001);
    await settle();
    assertEquals(new TextDecoder().decode(await slow.readToEnd()), "");
    assertEquals(server.server.statistics().connections.open, 2);
    assertEquals(await silent.ask({ cmd: 1 }), { res: "PONG" });
    await begun.send("T / HTTP/1.1\r\n");
    assert(new TextDecoder("latin1").decode(await begun.readToEnd()).includes("BAD_FRAME"));
    const { status } = await answerTo(server.port, upgradeOf({ Cookie: "x".repeat(20_000) }));
    assertEquals(status, 431);
  });
  assertMatch(lines.join("\n"), /is refused: it has not opened its WebSocket within 10000 ms$/m);
  assertMatch(lines.join("\n"), /is refused: its head of HTTP is longer than 16384 bytes$/m);
});

Deno.test("of more than maxConnections that say nothing yet, the oldest is given on at once", async () => {
  await using server = await withServer({ webOrigins: [], maxConnections: 3 });
  const peers = [];
  for (let count = 0; count < 5; count++) peers.push(await server.connect());
  while (server.server.statistics().connections.open < 2) await settle(1);
  assertEquals(server.server.statistics().connections.open, 2);
  assertEquals(await peers[0].ask({ cmd: 1 }), { res: "PONG" });
});
