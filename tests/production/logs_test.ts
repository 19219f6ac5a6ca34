/**
 * The log: every event of the table in docs/production.md is provoked, with its level and its fields; what a peer sends
 * forges no line; and a level leaves out what it says.
 */

import { once } from "node:events";
import { connect as connectSocket } from "node:net";
import { connect as connectTls } from "node:tls";
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { EVENTS, LOG_LEVELS, type LogLevel } from "../../handlers/log_line.ts";
import {
  accessLog,
  command,
  connect,
  createServer,
  memoryPair,
  RpcError,
  serve,
  type ServeOptions,
} from "../../mod.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { replaced } from "../support/replaced.ts";
import { makeTestTls } from "../support/transports.ts";
import { connectTcp, settle } from "../support/peers.ts";
import { stderrLines } from "../support/test_server.ts";
import { Certificates } from "./certificates.ts";
import { childrenOf, Program, root, run, testWith } from "./programs.ts";

/** A line of JSON. */
type Line = Record<string, unknown> & { event: string; message: string; durationMs?: number };

const FIELDS = [
  "time",
  "level",
  "event",
  "worker",
  "peer",
  "command",
  "code",
  "durationMs",
  "message",
  "stack",
  "more",
];
const PEER = /^127\.0\.0\.1:\d+$/;
const text = (words: string) => new TextEncoder().encode(words);

/** What has been provoked so far: the last test compares it with the table. */
const provoked = new Set<string>();

