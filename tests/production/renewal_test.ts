/**
 * Certificates renewed without a restart, at both ends: new handshakes get the new ones, old connections live on, and
 * what cannot be used is said in one line and changes nothing.
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { Renewal } from "../../cli/renewal.ts";
import { RpcError } from "../../errors.ts";
import type { ServerTls } from "../../types.ts";
import { createServer, serve } from "../../server.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { PseudoTerminal, testInTerminal } from "../terminal/pseudo_terminal.ts";
import { type Certificate, Certificates, pemOf } from "./certificates.ts";
import { childrenOf, Folder, Program, root, run, testWith } from "./programs.ts";

const IN_USE = "packline: a new certificate is in use\n";
const STAYS = "packline: the old certificate stays in use: ";

/** A certificate whose files have fixed names, as a renewal leaves them. */
class Files {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;

  constructor(readonly certificates: Certificates) {
    const path = `${certificates.folder}/in-use`;
    [this.cert, this.key, this.ca] = [`${path}.pem`, `${path}.key`, `${path}.ca`];
  }

  async put({ cert, key }: Pick<Certificate, "cert" | "key">, ca?: Certificate): Promise<void> {
    await Deno.writeTextFile(this.cert, cert);
    await Deno.writeTextFile(this.key, key);
    if (ca !== undefined) await Deno.writeTextFile(this.ca, ca.cert);
  }

  /** The server on these files, with the permission to read them and no others. */
  start(flags: readonly string[] = [], mutual = false): Promise<Program & { port: number }> {
    const ca = mutual ? ["--ca", this.ca] : [];
    const deno = ["--no-prompt", "--unstable-net", "--allow-net=127.0.0.1", `--allow-run=${Deno.execPath()}`];
    const read = `--allow-read=${[this.cert, this.key, ...mutual ? [this.ca] : []].join(",")}`;
    const server = [`${root}server.ts`, "--port", "0", "--cert", this.cert, "--key", this.key, ...ca, ...flags];
    return listening(Deno.execPath(), ["run", ...deno, read, ...server]);
  }
}

/** Certificates of one authority, each for somebody. */
async function world(...names: string[]): Promise<World> {
  const certificates = await Certificates.begin();
  const authority = await certificates.selfSigned({ subject: "/CN=authority" });
  const made: Certificate[] = [];
  for (const name of names) made.push(await certificates.signedBy(authority, { subject: `/CN=${name}` }));
  return {
    files: new Files(certificates),
    certificates,
    authority,
    made,
    [Symbol.asyncDispose]: () => certificates[Symbol.asyncDispose](),
  };
}

interface World extends AsyncDisposable {
  readonly files: Files;
  readonly certificates: Certificates;
  readonly authority: Certificate;
  readonly made: Certificate[];
}

async function listening(program: string, args: string[]): Promise<Program & { port: number }> {
  const started = await Program.start(program, args, /listening on .*:\d+\n/);
  const [, port] = await started.hear(/:(\d+)\n/);
  return Object.assign(started, { port: Number(port) });
}

/** Whom the server's certificate is for, as a new connection of openssl sees it. */
async function subjectAt(port: number): Promise<string | undefined> {
  const { text } = await run("openssl", ["s_client", "-connect", `127.0.0.1:${port}`]);
  return text.match(/^subject=.*CN ?= ?(\w+)$/m)?.[1];
}

/** Sends SIGHUP, and waits for what the program says then; each worker that a client's STATS asks has heard of it. */
async function renew(program: Program, said: RegExp, client?: Client): Promise<void> {
  program.said = "";
  program.kill("SIGHUP");
  await program.hear(said);
  await client?.reply("STATS", { all: true });
}

async function ping(client: Client): Promise<unknown> {
  return (await client.reply("PING")).res;
}

function pattern(text: string): RegExp {
  return new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
}

const signals = { ignore: Deno.build.os !== "linux" };

// The program --------------------------------------------------------------------------------------------------------

