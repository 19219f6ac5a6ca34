/**
 * WebSockets as a user meets them: on packline's own port and beside other routes of an HTTP server; who may open one; what a
 * browser, curl and Node make of it. What holds of every transport is tested where that is, over WebSockets as well.
 */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { type Client, command, connect, createServer, RpcError, serve, type Server, unchecked } from "../../mod.ts";
import { demoCommands } from "../../cli/demo_commands.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { makeTestTls } from "../support/transports.ts";
import { closeFrame, OPCODES, webSocketFrame, webSocketFrames } from "../support/web_socket.ts";
import {
  Held,
  message,
  openWebSocket,
  settle,
  stderrLines,
  takeFrames,
  webSocketPeer,
  withServer,
} from "../support/wire.ts";
import { writeAll } from "../../transport/transport.ts";
import {
  childrenOf,
  Folder,
  onFreePort,
  Program,
  root,
  run,
  startHaproxy,
  startNginx,
  startServer,
  testWith,
} from "./programs.ts";

const PAGE = "https://app.example";
const MASK = Uint8Array.of(1, 2, 3, 4);
const MIB = 1024 * 1024;

/** The request of a browser. */
function upgradeOf(headers: Partial<Record<string, string>> = {}): string {
  const all = {
    Host: "127.0.0.1",
    Upgrade: "websocket",
    Connection: "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    ...headers,
  };
  return `GET /rpc HTTP/1.1\r\n${Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
}

/** A socket in the hand of a test. */
class Raw implements Disposable {
  #received = new Uint8Array(0);

  private constructor(readonly conn: Deno.TcpConn) {}

  static async connect(port: number): Promise<Raw> {
    return new Raw(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  async send(what: string | Uint8Array): Promise<void> {
    const bytes = typeof what === "string" ? new TextEncoder().encode(what) : what;
    for (let at = 0; at < bytes.length;) at += await this.conn.write(bytes.subarray(at));
  }

  /** What comes up to the end. */
  async readToEnd(): Promise<Uint8Array> {
    while (await this.#readMore().catch(() => false));
    return this.#received.slice();
  }

  /** The next bytes, as text. */
  async readText(bytes: number): Promise<string> {
    while (this.#received.length < bytes && await this.#readMore());
    return new TextDecoder().decode(this.#received.subarray(0, bytes));
  }

  /** The head of an answer of HTTP; what comes behind it is kept. */
  async readHead(): Promise<string> {
    while (true) {
      const text = new TextDecoder("latin1").decode(this.#received);
      const end = text.indexOf("\r\n\r\n");
      if (end >= 0) {
        this.#received = this.#received.slice(end + 4);
        return text.slice(0, end);
      }
      if (!await this.#readMore()) return `ended after: ${text}`;
    }
  }

  async #readMore(): Promise<boolean> {
    const buffer = new Uint8Array(4096);
    const bytes = await this.conn.read(buffer);
    this.#received = new Uint8Array([...this.#received, ...buffer.subarray(0, bytes ?? 0)]);
    return bytes !== null;
  }

  [Symbol.dispose](): void {
    this.conn.close();
  }
}

/** The status of the answer to a request, and the whole answer. */
async function answerTo(port: number, request: string): Promise<{ status: number; text: string }> {
  using raw = await Raw.connect(port);
  await raw.send(request);
  const head = await raw.readHead();
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]);
  const bodyBytes = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0);
  return { status, text: `${head}\n${await raw.readText(bodyBytes)}` };
}

// What works --------------------------------------------------------------------------------------------------------

let waiting = 0;
const finished: string[] = [];

const commands = {
  ...demoCommands,
  WHO: command((_params: object, { peer, connection: { headers } }) => ({
    peer,
    cookie: headers?.get("cookie") ?? null,
    origin: headers?.get("origin") ?? null,
  })),
  COUNT: command(async function* ({ to }: { to: number }) {
    try {
      for (let number = 1; number <= to; number++) yield number;
    } finally {
      finished.push("COUNT");
    }
  }),
  WAIT: command(async (_params: object, { signal }) => {
    waiting++;
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    finished.push("WAIT");
  }),
  SUM: command({
    items: unchecked<Uint8Array>(),
    async handler(_params: object, { items }) {
      let bytes = 0;
      for await (const item of items) bytes += item.length;
      return bytes;
    },
  }),
};

/** Everything that a client does. */
async function useAll(client: Client<typeof commands>): Promise<void> {
  waiting = finished.length = 0;
  assertEquals(await client.call.PING(), "PONG");
  const large = Uint8Array.from({ length: 900_000 }, (_, at) => at * 7 + (at >> 9));
  assertEquals(await client.call.ECHO({ data: large }), large);
  let last = 0;
  for await (const number of client.stream.COUNT({ to: 1_000_000 })) if ((last = number) === 2_000) break;
  assertEquals(last, 2_000);
  const cancel = new AbortController();
  const cancelled = assertRejects(() => client.call.WAIT({}, { signal: cancel.signal }));
  while (waiting === 0) await settle(1);
  cancel.abort();
  await cancelled;
  const late = await assertRejects(() => client.call.WAIT({}, { timeoutMs: 200 }), RpcError);
  assertMatch((late as RpcError).code, /^(TIMEOUT|DEADLINE_EXCEEDED)$/);
  const items = Array.from({ length: 64 }, () => new Uint8Array(64 * 1024));
  assertEquals(await client.call.SUM({}, { items }), 4 * MIB);
  const pongs = await Promise.all(Array.from({ length: 500 }, () => client.call.PING()));
  assertEquals(pongs.length, 500);
  while (finished.length < 3) await settle(1);
  assertEquals(finished.toSorted(), ["COUNT", "WAIT", "WAIT"]);
}

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

// Beside other routes -----------------------------------------------------------------------------------------------

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
  await using server = await serve({ port: 0, commands: { HOLD: held.command }, webOrigins: [], maxInFlight: 4 });
  const transport = await openWebSocket(`ws://127.0.0.1:${server.port}/`);
  const callBytes = 50_000;
  const calls = 1_000;
  let sent = 0;
  const sending = (async () => {
    for (let seq = 0; seq < calls; seq++) {
      await writeAll(transport, message({ cmd: "HOLD", seq, data: new Uint8Array(callBytes) }));
      sent++;
    }
  })();
  // It has stopped when nothing moves for a while.
  for (let before = -1; before !== sent || held.running < 4; await settle(2_000)) before = sent;
  console.log(`${sent} of ${calls} calls of ${callBytes} bytes were taken by the system and the server`);
  assert(sent < calls / 2);
  assert(server.statistics().bytes.received < MIB);
  const peer = webSocketPeer(transport);
  const answers = peer.readReplies(calls);
  let done = false;
  const answered = answers.finally(() => done = true);
  while (!done) await settle(1).then(() => held.finishAll());
  await sending;
  assertEquals((await answered).map(({ seq }) => seq), Array.from({ length: calls }, (_, seq) => seq));
  await peer[Symbol.asyncDispose]();
});

