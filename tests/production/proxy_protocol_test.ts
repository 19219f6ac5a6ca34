/**
 * Who calls, behind a proxy that tells it: over TCP, TLS and a unix socket; behind real HAProxy and nginx with the line of
 * their examples; and what happens to connections that have no header, or send it from elsewhere.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { command, connect, serve, type ServeOptions } from "../../mod.ts";
import { denoServerNetwork } from "../../transport/deno_server_network.ts";
import { listen } from "../../transport/listen.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { makeTestTls } from "../support/transports.ts";
import { Peer, settle } from "../support/peers.ts";
import { stderrLines, withServer } from "../support/test_server.ts";
import { concat } from "../support/wire.ts";
import { Certificates } from "./certificates.ts";
import {
  example,
  Folder,
  onFreePort,
  type Package,
  Program,
  root,
  run,
  startHaproxy,
  startNginx,
  testWith,
} from "./programs.ts";

const text = (words: string) => new TextEncoder().encode(words);
const HEADER = text("PROXY TCP4 203.0.113.5 10.0.0.1 4711 1235\r\n");
const CLIENT = "203.0.113.5:4711";

/** `{cmd: "WHO"}` is answered by who asks. */
const commands = { WHO: command((_params: object, { peer }) => peer) };

/** A server behind the proxies of this machine, that keeps who has connected. */
async function serveBehind(options: ServeOptions = {}) {
  const peers: string[] = [];
  const onConnect = ({ peer }: { peer: string }) => void peers.push(peer);
  const server = await withServer({ commands, onConnect, proxyProtocolFrom: ["127.0.0.1", "unix"], ...options });
  return Object.assign(server, { peers });
}

/** A socket as a peer. */
function peerOn(conn: Deno.Conn): Peer {
  const buffer = new Uint8Array(4096);
  return new Peer({
    async read() {
      const size = await conn.read(buffer).catch(() => null);
      return size === null ? null : buffer.slice(0, size);
    },
    async write(bytes) {
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    },
    closeWrite: () => conn.closeWrite(),
    close: () => conn.close(),
  });
}

/** A connection that begins with some bytes, and is then what `wrap` makes of it. */
async function connectWith(
  address: { port: number } | { path: string },
  first: Uint8Array,
  wrap: (conn: Deno.Conn) => Promise<Deno.Conn> = (conn) => Promise.resolve(conn),
): Promise<Peer> {
  const conn = "port" in address
    ? await Deno.connect({ hostname: "127.0.0.1", port: address.port })
    : await Deno.connect({ transport: "unix", path: address.path });
  if (first.length > 0) await conn.write(first);
  return peerOn(await wrap(conn));
}

/** Resolves when the server has ended a connection; whether it has said nothing on it. */
async function isCut(peer: Peer): Promise<boolean> {
  return (await peer.readToBreak()).length === 0;
}

Deno.test("the client that a proxy tells is the peer of its calls, its connection and its errors", async () => {
  const FAIL = command((): string => {
    throw new Error("on purpose");
  });
  await using server = await serveBehind({ commands: { ...commands, FAIL } });
  await using peer = await connectWith(server, HEADER);
  assertEquals(await peer.ask({ cmd: "WHO" }), { res: CLIENT });
  assertEquals(await peer.ask({ cmd: "FAIL" }), { err: "INTERNAL" });
  assertEquals(server.peers, [CLIENT]);
  assertEquals(server.errors.takeWithOrigin().map(({ origin }) => origin), [{ peer: CLIENT, command: "FAIL" }]);
});

Deno.test("a header in one write with calls, or byte by byte, is the same", async () => {
  await using server = await serveBehind();
  const who = Uint8Array.of(0x20, 0x29, 0x81, 0xa3, ...text("cmd"), 0xa3, ...text("WHO"), 0x0a);
  await using atOnce = await connectWith(server, concat(HEADER, who, who));
  assertEquals([await atOnce.readReply(), await atOnce.readReply()], [{ res: CLIENT }, { res: CLIENT }]);
  await using slow = await connectWith(server, new Uint8Array(0));
  await slow.sendBytes(...Array.from(concat(HEADER, who), (byte) => Uint8Array.of(byte)));
  assertEquals(await slow.readReply(), { res: CLIENT });
});