for (const workers of [1, 2]) {
  testWith(["openssl"], `renewal: SIGHUP reads the files again: workers: ${workers}`, async () => {
    if (signals.ignore) return;
    await using there = await world("old", "renewed");
    const { files, authority: { cert: ca }, made: [old, renewed] } = there;
    await files.put(old);
    await using program = await files.start(["--workers", String(workers)]);
    const { port } = program;
    await using client = await connect({ port, tls: { ca } });
    assertEquals([await subjectAt(port), await ping(client)], ["old", "PONG"]);

    await files.put(renewed);
    assertEquals(await subjectAt(port), "old");
    await renew(program, pattern(IN_USE), client);
    // Whichever worker it is.
    const seen = await Promise.all(Array.from({ length: 6 }, () => subjectAt(port)));
    assertEquals(new Set(seen), new Set(["renewed"]));
    assertEquals(await ping(client), "PONG");
    assertEquals(client.statistics().failed, {});

    await renew(program, /packline: the certificate in use is the latest\n/);
    program.kill("SIGTERM");
    assertEquals((await program.status).code, 0);
  });
}

testWith(["openssl"], "renewal: a worker that is started later has the new certificate as well", async () => {
  if (signals.ignore) return;
  await using there = await world("old", "renewed");
  const { files, made: [old, renewed] } = there;
  await files.put(old);
  await using program = await files.start(["--workers", "2"]);
  await files.put(renewed);
  await renew(program, pattern(IN_USE));
  const workers = await childrenOf(program.pid);
  assertEquals(workers.length, 2);
  for (const [index, worker] of workers.entries()) {
    Deno.kill(worker, "SIGKILL");
    await program.hear(new RegExp(`(listening again[^]*){${index + 1}}`));
  }
  const seen = await Promise.all(Array.from({ length: 6 }, () => subjectAt(program.port)));
  assertEquals(new Set(seen), new Set(["renewed"]));
});

testWith(["openssl"], "renewal: broken files are one line each, and the old certificate stays", async () => {
  if (signals.ignore) return;
  await using there = await world("old", "other");
  const { files, certificates, authority, made: [old, other] } = there;
  const expired = await certificates.signedBy(authority, { days: -1 });
  await files.put(old);
  await using program = await files.start();
  await using client = await connect({ port: program.port, tls: { ca: authority.cert } });
  const unusable = `${STAYS}cannot use ${files.cert}, ${files.key} for TLS: `;
  const day = new Date(Date.now() - 86_400_000).toISOString().slice(0, 10);
  const bad: [() => Promise<void>, string][] = [
    [
      () => files.put({ cert: "no PEM", key: old.key }),
      `${unusable}the certificate is not the PEM text of a certificate`,
    ],
    [
      () => files.put({ cert: other.cert + authority.cert.slice(0, 200), key: other.key }),
      `${unusable}certificate 2 of the chain is damaged`,
    ],
    [() => files.put({ cert: old.cert, key: "" }), `${unusable}the private key is not the PEM text of a private key`],
    [
      () => files.put({ cert: other.cert, key: old.key }),
      `${unusable}the private key does not belong to the certificate`,
    ],
    [() => files.put(expired), `${STAYS}the certificate has expired on ${day}`],
    [() => Deno.remove(files.key), `${STAYS}cannot read --key ${files.key}: there is no such file`],
  ];
  for (const [damage, line] of bad) {
    await damage();
    await renew(program, /\n/);
    assertEquals(program.said, `${line}\n`);
    assertEquals([await subjectAt(program.port), await ping(client)], ["old", "PONG"]);
  }
  await files.put(other);
  await renew(program, pattern(IN_USE));
  assertEquals(await subjectAt(program.port), "other");
});

for (const workers of ["1", "2"]) {
  testWith(["openssl"], `renewal: of the authority of clients: workers: ${workers}`, async () => {
    if (signals.ignore) return;
    await using there = await world("server", "ada");
    const { files, certificates, authority: before, made: [server, ada] } = there;
    const after = await certificates.selfSigned({ subject: "/CN=after" });
    const bob = await certificates.signedBy(after, { subject: "/CN=bob" });
    await files.put(server, before);
    await using program = await files.start(["--workers", workers], true);
    const as = ({ cert, key }: Certificate) => ({
      ...{ port: program.port, timeoutMs: 5_000, waitForReady: false },
      tls: { ca: before.cert, cert, key },
    });
    await using old = await connect(as(ada));
    assertEquals(await ping(old), "PONG");
    await assertRejects(() => useOnce(as(bob)), RpcError);

    await Deno.writeTextFile(files.ca, after.cert);
    await renew(program, pattern(IN_USE), old);
    await useOnce(as(bob));
    await assertRejects(() => useOnce(as(ada)), RpcError);
    assertEquals(await ping(old), "PONG");
  });
}