// The program, and clients of others -------------------------------------------------------------------------------

Deno.test("--web-origin opens the port of the program and of its workers; it may be given twice, or as a list", async () => {
  await using server = await startServer(
    "--web-origin",
    `${PAGE},http://a.example`,
    "--web-origin",
    "http://b.example",
  );
  for (
    const [Origin, status] of [[PAGE, 101], ["http://a.example", 101], ["http://b.example", 101], ["http://c", 403]]
  ) {
    assertEquals((await answerTo(server.port, upgradeOf({ Origin: `${Origin}` }))).status, status);
  }
  const args = [
    "run",
    "--quiet",
    "--no-prompt",
    "--unstable-net",
    "--allow-net=127.0.0.1",
    "--allow-run",
    `${root}server.ts`,
  ];
  const flags = ["--port", "0", "--workers", "2", "--web-origin", PAGE];
  await using workers = await Program.start(Deno.execPath(), [...args, ...flags], /listening on .*:\d+\n/);
  const port = Number((await workers.hear(/:(\d+)\n/))[1]);
  assertEquals((await childrenOf(workers.pid)).length, 2);
  for (let count = 0; count < 10; count++) {
    await using client = await connect({ url: `ws://127.0.0.1:${port}/` });
    assertEquals(await client.call.PING(), "PONG");
    assertEquals((await answerTo(port, upgradeOf({ Origin: "https://evil.example" }))).status, 403);
  }
});