Deno.test("a proxy that speaks for itself is the peer", async () => {
  await using server = await serveBehind();
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await using peer = peerOn(conn);
  await peer.sendBytes(text("PROXY UNKNOWN\r\n"));
  assertEquals(await peer.ask({ cmd: "WHO" }), { res: `127.0.0.1:${conn.localAddr.port}` });
});

Deno.test("over a unix socket too", { ignore: Deno.build.os === "windows" }, async () => {
  await using folder = await Folder.make();
  const path = `${folder.path}/s`;
  await using _server = await serveBehind({ path });
  await using peer = await connectWith({ path }, HEADER);
  assertEquals(await peer.ask({ cmd: "WHO" }), { res: CLIENT });
  await using unknown = await connectWith({ path }, text("PROXY UNKNOWN\r\n"));
  assertEquals(await unknown.ask({ cmd: "WHO" }), { res: "unix" });
});

testWith(["openssl"], "behind the header a handshake has the certificate that was renewed", async () => {
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned();
  const before = await certificates.signedBy(authority);
  const { cert, key, ca } = await makeTestTls();
  let given = { cert: before.cert, key: before.key };
  await using server = await serve({ port: 0, commands, proxyProtocolFrom: ["127.0.0.1"], tls: () => given });
  const handshake = async (caCert: string) => {
    const startTls = (conn: Deno.Conn) =>
      Deno.startTls(conn as Deno.TcpConn, { hostname: "127.0.0.1", caCerts: [caCert] });
    await using peer = await connectWith(server, HEADER, startTls);
    return await peer.ask({ cmd: "WHO" });
  };
  assertEquals(await handshake(authority.cert), { res: CLIENT });
  given = { cert, key };
  await server.renew();
  assertEquals(await handshake(ca), { res: CLIENT });
});

testWith(["openssl"], "before the handshake of TLS, in pieces and in one with it", async () => {
  const { cert, key, ca } = await makeTestTls();
  await using server = await serveBehind({ tls: { cert, key } });
  const startTls = (conn: Deno.Conn) => Deno.startTls(conn as Deno.TcpConn, { hostname: "127.0.0.1", caCerts: [ca] });
  await using peer = await connectWith(server, HEADER, startTls);
  assertEquals(await peer.ask({ cmd: "WHO" }), { res: CLIENT });
  // A relay puts the header and the first bytes of the handshake into one segment.
  using relay = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const relaying = (async () => {
    using from = await relay.accept();
    using to = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
    const buffer = new Uint8Array(64 * 1024);
    const first = await from.read(buffer);
    const all = concat(HEADER, buffer.subarray(0, first ?? 0));
    for (let at = 0; at < all.length;) at += await to.write(all.subarray(at));
    await Promise.allSettled([
      from.readable.pipeTo(to.writable, { preventClose: true }),
      to.readable.pipeTo(from.writable, { preventClose: true }),
    ]);
  })().catch(() => {});
  {
    const { port } = relay.addr;
    await using second = peerOn(await Deno.connectTls({ hostname: "127.0.0.1", port, caCerts: [ca] }));
    assertEquals(await second.ask({ cmd: "WHO" }), { res: CLIENT });
    const value = { cmd: "WHO", filler: "x".repeat(60_000) };
    for (let times = 0; times < 20; times++) assertEquals(await second.ask(value), { res: CLIENT });
  }
  await server[Symbol.asyncDispose]();
  await relaying;
});

Deno.test("a header from an address that is not named is refused as ever, and a call from it is answered", async () => {
  await using server = await serveBehind({ proxyProtocolFrom: ["10.0.0.0/8"] });
  await using peer = await connectWith(server, HEADER);
  assertEquals((await peer.readReply()).err, "BAD_FRAME");
  await using client = await connect({ port: server.port });
  assertMatch(await client.call.WHO() as string, /^127\.0\.0\.1:\d+$/);
});

Deno.test("a named proxy that sends no header is refused before its first call, in a line that says so", async () => {
  const lines = await stderrLines(async () => {
    await using server = await serveBehind();
    await using client = await connect({ port: server.port, lazy: true, timeoutMs: 300 });
    await assertRejects(() => client.call.PING());
    assertEquals(server.peers, []);
  });
  assertMatch(
    lines[0],
    /^packline: 127\.0\.0\.1:\d+ is refused: it does not begin with a header of the PROXY protocol$/,
  );
});