async function useOnce(options: Parameters<typeof connect>[0]): Promise<void> {
  await using client = await connect(options);
  await ping(client);
}

testWith(["openssl"], "renewal: under nohup SIGHUP renews as well", async () => {
  if (signals.ignore) return;
  await using there = await world("old", "renewed");
  const { files, made: [old, renewed] } = there;
  await files.put(old);
  const server = [`${root}server.ts`, "--port", "0", "--cert", files.cert, "--key", files.key];
  const command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", Deno.execPath(), "run", "-A", ...server];
  await using program = await listening(command[0], command.slice(1));
  await files.put(renewed);
  await renew(program, pattern(IN_USE));
});

testInTerminal("renewal: SIGHUP renews in a terminal, and ends the server when the terminal closes", async () => {
  if (signals.ignore) return;
  await using there = await world("old", "renewed");
  const { files, authority: { cert: ca }, made: [old, renewed] } = there;
  await files.put(old);
  const server = [`${root}server.ts`, "--port", "0", "--cert", files.cert, "--key", files.key];
  const terminal = new PseudoTerminal([
    "sh",
    "-c",
    'echo "pid $$"; exec "$@"',
    "sh",
    Deno.execPath(),
    "run",
    "-A",
    ...server,
  ]);
  await terminal.until("pid ");
  const pid = parseInt(await terminal.until("\n"));
  await terminal.until("listening on 127.0.0.1:");
  const port = parseInt(await terminal.until("\n"));
  await using client = await connect({ port, tls: { ca } });
  await files.put(renewed);
  Deno.kill(pid, "SIGHUP");
  await terminal.until("a new certificate is in use");
  assertEquals(await ping(client), "PONG");
  const { promise: lost, resolve } = Promise.withResolvers<void>();
  await using watcher = await connect({
    port,
    tls: { ca },
    onState: (state) => state !== "open" && resolve(),
  });
  assertEquals(await ping(watcher), "PONG");
  await terminal[Symbol.asyncDispose](); // closes the terminal
  await lost;
});

// Files --------------------------------------------------------------------------------------------------------------

testWith(
  ["openssl"],
  "renewal: once a minute, also by the links of a Kubernetes secret; a problem is said once",
  async () => {
    await using there = await world("old", "renewed");
    const { made: [old, renewed] } = there;
    await using folder = await Folder.make();
    const put = async (name: string, { cert, key }: Pick<Certificate, "cert" | "key">) => {
      await Deno.mkdir(`${folder.path}/${name}`);
      await folder.write(`${name}/tls.crt`, cert);
      await folder.write(`${name}/tls.key`, key);
      await Deno.symlink(name, `${folder.path}/..new`);
      await Deno.rename(`${folder.path}/..new`, `${folder.path}/..data`);
    };
    await put("..1", old);
    for (const name of ["tls.crt", "tls.key"]) await Deno.symlink(`..data/${name}`, `${folder.path}/${name}`);
    const ask = () => ({
      cert: Deno.readTextFileSync(`${folder.path}/tls.crt`),
      key: Deno.readTextFileSync(`${folder.path}/tls.key`),
    });
    const clock = new FakeClock();
    const said: string[] = [];
    const used: ServerTls[] = [];
    const renewal = new Renewal({ ask, first: ask(), clock, note: (text) => said.push(text) });
    renewal.start((tls) => used.push(tls));
    await clock.advance(300_000);
    assertEquals([said, used], [[], []]);

    await put("..2", renewed);
    await clock.advance(60_000);
    assertEquals(said.splice(0), ["a new certificate is in use"]);
    assertEquals(used, [{ cert: renewed.cert, key: renewed.key }]);
    assertEquals(renewal.current, used[0]);

    await put("..3", { cert: old.cert, key: renewed.key });
    await clock.advance(300_000);
    const problem = "the old certificate stays in use: the private key does not belong to the certificate";
    assertEquals(said.splice(0), [problem]);
    await renewal.look();
    assertEquals(said.splice(0), [problem]);

    await put("..4", renewed);
    await clock.advance(60_000);
    assertEquals([said.splice(0), used.length], [["the certificate in use is the latest"], 1]);
    renewal.stop();
    assertEquals(clock.timers, 0);
  },
);