/** A line as JSON, checked: its fields in their order, no others, and the level of its event. */
function read(line: string): Line {
  const parsed: Line = JSON.parse(line);
  assertEquals(Object.keys(parsed), FIELDS.filter((name) => name in parsed), line);
  assertMatch(parsed.time as string, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assertEquals(parsed.level, EVENTS[parsed.event as keyof typeof EVENTS], line);
  assert(!/[\p{C}\p{Zl}\p{Zp}]/u.test(line), line);
  provoked.add(parsed.event);
  return parsed;
}

/** The lines of JSON in what a program has said. */
function readAll(said: string): Line[] {
  return said.split("\n").filter((line) => line.startsWith("{")).map(read);
}

/** What a server of this process logs while something happens to it. */
async function logOf(
  happen: (server: Awaited<ReturnType<typeof serve>>) => Promise<void>,
  options: ServeOptions = {},
): Promise<Line[]> {
  const lines = await stderrLines(async () => {
    const server = await serve({ port: 0, logFormat: "json", logLevel: "debug", ...options });
    await happen(server);
    const shutdown = server.shutdown({ graceMs: 0 });
    if (options.clock instanceof FakeClock) await options.clock.advance(5_000);
    await shutdown;
  });
  return lines.map(read);
}

/** The one line of an event. */
function only(lines: Line[], event: string): Line {
  const found = lines.filter((line) => line.event === event);
  assertEquals(found.length, 1, JSON.stringify(lines));
  return found[0];
}

/** Sends some bytes to a port, and waits until it has ended the connection. */
async function sendTo(port: number, bytes: Uint8Array): Promise<void> {
  await using peer = await connectTcp(port);
  await peer.sendBytes(bytes);
  await peer.readToBreak();
}

const FAIL = command((): string => {
  throw Object.assign(new Error("the disk is full"), { code: "ENOSPC" });
});

Deno.test("a handler's error has its command, its peer, its code and its stack", async () => {
  const line = only(
    await logOf(async ({ port }) => {
      await using client = await connect({ port });
      await client.reply("FAIL").catch(() => {});
    }, { commands: { FAIL } }),
    "handler_error",
  );
  assertEquals([line.command, line.code, line.message], ["FAIL", "ENOSPC", "Error: the disk is full"]);
  assertMatch(line.peer as string, PEER);
  assertMatch(line.stack as string, /^Error: the disk is full\n {4}at /);
});

Deno.test("accessLog() writes each call in the format of the server's log, whatever the level", async () => {
  const secret = "x\n{\u202e";
  const DENY = command(() => {
    throw new RpcError(secret);
  });
  const callsOf = async (options: ServeOptions): Promise<string[]> => {
    const lines: string[] = [];
    const middleware = [accessLog((line) => lines.push(line))];
    await using server = await serve({ port: 0, middleware, commands: { FAIL, DENY }, onError() {}, ...options });
    await using client = await connect({ port: server.port });
    await client.reply("PING");
    for (const name of ["FAIL", "DENY"]) await client.reply(name).catch(() => {});
    return lines;
  };
  const worker = { number: 3, askOthers: () => Promise.resolve({ statistics: [], silent: [] }) };
  const [ping, fail, deny] = (await callsOf({ logFormat: "json", logLevel: "error", worker })).map(read);
  for (const { peer, event, level, worker, durationMs } of [ping, fail, deny]) {
    assertEquals([event, level, worker, typeof durationMs], ["call", "info", 3, "number"]);
    assertMatch(peer as string, PEER);
  }
  assertEquals([ping.command, ping.code, ping.message], [
    "PING",
    undefined,
    `PING ok ${ping.durationMs?.toFixed(1)} ms`,
  ]);
  assertEquals([fail.code, deny.code], ["INTERNAL", secret]);
  for (const line of await callsOf({})) {
    assertMatch(line, /^\d{4}-\S+Z 127\.0\.0\.1:\d+ (PING ok|FAIL INTERNAL|DENY .*) \d+\.\d ms$/);
  }
});

Deno.test("a hook's error, and a connection from its begin to its end", async () => {
  const lines = await logOf(async ({ port }) => {
    await using client = await connect({ port });
    await client.call.PING();
  }, {
    onConnect() {
      throw new TypeError("no such table");
    },
  });
  assertEquals(only(lines, "server_error").message, "TypeError: no such table");
  assertEquals(only(lines, "connection_opened").message, "is connected");
  assertMatch(only(lines, "connection_closed").message, /^is gone: /);
});

Deno.test("a failed accept", async () => {
  const lines = await logOf(async () => {
    let fails = true;
    using _ = replaced(Deno, "listen", (listen) =>
      ((options: Deno.ListenOptions & { transport?: "tcp" }) => {
        const listener = listen(options);
        const accept = listener.accept.bind(listener);
        listener.accept = () => {
          if (!fails) return accept();
          fails = false;
          return Promise.reject(new Error("Too many open files (os error 24)"));
        };
        return listener;
      }) as typeof Deno.listen);
    const server = createServer({ logFormat: "json" });
    await server.listen({ port: 0 });
    await settle();
    await server.shutdown();
  });
  assertEquals(only(lines, "accept_failed").message, "Error: Too many open files (os error 24)");
});

/** What other protocols begin with. */
const OTHERS: [code: string, bytes: Uint8Array][] = [
  ["HTTP", text("GET / HTTP/1.1\r\nhost: x\r\n\r\n")],
  ["HTTP", text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
  ["HTTP", text("POST")],
  ["TLS", Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3)],
  ["SSH", text("SSH-2.0-OpenSSH_9.2\r\n")],
  ["PROXY", text("PROXY TCP4 203.0.113.5 10.0.0.1 4711 1235\r\n")],
  ["PROXY", text("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c")],
];

Deno.test("another protocol is named, whether its bytes come at once or one by one", async () => {
  for (const [code, bytes] of OTHERS) {
    for (const pieces of [[bytes], Array.from(bytes, (byte) => Uint8Array.of(byte))]) {
      const lines = await logOf(async ({ port }) => {
        await using peer = await connectTcp(port);
        await peer.sendBytes(...pieces).catch(() => {});
        await peer.readToBreak();
      });
      const line = only(lines, "wrong_protocol");
      assertEquals(line.code, code);
      assert(line.message.startsWith(`speaks ${code}: this port takes `), line.message);
      assertMatch(line.peer as string, PEER);
    }
  }
});

Deno.test("a thousand that speak another protocol are a few lines of text, with a count", async () => {
  const lines = await stderrLines(async () => {
    await using server = await serve({ port: 0 });
    for (let count = 0; count < 200; count++) await sendTo(server.port, OTHERS[0][1]);
  });
  assert(lines.length < 10, lines.join("\n"));
  assertMatch(
    lines[0],
    /^packline: 127\.0\.0\.1:\d+ speaks HTTP: this port takes packline, and WebSockets if --web-origin is given$/,
  );
  assertMatch(lines.at(-1) as string, /\(and \d+ more like this\)$/);
});

Deno.test("a broken frame of nobody's protocol, and a balancer without its header", async () => {
  const broken = only(await logOf(({ port }) => sendTo(port, Uint8Array.of(0x20, 0x21, 0x80, 0x00))), "bad_frame");
  assertEquals([broken.code, broken.message], [
    "BAD_FRAME",
    "has sent a broken frame: the byte after the payload of 1 bytes is not 0x0A",
  ]);
  const options = { proxyProtocolFrom: ["127.0.0.1"] };
  const headless = only(await logOf(({ port }) => sendTo(port, text("GET / HTTP/1.1")), options), "proxy_header");
  assertEquals(headless.message, "is refused: it does not begin with a header of the PROXY protocol");
});

Deno.test("a frame that comes too slowly, and a connection too many", async () => {
  const clock = new FakeClock();
  const slow = await logOf(async ({ port }) => {
    await using peer = await connectTcp(port);
    await peer.sendBytes(Uint8Array.of(0x20));
    await settle();
    for (let seconds = 0; seconds < 30; seconds++) await clock.advance(1_000);
    assertEquals((await peer.readReply()).err, "BAD_FRAME");
  }, { clock });
  assertEquals(only(slow, "slow_frame").code, "BAD_FRAME");
  const full = await logOf(async ({ port }) => {
    await using _first = await connectTcp(port);
    await using second = await connectTcp(port);
    assertEquals((await second.readReply()).err, "OVERLOADED");
  }, { maxConnections: 1 });
  assertEquals(
    only(full, "connection_refused").message,
    "is refused: 1 connections are open, and --max-connections allows no more",
  );
});

Deno.test("a request of HTTP that opens no WebSocket", async () => {
  const lines = await logOf(async ({ port }) => {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } });
    assertEquals([answer.status, (await answer.text()).slice(0, 9)], [426, "packline:"]);
  }, { webOrigins: [] });
  const { peer, message } = only(lines, "upgrade_refused");
  assertMatch(peer as string, PEER);
  assertEquals(message, "is refused: it sends an HTTP request, and here only a WebSocket can be opened");
});

