/** TLS: those who do not come to the point. */

import { assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { dialAddress } from "../../transport/address.ts";
import { denoNetwork } from "../../transport/deno_network.ts";
import { TlsAcceptor } from "../../transport/tls_acceptor.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { connectTcp, resetUnseen, settle } from "../support/peers.ts";
import { Held, withServer } from "../support/test_server.ts";
import { message } from "../support/wire.ts";
import { Program, root, run, testWith } from "./programs.ts";
import { bothWays, PONG, tlsTest, World } from "./tls_world.ts";

bothWays("a handshake that never comes ends in time, and holds up nobody", async (world, mutual) => {
  const clock = new FakeClock();
  await using server = await withServer({ tls: world.serverTls(mutual), clock, frameTimeoutMs: 3_000 });
  await using silent = await connectTcp(server.port);
  await using halfWay = await connectTcp(server.port);
  await halfWay.sendBytes(Uint8Array.of(0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00));
  await using client = await connect(world.client(server.port, mutual));
  assertEquals(await client.reply("PING"), PONG);
  await clock.advance(2_999);
  assertEquals([await silent.hasEnded(), await halfWay.hasEnded()], [false, false]);
  assertEquals(await client.reply("PING"), PONG);
  await clock.advance(1);
  await silent.readToEnd();
  await halfWay.readToEnd();
  assertEquals(await client.reply("PING"), PONG);
  assertEquals(server.server.statistics().connections, { open: 1, accepted: 1, refused: 0 });
});

bothWays("a client that says nothing after its handshake is idle like any other", async (world, mutual) => {
  const clock = new FakeClock();
  await using server = await withServer({ tls: world.serverTls(mutual), clock, idleTimeoutMs: 5_000 });
  using conn = await world.raw(server.port, mutual);
  await conn.handshake();
  while (server.server.statistics().connections.accepted === 0) await settle(1);
  await clock.advance(4_000);
  assertEquals(server.server.statistics().connections.open, 1);
  await clock.advance(2_000);
  assertEquals(server.server.statistics().connections.open, 0);
});

tlsTest("TLS: clients that have left before their handshake begins leave nothing", async (world) => {
  const clock = new FakeClock();
  const acceptor = await TlsAcceptor.listen({
    ...{ hostname: "127.0.0.1", port: 0, reusePort: false, tls: world.serverTls(false) },
    ...{ handshakeTimeoutMs: 1_000, maxConnections: 10, clock, onRefused: () => {} },
  });
  const others = clock.timers;
  resetUnseen(acceptor.port, 10, [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]);
  using conn = await world.raw(acceptor.port, false);
  await conn.handshake();
  (await acceptor.accept()).close();
  assertEquals([clock.timers - others, acceptor.handshakes], [0, 0]);
  acceptor.close();
});

tlsTest("TLS: a server that hung in a handshake is dialed as ever when it speaks again", async (world) => {
  await using server = await withServer({ tls: world.serverTls(false) });
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const dial = async (ca: string, signal = new AbortController().signal) =>
    (await dialAddress(denoNetwork, { hostname: "127.0.0.1", port, tls: { ca } }, signal)).close();
  const relay = async (connections: number) => {
    const relayed: Promise<unknown>[] = [];
    while (relayed.length < connections) {
      const here = await listener.accept();
      const there = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
      const ways = [here.readable.pipeTo(there.writable), there.readable.pipeTo(here.writable)];
      relayed.push(Promise.allSettled(ways)); // the dial closes without a goodbye
    }
    await Promise.all(relayed);
  };
  const stop = new AbortController();
  const failed = assertRejects(() => dial(world.authority.cert, stop.signal));
  using hung = await listener.accept();
  await hung.read(new Uint8Array(4_096));
  stop.abort();
  await failed;
  const untrusted = "not signed by a trusted authority; pass its authority as ca";
  // One connection finds out that it speaks, and the other is the dial's own.
  await Promise.all([relay(2), assertRejects(() => dial(world.stranger.cert), RpcError, untrusted)]);
  await Promise.all([relay(1), dial(world.authority.cert)]);
});

/** Completes a handshake, and resets the connection in the same moment. */
const FINISH_AND_RESET = `
import socket, ssl, struct, sys
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
for _ in range(30):
    peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, sent)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            peer.sendall(sent.read())
            received.write(peer.recv(65536))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sendall(sent.read())
    peer.close()
`;

testWith(["openssl", "python3"], "TLS: a client that resets behind its handshake is known by its address", async () => {
  await using world = await World.begin();
  const peers: string[] = [];
  await using server = await withServer({
    tls: world.serverTls(false),
    onConnect: ({ peer }) => void peers.push(peer),
  });
  await run("python3", ["-c", FINISH_AND_RESET, `${server.port}`]);
  await using client = await connect(world.client(server.port, false));
  assertEquals(await client.reply("PING"), PONG);
  assertEquals(peers.filter((peer) => !/^127\.0\.0\.1:\d+$/.test(peer)), []);
});

tlsTest("TLS: of too many handshakes at once the oldest ends", async (world) => {
  const clock = new FakeClock();
  const acceptor = await TlsAcceptor.listen({
    ...{ hostname: "127.0.0.1", port: 0, reusePort: false, tls: world.serverTls(false) },
    ...{ handshakeTimeoutMs: 1_000, maxHandshakes: 2, maxConnections: 10, clock, onRefused: () => {} },
  });
  const { port } = acceptor;
  const others = clock.timers;
  await using first = await connectTcp(port);
  while (clock.timers - others < 1) await settle(1);
  await using second = await connectTcp(port);
  while (clock.timers - others < 2) await settle(1);
  await using third = await connectTcp(port);
  await first.readToEnd();
  assertEquals([await second.hasEnded(), await third.hasEnded(), clock.timers - others], [false, false, 2]);
  acceptor.close();
  await second.readToEnd();
  await third.readToEnd();
  assertEquals(clock.timers, 0);
  await assertRejects(() => acceptor.accept(), Deno.errors.BadResource);
});

tlsTest("TLS: a handshake begins when those that are connected have had their turn", async (world) => {
  let asked = 0;
  const rested = Promise.withResolvers<void>();
  const acceptor = await TlsAcceptor.listen({
    ...{ hostname: "127.0.0.1", port: 0, reusePort: false, tls: world.serverTls(false) },
    ...{ handshakeTimeoutMs: 60_000, maxConnections: 10, clock: new FakeClock(), onRefused: () => {} },
    rest: () => ++asked === 2 ? rested.promise : undefined,
  });
  using first = await world.raw(acceptor.port, false);
  await first.handshake();
  using second = await world.raw(acceptor.port, false);
  let isDone = false;
  const handshake = second.handshake().then(() => isDone = true);
  await using _third = await connectTcp(acceptor.port);
  while (acceptor.handshakes < 2) await settle(1);
  await settle();
  assertEquals([isDone, asked], [false, 2], "one by one");
  rested.resolve();
  await handshake;
  for (let taken = 0; taken < 2; taken++) (await acceptor.accept()).close();
  acceptor.close();
});

tlsTest("TLS: a listener that has run out of file descriptors accepts again once there are some", async (world) => {
  const { certPath, keyPath } = world.server;
  const script = [`${root}tests/production/few_files.ts`, certPath, keyPath];
  const read = `--allow-read=${world.certificates.folder}`;
  const deno = [Deno.execPath(), "run", "--no-prompt", "--quiet", "--allow-net=127.0.0.1", read, ...script];
  const shell = ["-c", 'ulimit -n 48; exec "$@"', "sh", ...deno];
  await using server = await Program.start("sh", shell, /listening on .*:\d+\n/);
  const port = Number((await server.hear(/:(\d+)\n/))[1]);
  // More than it can take: the kernel lets them connect all the same.
  const crowd = await Promise.all(Array.from({ length: 60 }, () => connectTcp(port)));
  // A client that comes meanwhile waits, and is not lost.
  const coming = connect(world.client(port, false));
  for (const peer of crowd) peer.close();
  await using client = await coming;
  assertEquals(await client.reply("PING"), PONG);
});

bothWays("a shutdown answers what is in flight, and waits for no handshake", async (world, mutual) => {
  const held = new Held();
  await using server = await withServer({ tls: world.serverTls(mutual), commands: { HELD: held.command } });
  await using silent = await connectTcp(server.port);
  await using client = await connect(world.client(server.port, mutual));
  const call = client.reply("HELD", { id: 7 });
  while (held.running === 0) await settle(1);
  const ended = server.server.shutdown({ graceMs: 60_000 });
  await silent.readToEnd();
  held.finishAll();
  assertEquals((await call).res, 7);
  assertEquals(await ended, { finished: 1, cut: 0 });
});

bothWays("clients that break off, in the handshake or behind it, leave nothing behind", async (world, mutual) => {
  await using server = await withServer({ tls: world.serverTls(mutual), frameTimeoutMs: 200 });
  await Promise.all(Array.from({ length: 30 }, async (_, index) => {
    await using peer = await server.connectResettable();
    if (index % 3 > 0) await peer.sendBytes(Uint8Array.of(0x16, 0x03, 0x01, index % 2, 0x00, 0x01));
    peer.reset();
  }));
  await Promise.all(Array.from({ length: 10 }, async () => {
    const conn = await world.raw(server.port, mutual);
    await conn.write(message({ cmd: 2, sleep: 1, seq: 1 }));
    conn.close();
  }));
  await using client = await connect(world.client(server.port, mutual));
  assertEquals(await client.reply("PING"), PONG);
  while (server.server.statistics().connections.open > 1) await settle(1);
});
