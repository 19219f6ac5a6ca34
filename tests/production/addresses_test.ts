/** One option, every path: what names a host, a port or a socket means the same wherever it is given. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { createServer, run as runService, serve, type ServeOptions } from "../../server.ts";
import { connectInMemory } from "../../testing.ts";
import { serveOne } from "../support/serve_one.ts";
import { memoryPair } from "../../transport/memory.ts";
import { Certificates } from "./certificates.ts";
import { Program, root, run, testWith } from "./programs.ts";

const PONG = { res: "PONG" };

/** What a host can be called, and what an address is then told to be. */
const HOSTS: [hostname: string, shown: RegExp][] = [
  ["127.0.0.1", /^127\.0\.0\.1:\d+$/],
  ["localhost", /^(127\.0\.0\.1|\[::1\]):\d+$/],
  ["::1", /^\[::1\]:\d+$/],
  ["[::1]", /^\[::1\]:\d+$/],
];

/** Certificates for this machine under each of those names. */
async function withCertificates(use: (certificates: Certificates, ways: Record<string, Way>) => Promise<void>) {
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned({ subject: "/CN=authority" });
  const names = "IP:127.0.0.1,IP:::1,DNS:localhost";
  const [server, client] = await Promise.all([
    certificates.signedBy(authority, { names }),
    certificates.signedBy(authority, { names }),
  ]);
  const ca = authority.cert;
  await use(certificates, {
    "plain": { serve: undefined, connect: undefined, serveFlags: [], callFlags: [] },
    "TLS": {
      serve: { cert: server.cert, key: server.key },
      connect: { ca },
      serveFlags: ["--cert", server.certPath, "--key", server.keyPath],
      callFlags: ["--ca", authority.certPath],
    },
    "mutual TLS": {
      serve: { cert: server.cert, key: server.key, ca },
      connect: { ca, cert: client.cert, key: client.key },
      serveFlags: ["--cert", server.certPath, "--key", server.keyPath, "--ca", authority.certPath],
      callFlags: ["--ca", authority.certPath, "--cert", client.certPath, "--key", client.keyPath],
    },
  });
}

interface Way {
  serve: ServeOptions["tls"];
  connect: ConnectOptions["tls"];
  serveFlags: string[];
  callFlags: string[];
}

const DENO = ["run", "--no-prompt", "--unstable-net", "--allow-net", `--allow-run=${Deno.execPath()}`];

testWith(["openssl"], "a host may be called by any of its names, with and without TLS, at either end", async () => {
  await withCertificates(async (_, ways) => {
    for (const [name, way] of Object.entries(ways)) {
      for (const [hostname, shown] of HOSTS) {
        await using server = await serve({ hostname, port: 0, tls: way.serve });
        assertMatch(server.address, shown, name);
        await using client = await connect({ hostname, port: server.port, tls: way.connect });
        assertEquals(await client.reply("PING"), PONG, `${name}, ${hostname}`);
      }
    }
  });
});

testWith(["openssl"], "so it is by the flags of both scripts, and with workers", async () => {
  await withCertificates(async ({ folder }, ways) => {
    const deno = [...DENO, `--allow-read=${folder}`];
    for (const [name, { serveFlags, callFlags }] of Object.entries(ways)) {
      for (const workers of Deno.build.os === "linux" ? ["1", "2"] : ["1"]) {
        await Promise.all(HOSTS.map(async ([hostname]) => {
          const flags = ["--hostname", hostname, "--port", "0", "--workers", workers, ...serveFlags];
          const server = [...deno, `${root}server.ts`, ...flags];
          await using program = await Program.start(Deno.execPath(), server, /listening on .*:\d+\n/);
          const [, port] = await program.hear(/:(\d+)\n/);
          const call = ["--hostname", hostname, "--port", port, ...callFlags, "PING"];
          assertEquals(
            await run(Deno.execPath(), [...deno, `${root}client.ts`, ...call]),
            { code: 0, text: 'you said {"res":"PONG"}\n' },
            `${name}, ${hostname}, workers: ${workers}`,
          );
        }));
      }
    }
  });
});