testWith(["openssl"], "a handshake that fails, and what is no TLS", async () => {
  const { cert, key } = await makeTestTls();
  const lines = await logOf(async ({ port }) => {
    const stranger = await Deno.connectTls({ hostname: "127.0.0.1", port });
    await stranger.handshake().catch(() => {});
    stranger.close();
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    await conn.write(OTHERS[0][1]);
    await new Response(conn.readable).bytes().catch(() => {}); // an alert
  }, { tls: { cert, key } });
  assertMatch(only(lines, "tls_failed").peer as string, PEER);
  assertEquals(only(lines, "wrong_protocol").message, "is refused: it does not speak TLS, which this port takes");
});

testWith(["openssl"], "a client whose certificate is rejected, or that has none, where one is needed", async () => {
  await using certificates = await Certificates.begin();
  const [authority, other] = [await certificates.selfSigned(), await certificates.selfSigned()];
  const { cert, key } = await certificates.signedBy(authority);
  const wrong = "its certificate is damaged, not valid now, not for clients, or not signed by an authority in ca";
  const clients = [
    [{}, "the peer has sent no certificate, and this side requires one"],
    [await certificates.signedBy(authority, { days: -1 }), wrong],
    [await certificates.signedBy(other), wrong],
    [await certificates.selfSigned(), wrong],
  ] as const;
  for (const [own, reason] of clients) {
    for (const proxyProtocolFrom of [undefined, ["127.0.0.1"]]) {
      let peer = "";
      const lines = await logOf(async ({ port }) => {
        const socket = connectSocket(port, "127.0.0.1");
        await once(socket, "connect");
        peer = proxyProtocolFrom ? "203.0.113.5:4711" : `127.0.0.1:${socket.localPort}`;
        if (proxyProtocolFrom) socket.write("PROXY TCP4 203.0.113.5 10.0.0.1 4711 1235\r\n");
        const secured = connectTls({ socket, ca: authority.cert, ...own }).on("error", () => {}).resume();
        await new Promise((resolve) => secured.once("close", resolve));
      }, { tls: { cert, key, ca: authority.cert }, proxyProtocolFrom });
      const { peer: told, message } = only(lines, "tls_failed");
      assertEquals([told, message], [peer, `is refused: ${reason}`]);
    }
  }
});