Deno.test("--web-origin that is no origin is one line and exit code 2", async () => {
  for (const origin of ["app.example", "https://app.example/", "https://app.example/path", "HTTPS://app.example"]) {
    const { code, text } = await run(Deno.execPath(), [
      "run",
      "--quiet",
      "--allow-net",
      `${root}server.ts`,
      "--web-origin",
      origin,
    ]);
    const form = "name origins as a browser does: https://app.example, http://localhost:8000";
    assertEquals([code, text], [2, `packline: --web-origin ${origin}: ${form}; see --help\n`]);
  }
});

Deno.test("webOrigins that is no list of origins is a mistake that says so", () => {
  for (const webOrigins of [["app.example"], ["https://app.example/"], "https://app.example", [1]]) {
    const make = () => createServer({ webOrigins } as { webOrigins: string[] });
    const { message } = assertThrows(make, TypeError) as TypeError;
    assertMatch(message, /^Cannot use .* as webOrigins: it must be an array of origins as a browser sends them/);
  }
});

testWith(["curl"], "curl gets a readable answer of HTTP, and frames behind its request run nowhere", async () => {
  await using server = await serve({ port: 0, webOrigins: [PAGE], logLevel: "error" });
  const url = `http://127.0.0.1:${server.port}/`;
  const get = await run("curl", ["--silent", "--include", "--max-time", "20", url]);
  assertEquals(get.code, 0);
  assertMatch(get.text, /^HTTP\/1\.1 426 Upgrade Required\r\n[^]*\r\n\r\npackline: this is a packline server/);
  const headers = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  ];
  const foreign = [...headers, "Origin: https://evil.example"].flatMap((header) => ["--header", header]);
  const upgrade = await run("curl", ["--silent", "--include", "--max-time", "20", ...foreign, url]);
  assertEquals(upgrade.code, 0);
  assertMatch(upgrade.text, /^HTTP\/1\.1 403 Forbidden\r\n[^]*this server refuses the origin of this page; webOrigins/);
});

/** What a client of another runtime does with the platform's own WebSocket: PING as bytes, and the reply as hex. */
const CLIENT = `
  const socket = new WebSocket(URL_OF_SERVER);
  socket.binaryType = "arraybuffer";
  let got = "";
  socket.onopen = () => socket.send(Uint8Array.of(0x20, 0x26, 0x81, 0xa3, 0x63, 0x6d, 0x64, 0x01, 0x0a));
  socket.onmessage = ({ data }) => {
    for (const byte of new Uint8Array(data)) got += byte.toString(16).padStart(2, "0");
    if (got.endsWith("0a")) socket.close(1000);
  };
  socket.onclose = ({ code, wasClean }) => DONE(got + " " + code + " " + wasClean);
`;
const PONG = "202a81a3726573a4504f4e470a 1000 true";

