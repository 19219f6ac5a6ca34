/**
 * TLS and mutual TLS: who is let in, what everybody else is told, and that it carries what TCP carries, as fast.
 *
 * Clients without a certificate use the runtime's own TLS, those with one Node's: so what the two have in common is tested
 * with both.
 */

import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command } from "../../mod.ts";
import type { PeerCertificate, ServerTls } from "../../types.ts";
import { reasonOf } from "../../transport/tls.ts";
import { settle } from "../support/peers.ts";
import { Held, withServer } from "../support/test_server.ts";
import { concat, message, messages } from "../support/wire.ts";
import type { Certificate } from "./certificates.ts";
import { Program, root, run, testWith } from "./programs.ts";
import { bothWays, failure, PONG, readAll, tlsTest } from "./tls_world.ts";

/** Base64 of no certificate. */
const GARBAGE = "-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n";

// Who is let in ------------------------------------------------------------------------------------------------------

bothWays("calls, streams and half a megabyte either way", async (world, mutual) => {
  const ECHO = command({ handler: ({ value }: { value: unknown }) => value });
  await using server = await withServer({ tls: world.serverTls(mutual), commands: { ECHO } });
  await using client = await connect(world.client(server.port, mutual, { maxPayloadBytes: 1_000_000 }));
  assertEquals(await client.reply("PING"), PONG);
  const value = crypto.getRandomValues(new Uint8Array(60_000)).toHex() + "\n\r".repeat(200_000);
  assertEquals((await client.reply("ECHO", { value })).res, value);
  const ticks = [];
  for await (const tick of client.stream("TICK", { count: 3, interval: 0.001 })) ticks.push(tick);
  assertEquals(ticks, [1, 2, 3]);
  await using byName = await connect(world.client(server.port, mutual, { hostname: "localhost" }));
  assertEquals(await byName.reply("PING"), PONG);
});

bothWays("a server that cannot be trusted is refused, in words", async (world, mutual) => {
  const { certificates, authority, stranger } = world;
  const untrusted = "the peer's certificate is not signed by a trusted authority; pass its authority as ca";
  const ofAuthority =
    "the peer's certificate is for an authority and not for a server; make it with basicConstraints=CA:FALSE";
  const servers: [why: string, certificate: Certificate, reason: string][] = [
    ["expired", await certificates.signedBy(authority, { days: -1 }), "the peer's certificate has expired"],
    ["self-signed", await certificates.selfSigned(), mutual ? untrusted : ofAuthority],
    ["of a stranger", await certificates.signedBy(stranger), untrusted],
    [
      "for another name",
      await certificates.signedBy(authority, { names: "DNS:elsewhere.test" }),
      "the peer's certificate is for another name",
    ],
  ];
  for (const [why, { cert, key }, reason] of servers) {
    await using server = await withServer({ tls: { cert, key } });
    const expected = `CONNECTION_LOST: cannot reach 127.0.0.1:${server.port}: ${reason}`;
    assertEquals(await failure(world.client(server.port, mutual)), expected, why);
  }
  if (!mutual) {
    // As `openssl req -x509` makes it.
    const { cert, key } = await certificates.selfSigned();
    await using server = await withServer({ tls: { cert, key } });
    const expected = `CONNECTION_LOST: cannot reach 127.0.0.1:${server.port}: ${ofAuthority}`;
    assertEquals(await failure({ port: server.port, tls: { ca: cert } }), expected);
  }
  await using server = await withServer({ tls: world.serverTls(false) });
  const { cert, key } = world.ada;
  const withoutAuthority = { port: server.port, tls: mutual ? { cert, key } : {} };
  assertEquals(
    await failure(withoutAuthority),
    `CONNECTION_LOST: cannot reach 127.0.0.1:${server.port}: ${untrusted}`,
  );
});