Deno.test("lines that nobody reads are counted in the format of the others", async () => {
  const lines = await stderrLines(async () => {
    const { promise: read, resolve } = Promise.withResolvers<void>();
    using _ = replaced(Deno.stderr, "write", (write) => async (bytes) => {
      await read;
      return await write(bytes);
    });
    const server = createServer({ logFormat: "json", logLevel: "debug" });
    for (let count = 0; count < 6_000; count++) {
      const [here, there] = memoryPair();
      const served = server.accept(there);
      here.close();
      await served;
    }
    resolve();
    await server.shutdown();
  });
  assertMatch(only(lines.map(read), "lines_dropped").message, /^dropped \d+ lines: stderr was blocked or full$/);
});

Deno.test("what a peer sends forges no line, in text nor in JSON", async () => {
  const evil = 'x\npackline: error\r\n{"level":"error"}\x1b[2J\u202e\u2028",\\';
  const SAY = command(({ value }: { value: string }): string => {
    throw new Error(value);
  });
  for (const logFormat of ["text", "json"] as const) {
    const lines = await stderrLines(async () => {
      await using server = await serve({ port: 0, logFormat, commands: { SAY } });
      await using client = await connect({ port: server.port });
      await client.reply("SAY", { value: evil }).catch(() => {});
    });
    assertEquals(lines.length, 1);
    assert(!/[\p{C}\p{Zl}\p{Zp}]/u.test(lines[0]), lines[0]);
    if (logFormat === "json") assert((read(lines[0]).stack as string).startsWith(`Error: ${evil}\n`), lines[0]);
  }
});

Deno.test("a level leaves out what comes behind it", async () => {
  const seen: Partial<Record<LogLevel, string[]>> = {};
  for (const logLevel of LOG_LEVELS) {
    const lines = await logOf(async ({ port }) => {
      await sendTo(port, OTHERS[0][1]);
      await using client = await connect({ port });
      await client.reply("FAIL").catch(() => {});
    }, { logLevel, commands: { FAIL } });
    seen[logLevel] = [...new Set(lines.map(({ event }) => event))].sort();
  }
  const warn = ["handler_error", "wrong_protocol"];
  assertEquals(seen, {
    error: ["handler_error"],
    warn,
    info: warn,
    debug: ["connection_closed", "connection_opened", ...warn],
  });
});

Deno.test("what is no level, and no format", () => {
  assertThrows(
    () => createServer({ logLevel: "loud" as "debug" }),
    TypeError,
    'Cannot use "loud" as logLevel: it must be one of "error", "warn", "info", "debug"',
  );
  assertThrows(
    () => createServer({ logFormat: "xml" as "json" }),
    TypeError,
    'Cannot use "xml" as logFormat: it must be one of "text", "json"',
  );
});

// Programs ----------------------------------------------------------------------------------------------------------

const DENO = ["run", "--no-prompt", "--unstable-net", "--allow-net=127.0.0.1", "--allow-read"];
const JSON_LINES = ["--log-format", "json"];