/** A Node that has a WebSocket of its own, from version 22 on. */
const node = ["node", "node22"].find((name) => {
  try {
    const { stdout } = new Deno.Command(name, { args: ["-p", "typeof WebSocket"], stdin: "null", stderr: "null" })
      .outputSync();
    return new TextDecoder().decode(stdout).trim() === "function";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
});
if (node === undefined) console.log("skipped: Node's own WebSocket: to run it, install Node 22 or later");

Deno.test({
  name: "Node's own WebSocket is served, and closes in order",
  ignore: node === undefined,
  async fn() {
    await using server = await serve({ port: 0, webOrigins: [] });
    const script = CLIENT.replace("URL_OF_SERVER", `"ws://127.0.0.1:${server.port}/"`).replace("DONE", "console.log");
    const { text } = await run(node as string, ["--eval", script]);
    assertEquals(text, `${PONG}\n`);
  },
});

/** A configuration of `docs/web.md`, with its port and that of the server. */
async function configurationOf(kind: string, port: number, serverPort: number): Promise<string> {
  const [, text] =
    (await Deno.readTextFile(`${root}docs/web.md`)).match(new RegExp(`^\`\`\`${kind}\\n([^]*?)^\`\`\``, "m")) ?? [];
  return text.replace("127.0.0.1:8080", `127.0.0.1:${port}`).replace("127.0.0.1:1235", `127.0.0.1:${serverPort}`);
}

testWith(["nginx"], "behind nginx, as docs/web.md has it, everything works and origins count", async () => {
  await using server = await serve({ port: 0, commands, webOrigins: [PAGE], logLevel: "error" });
  await using folder = await Folder.make();
  const { nginx, port } = await onFreePort(async (port) => {
    return { port, nginx: await startNginx(folder, await configurationOf("nginx", port, server.port)) };
  });
  await using _nginx = nginx;
  await using client = await connect<typeof commands>({ url: `ws://127.0.0.1:${port}/rpc` });
  await useAll(client);
  for (const [Origin, status] of [[PAGE, 101], ["https://evil.example", 403]] as const) {
    assertEquals((await answerTo(port, upgradeOf({ Origin }))).status, status);
  }
});

testWith(
  ["haproxy"],
  "behind HAProxy, as docs/web.md has it, everything works and the peer is the client",
  async () => {
    const peers: string[] = [];
    const onConnect = ({ peer }: { peer: string }) => void peers.push(peer);
    await using server = await serve({
      ...{ port: 0, commands, onConnect },
      ...{ webOrigins: [], proxyProtocolFrom: ["127.0.0.1"] },
    });
    await using folder = await Folder.make();
    const { haproxy, port } = await onFreePort(async (port) => {
      return { port, haproxy: await startHaproxy(folder, await configurationOf("haproxy", port, server.port)) };
    });
    await using _haproxy = haproxy;
    await using client = await connect<typeof commands>({ url: `ws://127.0.0.1:${port}/rpc` });
    await useAll(client);
    using raw = await Raw.connect(port);
    await raw.send(upgradeOf());
    assertMatch(await raw.readHead(), /^HTTP\/1\.1 101 /);
    assertEquals(peers, [(await client.call.WHO()).peer, `127.0.0.1:${raw.conn.localAddr.port}`]);
  },
);

testWith(["chromium"], "a page in a browser is served if its origin is listed, and refused if not", async () => {
  await using folder = await Folder.make();
  const done = Promise.withResolvers<string>();
  const ports: number[] = [];
  await using site = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    if (request.method === "POST") done.resolve(await request.text());
    const ask = CLIENT.replace("URL_OF_SERVER", "url").replace("DONE", "resolve");
    const page = `<script type="module">
      const ask = (url) => new Promise((resolve) => { ${ask} });
      const outcomes = [];
      for (const port of ${JSON.stringify(ports)}) outcomes.push(await ask("ws://127.0.0.1:" + port + "/"));
      await fetch("/", { method: "POST", body: outcomes.join(", ") });
    </script>`;
    return new Response(page, { headers: { "content-type": "text/html" } });
  });
  const listed = await serve({ port: 0, webOrigins: [`http://127.0.0.1:${site.addr.port}`] });
  const other = await serve({ port: 0, webOrigins: [PAGE], logLevel: "error" });
  ports.push(listed.port, other.port);
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", `--user-data-dir=${folder.path}/profile`];
  const url = `http://127.0.0.1:${site.addr.port}/`;
  const browser = await Program.start("chromium", [...flags, "--remote-debugging-port=0", url], /DevTools listening/);
  try {
    assertEquals(await done.promise, `${PONG},  1006 false`);
  } finally {
    await browser[Symbol.asyncDispose]();
    await listed.shutdown();
    await other.shutdown();
  }
});