testWith(["openssl"], "a permission for the name is enough, but for TLS, which says what it needs", async () => {
  await withCertificates(async ({ folder }, ways) => {
    using free = Deno.listen({ hostname: "localhost", port: 0 });
    const { hostname: address, port } = free.addr;
    free.close();
    const start = (net: string, flags: string[]) =>
      Program.start(
        Deno.execPath(),
        ["run", "--no-prompt", `--allow-read=${folder}`, `--allow-net=${net}`, `${root}server.ts`]
          .concat("--hostname", "localhost", "--port", String(port), flags),
        /listening on .*:\d+\n/,
      );
    {
      await using plain = await start(`localhost:${port}`, []);
      assertMatch(plain.said, /listening on /);
    }
    const needed = `localhost:${port},${address}:${port}`;
    for (const name of ["TLS", "mutual TLS"]) {
      const { message } = await assertRejects(() => start(`localhost:${port}`, ways[name].serveFlags), Error);
      const line = `packline: no permission to listen on localhost:${port}; run it with --allow-net=${needed}\n`;
      assert(message.endsWith(`:\n${line}`), message);
      await using secure = await start(needed, ways[name].serveFlags);
      assertMatch(secure.said, /listening on /);
    }
  });
});

/** Options that are none of their values, and how they are refused. */
const REFUSED: [options: Record<string, unknown>, text: string][] = [
  [{ hostname: null }, "Cannot use null as hostname: it must be a name or an address, such as 127.0.0.1 or localhost"],
  [{ hostname: "" }, 'Cannot use "" as hostname: it must be a name or an address, such as 127.0.0.1 or localhost'],
  [{ hostname: 5 }, "Cannot use 5 as hostname: it must be a name or an address, such as 127.0.0.1 or localhost"],
  [
    { hostname: ["::1"] },
    'Cannot use ["::1"] as hostname: it must be a name or an address, such as 127.0.0.1 or localhost',
  ],
  ...["localhost:1235", "127.0.0.1:1235", "[::1]:1235", "http://[::1]", "tcp://localhost", "localhost/", " ::1", "a b"]
    .map(
      (hostname): typeof REFUSED[number] => [
        { hostname },
        `Cannot use "${hostname}" as hostname: it must be a name or an address, such as 127.0.0.1 or localhost`,
      ],
    ),
  [{ port: "1235" }, 'Cannot use "1235" as port: it must be a whole number from '],
  [{ port: null }, "Cannot use null as port: it must be a whole number from "],
  [{ port: -1 }, "Cannot use -1 as port: it must be a whole number from "],
  [{ port: 65_536 }, "Cannot use 65536 as port: it must be a whole number from "],
  [{ port: 1.5 }, "Cannot use 1.5 as port: it must be a whole number from "],
  [{ port: NaN }, "Cannot use NaN as port: it must be a whole number from "],
  [{ path: null }, "Cannot use null as path: it must be the path of a unix socket"],
  [{ path: "" }, 'Cannot use "" as path: it must be the path of a unix socket'],
  [
    { tls: null },
    "Cannot use null as tls: it must be an object whose cert, key and ca are PEM text, or a function that gives one",
  ],
  [
    { tls: true },
    "Cannot use true as tls: it must be an object whose cert, key and ca are PEM text, or a function that gives one",
  ],
  [
    { tls: { ca: new Uint8Array(1) } },
    "Cannot use an object as tls: it must be an object whose cert, key and ca are PEM text, or a function that gives one",
  ],
  [{ tls: { Cert: "c", key: "k" } }, 'Cannot use "Cert" in tls: unknown option; the options are cert, key, ca'],
  [
    { tls: { cert: "c", key: "k", rejectUnauthorized: true } },
    'Cannot use "rejectUnauthorized" in tls: unknown option',
  ],
  [{ clock: null }, "Cannot use null as clock: it must be an object"],
  [
    { clock: { now: () => 0 } },
    "Cannot use an object as clock: it must be an object with the functions now, setTimer ",
  ],
  [
    { tls: Promise.resolve({}) },
    "Cannot use an object as tls: it must be an object whose cert, key and ca are PEM text",
  ],
  [
    { commands: Promise.resolve({}) },
    "Cannot use an object as commands: it must be an object with the commands by name",
  ],
  [{ commands: new Map() }, "Cannot use an object as commands: it must be an object with the commands by name, as "],
  [{ commands: null }, "Cannot use null as commands: it must be an object"],
  [{ hostName: "::1" }, 'Cannot use "hostName": unknown option; the options are hostname, port, '],
];