testWith(["openssl"], "a program that cannot start, or has an old certificate", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const args = [...DENO, `${root}server.ts`, ...JSON_LINES, "--port"];
  const { code, text } = await run(Deno.execPath(), [...args, `${taken.addr.port}`]);
  assertEquals([code, only(readAll(text), "start_failed").message], [
    1,
    `cannot listen on 127.0.0.1:${taken.addr.port}: the port is in use; choose another with --port, 0 for any that is free`,
  ]);
  await using certificates = await Certificates.begin();
  const { certPath, keyPath } = await certificates.selfSigned({ days: -1 });
  await using program = await Program.start(
    Deno.execPath(),
    [...args, "0", "--cert", certPath, "--key", keyPath],
    /listening on/,
  );
  assertMatch(only(readAll(program.said), "certificate").message, /has expired on .*: clients that check it/);
});

testWith(["openssl"], "a certificate that is renewed, and one that cannot be used", async () => {
  if (Deno.build.os !== "linux") return;
  await using certificates = await Certificates.begin();
  const { certPath, keyPath, cert, key } = await certificates.selfSigned();
  const args = [...DENO, `${root}server.ts`, ...JSON_LINES, "--port", "0", "--cert", certPath, "--key", keyPath];
  await using program = await Program.start(Deno.execPath(), args, /listening on/);
  program.kill("SIGHUP");
  await program.hear(/"renewed".*\n/);
  assertEquals(only(readAll(program.said), "renewed").message, "the certificate in use is the latest");
  await Deno.writeTextFile(keyPath, "");
  program.kill("SIGHUP");
  await program.hear(/"renewal_failed".*\n/);
  const because = `cannot use ${certPath}, ${keyPath} for TLS: the private key is not the PEM text of a private key`;
  assertEquals(
    only(readAll(program.said), "renewal_failed").message,
    `the old certificate stays in use: ${because}`,
  );

  let given = key;
  const failed = only(
    await logOf(async (server) => {
      given = "";
      await server.renew();
    }, { tls: () => ({ cert, key: given }) }),
    "renewal_failed",
  );
  assertMatch(
    failed.message,
    /^TypeError: Cannot renew the certificate of .*: the private key is not the PEM text of a private key$/,
  );
});

Deno.test("workers carry their number, in both formats, and their end and return are lines", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  const args = [...DENO, `--allow-run=${Deno.execPath()}`, `${root}server.ts`, "--port", "0", "--workers", "2"];
  await using program = await Program.start(Deno.execPath(), [...args, ...JSON_LINES], /listening on .*:\d+\n/);
  const port = Number((await program.hear(/:(\d+)\n/))[1]);
  await sendTo(port, OTHERS[0][1]);
  await program.hear(/wrong_protocol/);
  assertMatch(String(only(readAll(program.said), "wrong_protocol").worker), /^[12]$/);
  Deno.kill((await childrenOf(program.pid))[0], "SIGKILL");
  await program.hear(/worker_listening/);
  program.kill("SIGTERM");
  assertEquals((await program.status).code, 0);
  await program.hear(/"stopped"/);
  const lines = readAll(program.said);
  assertEquals(only(lines, "worker_ended").worker, only(lines, "worker_listening").worker);
  assertEquals(only(lines, "stopping").message, "stopping within 10 s; a second signal ends it at once");
  assertEquals(only(lines, "stopped").message, "stopped; calls in flight: 0 finished, 0 cut");

  await using second = await Program.start(Deno.execPath(), args, /listening on .*:\d+\n/);
  await sendTo(Number((await second.hear(/:(\d+)\n/))[1]), OTHERS[0][1]);
  await second.hear(
    /^packline: worker [12]: 127\.0\.0\.1:\d+ speaks HTTP: this port takes packline, and WebSockets if --web-origin is given$/m,
  );
});

testWith(
  ["openssl"],
  "the table in docs/production.md has every event with its level, and all were provoked",
  async () => {
    const production = await Deno.readTextFile(`${root}docs/production.md`);
    const rows = [...production.matchAll(/^\| `(\w+)` +\| (error|warn|info|debug) +\|/gm)];
    assertEquals(Object.fromEntries(rows.map(([, event, level]) => [event, level])), { ...EVENTS });
    if (Deno.build.os === "linux") assertEquals(Object.keys(EVENTS).filter((event) => !provoked.has(event)), []);
  },
);