tlsTest(
  "mutual TLS: whoever has no certificate of the authority's is turned away before a byte is read",
  async (world) => {
    const { certificates, authority, stranger } = world;
    const seen: (PeerCertificate | undefined)[] = [];
    await using server = await withServer({
      tls: world.serverTls(true),
      middleware: [({ certificate }, next) => {
        seen.push(certificate);
        return next();
      }],
    });
    const lost = `CONNECTION_LOST: the connection to 127.0.0.1:${server.port} is lost:`;
    assertEquals(
      await failure(world.client(server.port, false)),
      `${lost} the peer rejected this side's certificate, or requires one`,
    );
    const strangers = [
      certificates.selfSigned({ subject: "/O=Analytical/CN=ada" }),
      certificates.signedBy(stranger, { subject: "/O=Analytical/CN=ada" }),
      certificates.signedBy(authority, { subject: "/O=Analytical/CN=ada", days: -1 }),
    ];
    for (const { cert, key } of await Promise.all(strangers)) {
      assertEquals(
        await failure({ port: server.port, tls: { ca: authority.cert, cert, key } }),
        `${lost} the server closed the connection at once; it may have rejected this side's certificate`,
      );
    }
    const { connections, bytes } = server.server.statistics();
    assertEquals([connections.accepted, bytes.received, seen.length], [0, 0, 0]);
    console.log(`${strangers.length + 1} clients without a certificate that holds: turned away, 0 bytes decoded`);

    await using ada = await connect(world.client(server.port, true));
    assertEquals(await ada.reply("PING"), PONG);
    assertEquals(seen.map((certificate) => certificate?.subject), ["O=Analytical, CN=ada"]);
    assertEquals(seen[0]?.alternativeNames, ["IP:7f000001", "DNS:localhost"]);
    assertMatch(seen[0]?.fingerprint256 ?? "", /^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
  },
);

tlsTest("mutual TLS: each subject is told whole, and none can be written to look like another", async (world) => {
  const WHO = command({ handler: (_params: object, { certificate }) => certificate?.subject });
  await using server = await withServer({ tls: world.serverTls(true), commands: { WHO } });
  const subjects: Record<string, string> = {
    "/CN=ada": "CN=ada",
    "/CN=ada/UID=42": "CN=ada, UID=42",
    "/CN=ada+UID=42": "CN=ada+UID=42",
    "/DC=evil/CN=ada": "DC=evil, CN=ada",
    "/CN=ada/O=x/CN=root": "CN=ada, O=x, CN=root",
    "/O=x/CN=ada/CN=root": "O=x, CN=ada, CN=root",
    "/O=Eve, CN=ada/CN=eve": "O=Eve\\, CN\\=ada, CN=eve",
    "/CN=ada\\+UID=42": "CN=ada\\+UID\\=42",
    "/CN=ada\n\u001b[2K\u202e": "CN=ada\\0a\\1b[2K\\e2\\80\\ae",
    "/CN= ada ": "CN=\\ ada\\ ",
    "/CN=ada/GN=Ada": "CN=ada, 2.5.4.42=#0c03416461",
    "/CN=ada/serialNumber=7/emailAddress=a@b": "CN=ada, serialNumber=7, emailAddress=a@b",
  };
  const told = await Promise.all(
    Object.keys(subjects).map(async (subject) => {
      const { cert, key } = await world.certificates.signedBy(world.authority, { subject });
      await using client = await connect({
        port: server.port,
        tls: { ca: world.authority.cert, cert, key },
        commands: { WHO },
      });
      return (await client.reply("WHO")).res;
    }),
  );
  assertEquals(told, Object.values(subjects));
});

tlsTest(
  "mutual TLS: a certificate that is not valid on the day is turned away, however its session began",
  async (world) => {
    await using server = await withServer({ tls: world.serverTls(true) });
    await using before = await connect(world.client(server.port, true));
    assertEquals(await before.reply("PING"), PONG);
    // The handshake goes by the system's calendar, as a resumed session would by the day on which it began.
    const { now } = Date;
    for (const days of [31, -1]) {
      Date.now = () => now() + days * 86_400_000;
      try {
        assertMatch(await failure(world.client(server.port, true)), /^CONNECTION_LOST: /);
      } finally {
        Date.now = now;
      }
    }
    await using after = await connect(world.client(server.port, true));
    assertEquals(await after.reply("PING"), PONG);
  },
);

tlsTest("mutual TLS: a client of a removed authority is turned away, also if it resumes a session", async (world) => {
  const { certificates } = world;
  const [old, fresh] = [world.authority, await certificates.selfSigned({ subject: "/CN=fresh" })];
  const { certPath, keyPath } = await certificates.signedBy(old, { subject: "/CN=ada" });
  const grace = await certificates.signedBy(fresh, { subject: "/CN=grace" });
  let { cert: ca } = old;
  const { cert, key } = world.serverTls(false);
  await using server = await withServer({ tls: () => ({ cert, key, ca }) });
  /** How a connection of ada begins, and whether her PING is answered. */
  const session = async (...args: string[]) => {
    const ada = ["-cert", certPath, "-key", keyPath, "-ign_eof"];
    const child = new Deno.Command("openssl", {
      args: ["s_client", "-connect", `127.0.0.1:${server.port}`, ...ada, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const stdin = child.stdin.getWriter();
    await stdin.write(Uint8Array.fromHex("202681a3636d64010a"));
    let said = "";
    const ends = setTimeout(() => child.kill("SIGKILL"), 20_000);
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream("latin1"))) {
      said += text;
      if (said.includes("PONG") && /Session-ID: \w{8}/.test(said)) break;
    }
    await stdin.close().catch(() => {}); // it has been turned away
    clearTimeout(ends);
    try {
      child.kill("SIGTERM");
    } catch {
      // It has ended already.
    }
    await child.status;
    return [said.match(/(New|Reused), TLS/)?.[1], said.includes("PONG")];
  };
  const file = `${certificates.folder}/session`;
  assertEquals(await session("-tls1_2", "-sess_out", file), ["New", true]);
  assertEquals(await session("-tls1_2", "-sess_in", file), ["Reused", true]);
  ca = fresh.cert;
  await server.server.renew();
  assertEquals(await session("-tls1_2"), ["New", false]);
  assertEquals((await session("-tls1_2", "-sess_in", file))[1], false);
  const tls = { ca: old.cert, cert: grace.cert, key: grace.key };
  for (let times = 0; times < 3; times++) {
    await using client = await connect({ port: server.port, tls });
    assertEquals(await client.reply("PING"), PONG);
  }
});

tlsTest("TLS: a server with a damaged certificate in its chain is refused, and ends no client", async (world) => {
  const { server: { cert, key }, authority: { cert: ca }, ada } = world;
  const server = createServer({ cert: cert + GARBAGE, key }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  try {
    for (const hostname of ["127.0.0.1", "localhost"]) {
      assertEquals(
        await failure({ hostname, port, tls: { ca, cert: ada.cert, key: ada.key } }),
        `CONNECTION_LOST: cannot reach ${hostname}:${port}: a certificate of the peer is damaged`,
      );
    }
  } finally {
    server.close();
    await once(server, "close");
  }
});

tlsTest("TLS: a server that does not ask has no certificate to tell of", async (world) => {
  const WHO = command({ handler: (_params: object, { certificate }) => certificate ?? null });
  await using server = await withServer({ tls: world.serverTls(false), commands: { WHO } });
  await using client = await connect({ ...world.client(server.port, true), commands: { WHO } });
  assertEquals((await client.reply("WHO")).res, null);
});

tlsTest("TLS and plain TCP do not take each other for what they are", async (world) => {
  await using secure = await withServer({ tls: world.serverTls(false) });
  await using plain = await withServer();
  assertMatch(await failure({ port: secure.port }), /^BAD_REPLY: .* sent an invalid frame: .*; this looks like TLS$/);
  for (const mutual of [false, true]) {
    assertEquals(
      await failure(world.client(plain.port, mutual)),
      `CONNECTION_LOST: cannot reach 127.0.0.1:${plain.port}: the peer does not speak TLS`,
    );
  }
  assertEquals(secure.server.statistics().connections.accepted, 0);
});

bothWays("nobody there is what it is without TLS", async (world, mutual) => {
  await using server = await withServer();
  const { port } = server;
  await server.server.shutdown({ graceMs: 0 });
  assertEquals(
    await failure(world.client(port, mutual)),
    `CONNECTION_LOST: cannot reach 127.0.0.1:${port}: connection refused; is the server running?`,
  );
});

tlsTest("TLS: an expired certificate that vouches for itself has expired, at both kinds of clients", async (world) => {
  const expired = await world.certificates.selfSigned({ days: -1 });
  await using server = await withServer({ tls: { cert: expired.cert, key: expired.key } });
  const reason = `CONNECTION_LOST: cannot reach 127.0.0.1:${server.port}: the peer's certificate has expired`;
  const { cert, key } = world.ada;
  assertEquals(await failure({ port: server.port, tls: { ca: expired.cert } }), reason);
  assertEquals(await failure({ port: server.port, tls: { ca: expired.cert, cert, key } }), reason);
});

bothWays("a server that is killed has broken off, whatever its certificate is", async (world, mutual) => {
  const { server, authority, certificates } = world;
  const flags = ["--cert", server.certPath, "--key", server.keyPath, ...mutual ? ["--ca", authority.certPath] : []];
  const deno = ["run", "--no-prompt", "--allow-net=127.0.0.1", `--allow-read=${certificates.folder}`];
  await using program = await Program.start(
    Deno.execPath(),
    [...deno, `${root}server.ts`, "--port", "0", ...flags],
    /listening on .*:\d+\n/,
  );
  const [, port] = await program.hear(/:(\d+)\n/);
  await using client = await connect(world.client(Number(port), mutual));
  const lost = assertRejects(() => client.reply("DELAY", { sleep: 60 }), RpcError);
  assertEquals(await client.reply("PING"), PONG);
  program.kill("SIGKILL");
  assertMatch((await lost).message, /is lost: the server (closed the connection|closed it)$/);
});

Deno.test("reasonOf() takes no text but one of TLS for one of TLS", () => {
  const code = (error: Error, code: string) => Object.assign(error, { code });
  assertEquals(reasonOf(new TypeError("No keys found in key data")), "No keys found in key data");
  assertEquals(reasonOf(new Deno.errors.InvalidData("my PEM key is unsupported")), "my PEM key is unsupported");
  assertEquals(
    reasonOf(new Deno.errors.InvalidData("invalid peer certificate: Expired")),
    "the peer's certificate has expired",
  );
  assertEquals(
    reasonOf(code(new Error("CERT_HAS_EXPIRED"), "CERT_HAS_EXPIRED")),
    "the peer's certificate has expired",
  );
  const cut = new Deno.errors.UnexpectedEof("peer closed connection without sending TLS close_notify: see there");
  assertEquals(reasonOf(cut, true), "the server closed the connection");
  assertEquals(reasonOf(cut), "the server closed the connection; it may require a certificate, or a different one");
  assertEquals(reasonOf("certificate has expired"), "certificate has expired");
});

// What is no certificate ---------------------------------------------------------------------------------------------

tlsTest("TLS: what is wrong with a certificate or a key is said before it is used, at either end", async (world) => {
  const { server: { cert, key }, ada, authority: { cert: ca } } = world;
  const damaged = cert.replace(/(?<=\n)[^-]/, "@");
  const locked = key.replaceAll("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
  const bad: [tls: ServerTls, problem: string][] = [
    [{ cert, key: ada.key }, "the private key does not belong to the certificate"],
    [{ cert: "no PEM", key }, "the certificate is not the PEM text of a certificate"],
    [{ cert: "", key }, "the certificate is not the PEM text of a certificate"],
    [{ cert: key, key: cert }, "the certificate is not the PEM text of a certificate"],
    [{ cert, key: "no PEM" }, "the private key is not the PEM text of a private key"],
    [{ cert, key: locked }, "the private key is encrypted; give it unencrypted"],
    [{ cert: cert + GARBAGE, key }, "certificate 2 of the chain is damaged"],
    [{ cert: cert + cert.slice(0, 200), key }, "certificate 2 of the chain is damaged"],
    [{ cert: damaged, key }, "certificate 1 of the chain is damaged"],
    [{ cert: cert.slice(0, 200), key }, "certificate 1 of the chain is damaged"],
    [{ cert: cert.slice(0, 20), key }, "a certificate is damaged"],
    [{ cert: cert + cert.slice(0, 20), key }, "a certificate is damaged"],
    [{ cert, key, ca: ca + ca.slice(0, 20) }, "a certificate is damaged"],
    [{ cert, key: key.slice(0, 100) }, "the private key is damaged or of an unsupported type"],
    [
      { cert: ofVersion1(cert), key },
      "a certificate is of version 1, which TLS does not take; make it of version 3, with subjectAltName",
    ],
    [{ cert, key, ca: ca + damaged }, "certificate 2 of the authorities is damaged"],
    [{ cert, key, ca: ca.slice(0, 200) }, "certificate 1 of the authorities is damaged"],
    [{ cert, key, ca: "no PEM" }, "the certificate authority is not the PEM text of a certificate"],
    [{ cert, key, ca: key }, "the certificate authority is not the PEM text of a certificate"],
    [{ cert, key: undefined as unknown as string }, "a certificate and its private key must be given together"],
  ];
  for (const [tls, problem] of bad) {
    const error = await assertRejects(() => withServer({ tls }), TypeError);
    assertEquals(error.message, `Cannot use TLS: ${problem}`);
    assertEquals(await failure({ port: 1, tls }), `CONNECTION_LOST: cannot reach 127.0.0.1:1: ${problem}`);
  }
  // A client needs none of its own.
  for (const tls of [{}, { ca }, () => ({})]) {
    const error = await assertRejects(() => withServer({ tls: tls as unknown as ServerTls }), TypeError);
    assertEquals(error.message, "Cannot use TLS: a server needs cert and key");
  }
});

/** A certificate without its version and its extensions, which follow its key. Its signature no longer fits. */
function ofVersion1(cert: string): string {
  const hex = Uint8Array.fromBase64(cert.replaceAll(/-----[^-]+-----|\s/g, "")).toHex();
  const [, fields] = hex.match(/a003020102(.*03420004.{128})a3/) as RegExpMatchArray;
  const rest = hex.slice(hex.lastIndexOf("300a06082a8648ce3d040302"));
  const sequence = (content: string) => {
    const length = (content.length / 2).toString(16);
    return `30${length.length > 2 ? `82${length.padStart(4, "0")}` : `81${length}`}${content}`;
  };
  const bytes = Uint8Array.fromHex(sequence(sequence(fields) + rest));
  return `-----BEGIN CERTIFICATE-----\n${bytes.toBase64()}\n-----END CERTIFICATE-----\n`;
}

tlsTest("TLS: an address in use is said as without TLS", async (world) => {
  await using taken = await withServer();
  await assertRejects(() => withServer({ port: taken.port, tls: world.serverTls(false) }), Deno.errors.AddrInUse);
  await assertRejects(() => withServer({ path: "/nowhere", tls: world.serverTls(false) }), TypeError, "unix socket");
});

// What it carries ----------------------------------------------------------------------------------------------------

bothWays("requests in one write are all answered, also behind a half close", async (world, mutual) => {
  await using server = await withServer({ tls: world.serverTls(mutual) });
  using conn = await world.raw(server.port, mutual);
  const requests = Array.from({ length: 100 }, (_, index) => message({ cmd: 1, seq: index }));
  await conn.write(concat(...requests, message({ sleep: 0.02, cmd: 2 })));
  await conn.closeWrite();
  // To the end that TLS announces: one without it would be an error here.
  const replies = messages(await readAll(conn));
  assertEquals(replies.slice(0, 100), Array.from({ length: 100 }, (_, seq) => ({ seq, ...PONG })));
  assertEquals(replies[100].res, "DONE");
});

bothWays("a reader that does not read holds back what is produced for it", async (world, mutual) => {
  const REPLIES = 64;
  const MEGABYTE = command({ handler: () => new Uint8Array(1_000_000) });
  await using server = await withServer({ tls: world.serverTls(mutual), commands: { MEGABYTE }, maxInFlight: 2 });
  using conn = await world.raw(server.port, mutual);
  const requests = Array.from({ length: REPLIES }, () => message({ cmd: "MEGABYTE" }));
  await conn.write(concat(message({ cmd: 0, max: 1_048_576 }), ...requests));
  await using other = await connect(world.client(server.port, mutual));
  const produced = () => server.server.statistics().commands.MEGABYTE.calls;
  for (let before = -1; before !== produced();) {
    before = produced();
    for (let calls = 0; calls < 50; calls++) await other.reply("PING");
  }
  assert(produced() < REPLIES / 2, `${produced()} of ${REPLIES} were produced`);
  await conn.closeWrite();
  assertEquals(messages(await readAll(conn)).length, REPLIES);
});

bothWays("a small reply does not wait for the one before it to be acknowledged", async (world, mutual) => {
  const held = new Held();
  await using server = await withServer({ tls: world.serverTls(mutual), commands: { HELD: held.command } });
  using conn = await world.raw(server.port, mutual);
  const buffer = new Uint8Array(1024);
  const waits: number[] = [];
  for (let pair = 0; pair < 9; pair++) {
    await conn.write(concat(message({ cmd: "HELD", seq: 1 }), message({ cmd: "HELD", seq: 2 })));
    while (held.running < 2) await settle(1);
    const [first, second] = held.calls.splice(0);
    first.finish();
    await conn.read(buffer);
    // The client says nothing more, and its acknowledgement is delayed by 40 ms.
    const startMs = performance.now();
    second.finish();
    await conn.read(buffer);
    waits.push(performance.now() - startMs);
  }
  const median = waits.sort((a, b) => a - b)[4];
  assert(median < 20, `the second reply came after ${median.toFixed(1)} ms`);
});

bothWays("a request does not wait for the one before it to be acknowledged", async (world, mutual) => {
  const held = new Held();
  await using server = await withServer({ tls: world.serverTls(mutual), commands: { HELD: held.command } });
  await using client = await connect(world.client(server.port, mutual));
  const waits: number[] = [];
  for (let pair = 0; pair < 9; pair++) {
    const first = client.reply("HELD", {});
    while (held.running === 0) await settle(1);
    const startMs = performance.now();
    await client.reply("PING");
    waits.push(performance.now() - startMs);
    held.finishAll();
    await first;
  }
  const median = waits.sort((a, b) => a - b)[4];
  assert(median < 20, `the second request took ${median.toFixed(1)} ms`);
});

// As programs --------------------------------------------------------------------------------------------------------

const CLIENT = ["run", "--no-prompt", "--allow-net=127.0.0.1"];

tlsTest("TLS and mutual TLS by the flags of both scripts", async (world) => {
  const { server, ada, authority } = world;
  const read = `--allow-read=${world.certificates.folder}`;
  const deno = ["run", "--no-prompt", "--allow-net=127.0.0.1", read];
  const serve = (...flags: string[]) =>
    Program.start(
      Deno.execPath(),
      [...deno, `${root}server.ts`, "--port", "0", "--cert", server.certPath, "--key", server.keyPath, ...flags],
      /listening on .*:\d+\n/,
    );
  const call = async (program: Program, ...flags: string[]) => {
    const [, port] = await program.hear(/:(\d+)\n/);
    return await run(Deno.execPath(), [...deno, `${root}client.ts`, "--port", port, ...flags, "PING"]);
  };
  await using plain = await serve();
  assertEquals(await call(plain, "--ca", authority.certPath), { code: 0, text: 'you said {"res":"PONG"}\n' });
  const untrusted = await call(plain, "--tls");
  assertMatch(
    untrusted.text,
    /^packline: cannot reach [\d.:]+: the peer's certificate is not signed by a trusted authority; pass its authority with --ca\n$/,
  );
  assertEquals(untrusted.code, 3);

  await using mutual = await serve("--ca", authority.certPath);
  const own = ["--ca", authority.certPath, "--cert", ada.certPath, "--key", ada.keyPath];
  assertEquals(await call(mutual, ...own), { code: 0, text: 'you said {"res":"PONG"}\n' });
  const without = await call(mutual, "--ca", authority.certPath);
  assertMatch(
    without.text,
    /^packline: .*the (peer rejected this side's certificate, or requires one|server closed the connection; it may require a certificate, or a different one)\n$/,
  );
  assertEquals(without.code, 3);
});

tlsTest("a server's own certificate that has expired is told at its start", async (world) => {
  const { certPath, keyPath } = await world.certificates.selfSigned({ days: -1 });
  const deno = [...CLIENT, `--allow-read=${world.certificates.folder}`, `${root}server.ts`, "--port", "0"];
  const flags = ["--cert", certPath, "--key", keyPath];
  await using program = await Program.start(Deno.execPath(), [...deno, ...flags], /listening on .*:\d+\n/);
  await program.hear(
    /^packline: the certificate in .* has expired on \d{4}-\d\d-\d\d: clients that check it will not connect$/m,
  );
});

tlsTest("certificates that will not do are one line, and an exit code", async (world) => {
  const { server: { certPath: cert, keyPath: key }, ada, certificates } = world;
  const noPem = await certificates.file("no PEM");
  const away = `${certificates.folder}/away.pem`;
  const read = `--allow-read=${certificates.folder}`;
  type Case = [flags: string[], code: number, text: string, permissions?: string[]];
  const cases: Case[] = [
    [["--cert", cert], 2, "TLS needs both --cert and --key; see --help"],
    [["--ca", cert], 2, "TLS needs both --cert and --key; see --help"],
    [["--cert", away, "--key", key], 1, `cannot read --cert ${away}: there is no such file`],
    [["--cert", cert, "--key", away], 1, `cannot read --key ${away}: there is no such file`],
    [["--cert", certificates.folder, "--key", key], 1, `cannot read --cert ${certificates.folder}: it is a folder`],
    [
      ["--cert", cert, "--key", key],
      1,
      `cannot read --cert ${cert}: no permission; run it with --allow-read=${cert}`,
      [],
    ],
    [
      ["--cert", noPem, "--key", key],
      1,
      `cannot use ${noPem}, ${key} for TLS: the certificate is not the PEM text of a certificate`,
    ],
    [
      ["--cert", cert, "--key", noPem],
      1,
      `cannot use ${cert}, ${noPem} for TLS: the private key is not the PEM text of a private key`,
    ],
    [
      ["--cert", cert, "--key", ada.keyPath],
      1,
      `cannot use ${cert}, ${ada.keyPath} for TLS: the private key does not belong to the certificate`,
    ],
    [
      ["--cert", cert, "--key", key, "--ca", noPem],
      1,
      `cannot use ${cert}, ${key}, ${noPem} for TLS: the certificate authority is not the PEM text of a certificate`,
    ],
  ];
  await Promise.all(cases.map(async ([flags, code, text, permissions = [read]]) => {
    const args = [...CLIENT, ...permissions, `${root}server.ts`, "--port", "0", ...flags];
    assertEquals(await run(Deno.execPath(), args), { code, text: `packline: ${text}\n` });
  }));
});

testWith([], "a file that another user keeps to himself is one line", async () => {
  // An administrator may read everything: then there is nothing to see here.
  const path = await Deno.makeTempFile();
  try {
    await Deno.chmod(path, 0);
    const readable = await Deno.readTextFile(path).then(() => true, () => false);
    if (readable) return;
    const args = [...CLIENT, `--allow-read=${path}`, `${root}server.ts`, "--cert", path, "--key", path];
    const text = `packline: cannot read --cert ${path}: this user may not read it\n`;
    assertEquals(await run(Deno.execPath(), args), { code: 1, text });
  } finally {
    await Deno.remove(path);
  }
});
