/**
 * A server on a socket that it is given, as by a socket unit of systemd: it needs no permission for it, and the socket
 * outlives it, with the clients that come in between.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { serve } from "../../server.ts";
import { makeTestTls } from "../support/transports.ts";
import { connectTcp } from "../support/peers.ts";
import { concat, message } from "../support/wire.ts";
import { Certificates } from "./certificates.ts";
import { Folder, onFreePort, Program, root, run, testWith } from "./programs.ts";

const PONG = { res: "PONG" };
const SERVER = [Deno.execPath(), "run", "--no-prompt"];
const ON_FD = [`${root}server.ts`, "--fd", "3"];

/** Listens, as systemd does, and starts the program given for the first client, and again when it has ended. */
const SUPERVISOR = `
import os, signal, socket, subprocess, sys
listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
print("holding port %d" % listening.getsockname()[1], flush=True)
while True:
    child = subprocess.Popen(sys.argv[1:], close_fds=False)
    signal.signal(signal.SIGTERM, lambda *_: (child.kill(), os._exit(0)))
    print("started %d" % child.pid, flush=True)
    child.wait()
`;

/** The program that systemd has for trying socket units: it starts the server when the first client comes. */
function activate(address: string, ...server: string[]): Promise<Program> {
  return Program.start("systemd-socket-activate", ["-l", address, ...server], /Listening on .*\n/);
}

testWith(["systemd"], "activation: a port from systemd, without any permission", async () => {
  await onFreePort(async (port) => {
    await using program = await activate(`127.0.0.1:${port}`, ...SERVER, ...ON_FD);
    await using client = await connect({ port });
    assertEquals(await client.reply("PING"), PONG);
    await program.hear(new RegExp(`packline [\\d.]+ listening on 127.0.0.1:${port}\n`));

    // Many requests in one write, and an end behind them.
    const peer = await connectTcp(port);
    const requests = Array.from({ length: 100 }, (_, index) => message({ cmd: 1, seq: index }));
    await peer.sendBytes(concat(...requests, message({ cmd: "DELAY", sleep: 0.02 })));
    await peer.halfClose();
    const replies = await peer.readToEnd();
    assertEquals(replies.slice(0, 100), Array.from({ length: 100 }, (_, seq) => ({ seq, ...PONG })));
    assertEquals(replies[100].res, "DONE");
    peer.close();

    program.kill("SIGTERM");
    assertEquals((await program.status).code, 0);
  });
});

testWith(["systemd"], "activation: a unix socket from systemd, whose file stays", async () => {
  await using folder = await Folder.make();
  const path = `${folder.path}/p.sock`;
  await using program = await activate(path, ...SERVER, ...ON_FD);
  await using client = await connect({ path });
  assertEquals(await client.reply("PING"), PONG);
  await program.hear(/listening on fd:3\n/);
  program.kill("SIGTERM");
  assertEquals((await program.status).code, 0);
  assert((await Deno.lstat(path)).isSocket);
});

testWith(["systemd"], "activation: a proxy tells its client, on a port and on a unix socket", async () => {
  const header = new TextEncoder().encode("PROXY TCP4 203.0.113.5 10.0.0.1 4711 1235\r\n");
  const behind = [...ON_FD, "--proxy-protocol-from", "127.0.0.1,unix", "--log-level", "debug"];
  await using folder = await Folder.make();
  await onFreePort(async (port) => {
    const path = `${folder.path}/p.sock`;
    const places: [address: string, dial: () => Promise<Deno.Conn>][] = [
      [`127.0.0.1:${port}`, () => Deno.connect({ hostname: "127.0.0.1", port })],
      [path, () => Deno.connect({ transport: "unix", path })],
    ];
    for (const [address, dial] of places) {
      await using program = await activate(address, ...SERVER, ...behind);
      const proxy = await dial();
      await proxy.write(concat(header, message({ cmd: 1 })));
      await program.hear(/packline: 203\.0\.113\.5:4711 is connected\n/);
      assert(await proxy.read(new Uint8Array(64)) !== null);
      proxy.close();
      using stranger = await dial();
      await stranger.write(message({ cmd: 1 }));
      await program.hear(/ is refused: it does not begin with a header of the PROXY protocol\n/);
      program.kill("SIGTERM");
      assertEquals((await program.status).code, 0);
    }
  });
});

testWith(["systemd", "openssl"], "activation: TLS on a port from systemd; a unix socket has none", async () => {
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned();
  const { certPath, keyPath } = await certificates.signedBy(authority);
  const tls = [`--allow-read=${certPath},${keyPath}`, ...ON_FD, "--cert", certPath, "--key", keyPath];
  await onFreePort(async (port) => {
    await using program = await activate(`127.0.0.1:${port}`, ...SERVER, ...tls);
    await using client = await connect({ port, tls: { ca: authority.cert } });
    assertEquals(await client.reply("PING"), PONG);
    program.kill("SIGTERM");
    assertEquals((await program.status).code, 0);
  });
  const path = `${certificates.folder}/p.sock`;
  await using program = await activate(path, ...SERVER, ...tls);
  (await Deno.connect({ transport: "unix", path })).close();
  await program.hear(/packline: cannot listen on file descriptor 3: Cannot use TLS on a unix socket\n/);
});