Deno.test("renewal: a program whose function gives no certificate any more keeps the one it has", async () => {
  const said: string[] = [];
  const used: ServerTls[] = [];
  const renewal = new Renewal({
    ask: () => ({}) as ServerTls,
    first: { cert: "the first", key: "its key" },
    clock: new FakeClock(),
    note: (text, event) => said.push(`${event}: ${text}`),
  });
  renewal.start((tls) => used.push(tls));
  await renewal.look();
  renewal.stop();
  assertEquals(said, ["renewal_failed: the old certificate stays in use: a server needs cert and key"]);
  assertEquals([used, renewal.current.cert], [[], "the first"]);
});

// The library --------------------------------------------------------------------------------------------------------

testWith(
  ["openssl"],
  "renewal: renew() of a server asks its function again, and reports what it cannot use",
  async () => {
    await using there = await world("old", "renewed");
    const { certificates, authority } = there;
    const [old, renewed] = there.made.map(pemOf);
    const expired = pemOf(await certificates.signedBy(authority, { days: -1 }));
    let give: () => ServerTls | Promise<ServerTls> = () => old;
    const errors: unknown[] = [];
    await using server = await serve({ port: 0, tls: () => give(), onError: (error) => errors.push(error) });
    const { port } = server;
    await using client = await connect({ port, tls: { ca: authority.cert } });
    assertEquals([await subjectAt(port), await ping(client)], ["old", "PONG"]);

    const cannot = `Cannot renew the certificate of ${server.address}, which stays in use: `;
    const bad: [() => ServerTls | Promise<ServerTls>, string][] = [
      [() => ({ ...renewed, key: old.key }), `${cannot}the private key does not belong to the certificate`],
      [() => Promise.reject(new Error("the vault is closed")), `${cannot}the vault is closed`],
      [
        () => expired,
        `${cannot}the certificate has expired on ${new Date(Date.now() - 86_400_000).toISOString().slice(0, 10)}`,
      ],
      [
        () => ({ ...renewed, ca: authority.cert }),
        `${cannot}whether clients need a certificate (ca) changes only with a restart`,
      ],
      [
        () => undefined as unknown as ServerTls,
        `${cannot}the function tls must give an object whose cert, key and ca are PEM text`,
      ],
      [() => ({}) as ServerTls, `${cannot}a server needs cert and key`],
    ];
    for (const [answer, message] of bad) {
      give = answer;
      await server.renew();
      assertEquals(errors.splice(0).map(String), [`TypeError: ${message}`]);
      assertEquals([await subjectAt(port), await ping(client)], ["old", "PONG"]);
    }

    // The last one asked is the last one used, however long the first takes.
    const { promise: slow, resolve } = Promise.withResolvers<ServerTls>();
    give = () => slow;
    const first = server.renew();
    await Promise.resolve(); // it has asked
    give = () => renewed;
    const second = server.renew();
    resolve(old);
    await Promise.all([first, second]);
    assertEquals([await subjectAt(port), await ping(client), errors], ["renewed", "PONG", []]);
  },
);

testWith(["openssl"], "renewal: a function that never answers holds up no later renewal, and no start", async () => {
  await using there = await world("old", "renewed");
  const [old, renewed] = there.made.map(pemOf);
  const clock = new FakeClock();
  const never = () => new Promise<ServerTls>(() => {});
  let give: () => ServerTls | Promise<ServerTls> = () => old;
  const errors: unknown[] = [];
  const server = createServer({ clock, onError: (error) => errors.push(error) });
  const { port, address } = await server.listen({ port: 0, tls: () => give() });
  give = never;
  const first = server.renew();
  await turn(); // it has asked
  give = () => renewed;
  const second = server.renew();
  await clock.advance(60_000);
  await Promise.all([first, second]);
  assertEquals(errors.map(String), [
    `TypeError: Cannot renew the certificate of ${address}, which stays in use: ` +
    "the function tls has not returned within 60 s",
  ]);
  assertEquals(await subjectAt(port), "renewed");
  const refused = assertRejects(
    () => server.listen({ port: 0, tls: never }),
    TypeError,
    "Cannot use TLS: the function tls has not returned within 60 s",
  );
  await clock.advance(60_000);
  await refused;
  const said: string[] = [];
  const looked = new Renewal({ ask: never, first: old, clock, note: (text) => said.push(text) }).look();
  await clock.advance(60_000);
  await looked;
  assertEquals(said, ["the old certificate stays in use: the function tls has not returned within 60 s"]);
  const ended = server.shutdown();
  await clock.advance(60_000);
  await ended;
});