const SERVERS_OWN: typeof REFUSED = [
  [{ reusePort: "yes" }, 'Cannot use "yes" as reusePort: it must be true or false'],
  [{ onError: {} }, "Cannot use an object as onError: it must be a function"],
  [{ middleware: () => {} }, "Cannot use a function as middleware: it must be an array of functions"],
  [{ maxinflight: 5 }, 'Cannot use "maxinflight": unknown option; the options are '],
];

const CLIENTS_OWN: typeof REFUSED = [
  [{ port: 0 }, "Cannot use 0 as port: it must be a whole number from 1 to 65535"],
  [{ dial: "tcp" }, 'Cannot use "tcp" as dial: it must be a function'],
  [{ retryBudget: { perSec: 1 } }, 'Cannot use "perSec" in retryBudget: unknown option; the options are perCall, '],
  [{ retryBudget: { perCall: NaN } }, "Cannot use NaN as perCall in retryBudget: it must be a number from 0 up"],
  [{ retryBudget: [] }, "Cannot use [] as retryBudget: it must be an object"],
  [{ signal: {} }, "Cannot use an object as signal: it must be an AbortSignal"],
  [{ meta: "" }, 'Cannot use "" as meta: it must be an object of texts, as { token: '],
  [{ meta: null }, "Cannot use null as meta: it must be an object of texts, as { token: "],
  [{ maxInFlight: null }, "Cannot use null as maxInFlight: it must be a whole number from 1"],
  [{ maxPayloadBytes: null }, "Cannot use null as maxPayloadBytes: it must be a whole number from 1"],
  [{ commands: { GREET: null } }, 'Cannot use commands: "GREET" is not a command; make it with command()'],
  [{ commands: { GREET: { number: 0 } } }, 'Cannot use commands: "GREET" is not a command; make it with command()'],
  [{ sequenced: 1 }, "Cannot use 1 as sequenced: it must be true or false"],
  [{ onError: () => {} }, 'Cannot use "onError": unknown option; the options are '],
];

Deno.test("an option that is none of its values, or does not exist, is refused by name", async () => {
  for (const [options, text] of [...REFUSED, ...SERVERS_OWN]) {
    const error = await assertRejects(() => serve({ port: 0, ...options } as ServeOptions), Error);
    assert(error.message.startsWith(text), error.message);
    assert(error instanceof TypeError || error instanceof RangeError, error.name);
  }
  for (const [options, text] of [...REFUSED, ...CLIENTS_OWN]) {
    const error = await assertRejects(() => connect({ port: 1, ...options } as ConnectOptions), Error);
    assert(error.message.startsWith(text), error.message);
    assert(error instanceof TypeError || error instanceof RangeError, error.name);
  }
  for (const [options, text] of SERVERS_OWN.slice(1)) {
    const error = await assertRejects(() => serveOne(memoryPair()[0], options as ServeOptions), TypeError);
    assert(error.message.startsWith(text), error.message);
  }
  for (const options of [null, 5, "127.0.0.1", []]) {
    await assertRejects(() => serve(options as ServeOptions), TypeError, "as options: it must be an object");
    await assertRejects(() => connect(options as ConnectOptions), TypeError, "as options: it must be an object");
  }
});

Deno.test("a misspelt name in what the function tls gives is refused by name, at both ends", async () => {
  const tls = () => ({ Cert: "c", key: "k" }) as object as { cert: string; key: string };
  const text = 'the function tls must give an object whose cert, key and ca are PEM text, and no "Cert"';
  assertEquals((await assertRejects(() => serve({ port: 0, tls }), TypeError)).message, `Cannot use TLS: ${text}`);
  const error = await assertRejects(() => connect({ port: 1, tls }), RpcError);
  assertEquals(error.message, `CONNECTION_LOST: cannot reach 127.0.0.1:1: ${text}`);
});