for (const secure of [false, true]) {
  testWith(
    secure ? ["openssl"] : [],
    `a header that does not come in time is not waited for (${secure ? "TLS" : "TCP"})`,
    async () => {
      const tls = secure ? await makeTestTls().then(({ cert, key }) => ({ cert, key })) : undefined;
      const clock = new FakeClock();
      const lines = await stderrLines(async () => {
        await using server = await serveBehind({ clock, tls, frameTimeoutMs: 10_000 });
        const before = clock.timers;
        await using silent = await connectWith(server, new Uint8Array(0));
        await using slow = await connectWith(server, HEADER.subarray(0, 20));
        while (clock.timers < before + 2) await settle(1);
        await clock.advance(9_999);
        await slow.sendBytes(HEADER.subarray(20, 21));
        await clock.advance(1);
        assertEquals(await isCut(silent), true);
        assertEquals(await isCut(slow), true);
        assertEquals(server.peers, []);
      });
      assertMatch(lines[0], /is refused: its header of the PROXY protocol has not come within 10000 ms$/);
    },
  );
}

Deno.test("connections before their header are bounded: one more ends the oldest", async () => {
  const lines = await stderrLines(async () => {
    await using server = await serveBehind({ maxConnections: 2 });
    await using oldest = await connectWith(server, new Uint8Array(0));
    await using second = await connectWith(server, new Uint8Array(0));
    await using third = await connectWith(server, new Uint8Array(0));
    assert(await isCut(oldest));
    for (const peer of [second, third]) {
      await peer.sendBytes(HEADER);
      assertEquals(await peer.ask({ cmd: "WHO" }), { res: CLIENT });
    }
  });
  assertEquals(lines.length, 1);
  assertMatch(lines[0], /is refused: too many connections of proxies wait for theirs$/);
});

Deno.test("connections that fail before their header, too, are taken when others have had their turn", async () => {
  const refused: string[] = [];
  let asked = 0;
  const rested = Promise.withResolvers<void>();
  const acceptor = await listen(denoServerNetwork, {
    ...{ hostname: "127.0.0.1", port: 0, proxyProtocolFrom: ["127.0.0.1"] },
    ...{ handshakeTimeoutMs: 60_000, maxConnections: 10, clock: new FakeClock() },
    onRefused: ({ event }) => void refused.push(event),
    rest: () => ++asked === 2 ? rested.promise : undefined,
  });
  const accepting = assertRejects(() => acceptor.accept(), Deno.errors.BadResource);
  const peers = await Promise.all([1, 2, 3].map(() => connectWith({ port: acceptor.port }, text("GET / HTTP/1.1"))));
  await peers[0].readToEnd();
  await settle();
  assertEquals([refused, asked], [["proxy_header"], 2]);
  rested.resolve();
  for (const peer of peers.slice(1)) await peer.readToEnd();
  assertEquals(refused.length, 3);
  for (const peer of peers) peer.close();
  acceptor.close();
  await accepting;
});

Deno.test("a check that connects and says nothing is no line, and a shutdown waits for no header", async () => {
  const lines = await stderrLines(async () => {
    await using server = await serveBehind();
    await using check = await connectWith(server, new Uint8Array(0));
    await check.halfClose();
    assert(await isCut(check));
    await using waiting = await connectWith(server, HEADER.subarray(0, 10));
    await server.server.shutdown({ graceMs: 50 });
    assert(await isCut(waiting));
  });
  assertEquals(lines, []);
});