testWith(["openssl"], "renewal: a server whose function fails at first does not listen, and says why", async () => {
  await using there = await world();
  const { certificates } = there;
  const tls = () => Deno.readTextFile(`${certificates.folder}/nothing`) as unknown as ServerTls;
  const error = await assertRejects(() => serve({ port: 0, tls }), TypeError);
  assertMatch(error.message, /^Cannot use TLS: No such file or directory/);
});

testWith(["openssl"], "renewal: without a function there is nothing to renew", async () => {
  await using there = await world("old");
  const { made: [{ cert, key }] } = there;
  await using server = await serve({ port: 0, tls: { cert, key } });
  await server.renew();
  await using plain = await serve({ port: 0 });
  await plain.renew();
});

testWith(["openssl"], "renewal: a client asks its function at each dial, for another authority too", async () => {
  await using there = await world("old");
  const { certificates, authority, made: [old] } = there;
  const after = await certificates.selfSigned({ subject: "/CN=after" });
  const renewed = await certificates.signedBy(after, { subject: "/CN=renewed" });
  let server = await serve({ port: 0, tls: pemOf(old) });
  const { port } = server;
  let ca = authority.cert;
  let asked = 0;
  await using client = await connect({
    port,
    waitForReady: false,
    tls() {
      asked++;
      if (ca === "") throw new Error("the vault is closed");
      return Promise.resolve({ ca });
    },
  });
  assertEquals([await ping(client), asked], ["PONG", 1]);

  await server.shutdown();
  server = await serve({ port, tls: pemOf(renewed) });
  await using _server = server;
  ca = "";
  const failing = await assertRejects(() => ping(client), RpcError);
  assertEquals(
    failing.message,
    `CONNECTION_LOST: no server can be reached, and waitForReady is false: cannot reach 127.0.0.1:${port}: the vault is closed`,
  );
  ca = after.cert;
  assertEquals((await client.reply("PING", {}, { waitForReady: true })).res, "PONG");
});

Deno.test("renewal: a client whose function never answers gives up in time", async () => {
  const clock = new FakeClock();
  const late = assertRejects(
    () => connect({ port: 1, clock, tls: () => new Promise(() => {}) }),
    RpcError,
    "no answer within 10000 ms",
  );
  await clock.advance(10_000);
  await late;
});

testWith(["openssl"], "renewal: run() with a function renews at SIGHUP, in its workers as well", async () => {
  if (signals.ignore) return;
  await using there = await world("old", "renewed");
  const { files, authority: { cert: ca }, made: [old, renewed] } = there;
  await files.put(old);
  await using folder = await Folder.make();
  await folder.write(
    "main.ts",
    `import { run } from "${root}mod.ts";
const text = (path: string) => Deno.readTextFile(path);
const tls = async () => ({ cert: await text("${files.cert}"), key: await text("${files.key}") });
if (import.meta.main) await run({ port: 0, tls, workerFlags: ["--config=${root}deno.json"] });
`,
  );
  for (const workers of ["1", "2"]) {
    await files.put(old);
    const main = [`--config=${root}deno.json`, `${folder.path}/main.ts`, "--workers", workers];
    await using program = await listening(Deno.execPath(), ["run", "-A", "--unstable-net", ...main]);
    assertEquals(await subjectAt(program.port), "old");
    await using client = await connect({ port: program.port, tls: { ca } });
    await files.put(renewed);
    await renew(program, pattern(IN_USE), client);
    assertEquals(await subjectAt(program.port), "renewed");
  }
});