Deno.test({
  name: "reusePort without --unstable-net is refused, and does not end the process",
  ignore: "listenDatagram" in Deno,
  async fn() {
    const text = "Cannot use reusePort: run the program with --unstable-net";
    await assertRejects(() => serve({ port: 0, reusePort: true }), TypeError, text);
  },
});

Deno.test("options that exclude one another are refused by name, and none of them wins", async () => {
  const [path, tls] = ["/nowhere/p.sock", { cert: "a certificate", key: "a key" }];
  const listening: [options: ServeOptions, text: string][] = [
    [{ path, port: 0 }, "Cannot use path together with hostname or port: it says where to listen"],
    [{ path, hostname: "::1" }, "Cannot use path together with hostname or port: it says where to listen"],
    [{ path, tls }, "Cannot use TLS on a unix socket: give either a path or tls"],
    [{ path, reusePort: true }, "Cannot use reusePort with path or fd: only a port can be shared"],
    [{ fd: 3, reusePort: true }, "Cannot use reusePort with path or fd: only a port can be shared"],
  ];
  for (const [options, text] of listening) {
    await using server = createServer();
    const all = [
      () => serve(options),
      () => server.listen(options),
      () => runService({ ...options, args: ["--port=0"] }),
    ];
    for (const listen of all) assertEquals((await assertRejects(listen, TypeError)).message, text);
  }
  const byDial = "Cannot use dial together with hostname, port, path, url or tls: it makes the connection";
  const dial = () => Promise.reject(new Error("not dialed"));
  const dialing: [options: ConnectOptions, text: string][] = [
    [{ path, port: 1 }, "Cannot use path together with hostname or port: it says where the server is"],
    [{ path, hostname: "::1" }, "Cannot use path together with hostname or port: it says where the server is"],
    [{ path, tls: {} }, "Cannot use tls with unix:/nowhere/p.sock: a unix socket has no TLS"],
    [
      { servers: ["a:1", `unix:${path}`], tls: {} },
      "Cannot use tls with unix:/nowhere/p.sock: a unix socket has no TLS",
    ],
    ...[{ hostname: "a" }, { port: 1 }, { path }, { url: "ws://a" }, { tls: {} }].map((place): [object, string] => {
      return [{ dial, ...place }, byDial];
    }),
  ];
  for (const [options, text] of dialing) {
    assertEquals((await assertRejects(() => connect({ lazy: true, ...options }), TypeError)).message, text);
  }
});

Deno.test("connectInMemory() refuses an address, and what is no server", async () => {
  await using server = createServer();
  const text = 'Cannot use "port": unknown option; the options are commands, ';
  await assertRejects(() => connectInMemory(server, { port: 1 } as object), TypeError, text);
  await assertRejects(() => connectInMemory(server, null as never), TypeError, "as options: it must be an object");
  const text2 = "Cannot connect: the server must be what createServer() or serve() gives";
  for (const wrong of [undefined, {}]) await assertRejects(() => connectInMemory(wrong as never), TypeError, text2);
});

Deno.test("a host that cannot be listened on or reached is one line of both scripts", async () => {
  const cases: [flags: string[], server: RegExp, client: RegExp][] = [
    [
      ["--hostname", "nowhere.invalid"],
      /^packline: cannot listen on nowhere\.invalid:1235: .*\n$/,
      /^packline: cannot reach nowhere\.invalid:1235: .*\n$/,
    ],
    [["--hostname", "a b"], /^packline: --hostname a b: it must be a name .*\n$/, /^packline: --hostname a b: .*\n$/],
    [["--hostname="], /^packline: --hostname needs a value.*\n$/, /^packline: --hostname needs a value.*\n$/],
  ];
  await Promise.all(cases.map(async ([flags, server, client]) => {
    const [listened, called] = await Promise.all([
      run(Deno.execPath(), [...DENO, `${root}server.ts`, ...flags]),
      run(Deno.execPath(), [...DENO, `${root}client.ts`, ...flags, "PING"]),
    ]);
    assertMatch(listened.text, server);
    assertMatch(called.text, client);
    assert(listened.code > 0 && called.code > 0);
  }));
});