Deno.test("the flag reaches a server and its workers, and says what is wrong with it", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  const deno = ["run", "--no-prompt", "--unstable-net", "--allow-net=127.0.0.1", `--allow-run=${Deno.execPath()}`];
  const args = [...deno, `${root}server.ts`, "--port", "0", "--proxy-protocol-from", "10.0.0.0/8,127.0.0.1"];
  for (const more of [[], ["--workers", "2"]]) {
    await using program = await Program.start(Deno.execPath(), [...args, ...more], /listening on .*:\d+\n/);
    await using peer = await connectWith({ port: Number((await program.hear(/:(\d+)\n/))[1]) }, HEADER);
    assertEquals(await peer.ask({ cmd: 1 }), { res: "PONG" });
  }
  const wrong = await run(Deno.execPath(), [...args, "--proxy-protocol-from", "10.0.0.0/33"]);
  const reason = "name proxies as 10.0.0.7, 10.0.0.0/8 or unix, with commas between; see --help";
  assertEquals(wrong, { code: 2, text: `packline: --proxy-protocol-from 10.0.0.0/33: ${reason}\n` });
  await assertRejects(
    () => serve({ port: 0, proxyProtocolFrom: ["balancer"] }),
    TypeError,
    'Cannot use ["balancer"] as proxyProtocolFrom: it must be an array of addresses and ranges',
  );
});

// The real ones -----------------------------------------------------------------------------------------------------

/** A balancer, and the line of its example that makes it tell its clients. */
interface Kind {
  readonly name: string;
  readonly packages: readonly Package[];
  readonly file: string;
  readonly line: string;
  start(folder: Folder, config: string): Promise<Program>;
}

const KINDS: Kind[] = [
  {
    name: "HAProxy",
    packages: ["haproxy", "openssl"],
    file: "haproxy/haproxy.cfg",
    line: "default-server send-proxy-v2 check-send-proxy",
    start: (folder, config) => startHaproxy(folder, config.replaceAll("/run/haproxy", folder.path)),
  },
  {
    name: "nginx",
    packages: ["nginx", "libnginx-mod-stream", "openssl"],
    file: "nginx-stream/nginx.conf",
    line: "proxy_protocol on;",
    start: startNginx,
  },
];

for (const kind of KINDS) {
  for (const secure of [false, true]) {
    testWith(kind.packages, `behind ${kind.name}, a server knows its clients (${secure ? "TLS" : "TCP"})`, async () => {
      const { cert, key, ca } = await makeTestTls();
      const tls = secure ? { cert, key } : undefined;
      await using one = await serveBehind({ tls });
      await using two = await serveBehind({ tls });
      await using folder = await Folder.make();
      const [port, program] = await onFreePort(async (port): Promise<[number, Program]> => {
        const config = await example(kind.file, {
          "127.0.0.1:1235": `127.0.0.1:${port}`,
          "127.0.0.1:1236": `127.0.0.1:${one.port}`,
          "127.0.0.1:1237": `127.0.0.1:${two.port}`,
          [`# ${kind.line}`]: kind.line,
          ...(secure && kind.name === "HAProxy" && { " check inter": " check check-ssl verify none inter" }),
        });
        return [port, await kind.start(folder, config)];
      });
      await using _program = program;
      for (let times = 0; times < 4; times++) {
        const conn = await Deno.connect({ hostname: "127.0.0.1", port });
        const own = `127.0.0.1:${conn.localAddr.port}`;
        await using peer = peerOn(
          secure ? await Deno.startTls(conn, { hostname: "127.0.0.1", caCerts: [ca] }) : conn,
        );
        assertEquals(await peer.ask({ cmd: "WHO" }), { res: own });
        assert(one.peers.includes(own) || two.peers.includes(own));
      }
    });
  }
}

testWith(["haproxy"], "HAProxy's checks are answered with its header before them, and are its own", async () => {
  await using one = await serveBehind();
  await using folder = await Folder.make();
  const program = await onFreePort(async (port) => {
    const config = await example("haproxy/haproxy.cfg", {
      "127.0.0.1:1235": `127.0.0.1:${port}`,
      "127.0.0.1:1236": `127.0.0.1:${one.port}`,
      "127.0.0.1:1237": "127.0.0.1:9",
      "# default-server send-proxy-v2 check-send-proxy": "default-server send-proxy-v2 check-send-proxy",
      "inter 1s": "inter 50ms",
    });
    return await startHaproxy(folder, config.replaceAll("/run/haproxy", folder.path));
  });
  await using _program = program;
  await program.hear(/Server packline\/two is DOWN/);
  while (one.server.statistics().connections.accepted < 3) await new Promise((resolve) => setTimeout(resolve, 10));
  assert(!/packline\/one is DOWN/.test(program.said), program.said);
});