testWith(
  ["systemd", "openssl"],
  "activation: TLS on a port from systemd, behind a proxy that tells its client",
  async () => {
    const { cert, key, ca } = await makeTestTls();
    await using folder = await Folder.make();
    await folder.write("cert.pem", cert);
    await folder.write("key.pem", key);
    const files = ["--cert", `${folder.path}/cert.pem`, "--key", `${folder.path}/key.pem`];
    const flags = [...ON_FD, ...files, "--proxy-protocol-from", "127.0.0.1", "--log-level", "debug"];
    await onFreePort(async (port) => {
      await using program = await activate(`127.0.0.1:${port}`, ...SERVER, `--allow-read=${folder.path}`, ...flags);
      const dial = () => Deno.connect({ hostname: "127.0.0.1", port });
      const proxy = await dial();
      await proxy.write(new TextEncoder().encode("PROXY TCP4 203.0.113.5 10.0.0.1 4711 1235\r\n"));
      using secure = await Deno.startTls(proxy, { hostname: "127.0.0.1", caCerts: [ca] });
      await secure.write(message({ cmd: 1 }));
      assert(await secure.read(new Uint8Array(64)) !== null);
      await program.hear(/packline: 203\.0\.113\.5:4711 is connected\n/);
      // Without a header the handshake does not begin.
      const stranger = await dial();
      await assertRejects(async () => {
        using conn = await Deno.startTls(stranger, { hostname: "127.0.0.1", caCerts: [ca] });
        await conn.handshake();
      });
      await program.hear(/ is refused: it does not begin with a header of the PROXY protocol\n/);
      program.kill("SIGTERM");
      assertEquals((await program.status).code, 0);
    });
  },
);

testWith(["python3"], "activation: clients that come while the server restarts wait for the next one", async () => {
  await using program = await Program.start(
    "python3",
    ["-c", SUPERVISOR, ...SERVER, ...ON_FD, "--grace", "2"],
    /listening on .*\n/,
  );
  const port = Number((await program.hear(/holding port (\d+)\n/))[1]);
  for (let restarts = 0; restarts < 3; restarts++) {
    const [, first] = program.said.match(/started (\d+)\n/) ?? [];
    await using old = await connect({ port });
    const slow = old.reply("DELAY", { sleep: 0.5 });
    assertEquals(await old.reply("PING"), PONG); // so the call before it has begun
    program.said = "";
    Deno.kill(Number(first), "SIGTERM");
    await program.hear(/stopping/);
    // Not one of them is refused or reset, though nobody accepts them before the call has ended.
    const answers = Array.from({ length: 20 }, async () => {
      await using client = await connect({ port, waitForReady: false });
      return await client.reply("PING");
    });
    assertEquals((await slow).res, "DONE");
    assertEquals(await Promise.all(answers), Array(20).fill(PONG));
    await program.hear(/listening on .*\n/);
  }
});

testWith([], "activation: what is no listening socket is one line, and an exit code", async () => {
  const started = (...flags: string[]) => run(SERVER[0], [...SERVER.slice(1), `${root}server.ts`, ...flags]);
  assertEquals(await started("--fd", "999"), {
    code: 1,
    text: "packline: cannot listen on file descriptor 999: it is no listening socket\n",
  });
  assertEquals(await started("--fd", "1"), {
    code: 2,
    text: "packline: --fd 1: it must be a whole number of at least 3; see --help\n",
  });
  assertEquals(await started("--fd", "3", "--workers", "2"), {
    code: 2,
    text: "packline: --workers cannot be used with --fd; see --help\n",
  });
});

Deno.test("activation: fd says where to listen, and is a descriptor", async () => {
  const alone = "Cannot use fd together with hostname, port or path: it says where to listen";
  for (const place of [{ port: 0 }, { hostname: "127.0.0.1" }, { path: "/nowhere" }]) {
    assertEquals((await assertRejects(() => serve({ fd: 3, ...place }), TypeError)).message, alone);
  }
  const kind = "as fd: it must be a file descriptor of at least 3";
  assertEquals((await assertRejects(() => serve({ fd: 1 }), RangeError)).message, `Cannot use 1 ${kind}`);
  const none = await assertRejects(() => serve({ fd: 999_999 }), TypeError);
  assertEquals(none.message, "Cannot listen on file descriptor 999999: it is no listening socket");
});
