/** Where `client.ts` finds its server: flags, a URL, the environment. */

import { assertEquals, assertMatch } from "@std/assert";
import { serve } from "../../server.ts";
import { Certificates, pemOf } from "../production/certificates.ts";
import { Folder, testWith } from "../production/programs.ts";
import { type Outcome, runScript } from "./scripts.ts";

const PONG: Outcome = { code: 0, stdout: 'you said {"res":"PONG"}\n', stderr: "" };

const complained = (text: string, code: number): Outcome => ({ code, stdout: "", stderr: `packline: ${text}\n` });

Deno.test("a server is named by short flags as in redis-cli, or by a URL", async () => {
  await using server = await serve({ port: 0, webOrigins: [] });
  const { port } = server;
  const ways = [
    ["-h", "127.0.0.1", "-p", `${port}`],
    ["-u", `packline://127.0.0.1:${port}`],
    ["-u", `ws://127.0.0.1:${port}/any/path`],
    [`--url=packline://localhost:${port}/`],
  ];
  await Promise.all(ways.map(async (way) => {
    assertEquals(await runScript("client", [...way, "PING"], { permissions: ["--allow-net"] }), PONG, way.join(" "));
  }));
});

Deno.test("PACKLINE_URL names a server, if it may be read and no flag does", async () => {
  await using server = await serve({ port: 0 });
  const address = `127.0.0.1:${server.port}`;
  const run = (url: string, permissions: string[], ...args: string[]) =>
    runScript("client", [...args, "PING"], {
      permissions: [`--allow-net=${address}`, ...permissions],
      env: { PACKLINE_URL: url },
    });
  const mayRead = "--allow-env=PACKLINE_URL";
  const refusal = "no permission to reach 127.0.0.1:1235; run it with --allow-net=127.0.0.1:1235";
  const elsewhere = complained(refusal, 3);
  const ignored = complained(`${refusal} (to use PACKLINE_URL, run it with ${mayRead})`, 3);
  const [read, unread, empty, flagged, wrong] = await Promise.all([
    run(`packline://${address}`, [mayRead]),
    run(`packline://${address}`, []),
    run("", [mayRead]),
    run("packline://127.0.0.1:1", [mayRead], "-p", `${server.port}`),
    run("redis://a", [mayRead]),
  ]);
  assertEquals([read, unread, empty, flagged], [PONG, ignored, elsewhere, PONG]);
  assertEquals(
    wrong,
    complained(
      "PACKLINE_URL redis://a: a URL is packline://HOST:PORT, packlines://HOST:PORT, wss://HOST/PATH or unix:PATH; see --help",
      2,
    ),
  );
});

Deno.test("what is no URL of a server is one line and exit code 2", async () => {
  const form = "a URL is packline://HOST:PORT, packlines://HOST:PORT, wss://HOST/PATH or unix:PATH";
  const refused: [url: string, text: string][] = [
    ...["packline:", "packline://", "packline://:1", "packline://a:x", "http://a", "a:1", "packline://a/b", "unix:"]
      .map((url): [string, string] => [url, form]),
    ["packline://[::1", form],
    ["packline://a:0", "port 0: a port is a whole number from 1 to 65535"],
    ["packline://a:70000", "port 70000: a port is a whole number from 1 to 65535"],
  ];
  await Promise.all(refused.map(async ([url, text]) => {
    const outcome = await runScript("client", ["--url", url, "PING"], { permissions: [] });
    assertEquals(outcome, complained(`--url ${url}: ${text}; see --help`, 2));
  }));
  const tls = await runScript("client", ["--url", "unix:a", "--tls", "PING"], { permissions: [] });
  assertEquals(tls, complained("a unix socket cannot be used with TLS; see --help", 2));
});

Deno.test("a user and a password in a URL are refused, and not shown", async () => {
  const form = "a URL is packline://HOST:PORT, packlines://HOST:PORT, wss://HOST/PATH or unix:PATH";
  const advice = "a token is sent with --meta, not in the URL; see --help";
  for (const [scheme, rest] of [["packline", "a"], ["packlines", "a:1"], ["wss", "a/rpc"]]) {
    const outcome = await runScript("client", ["--url", `${scheme}://user:pass@${rest}`, "PING"], { permissions: [] });
    assertEquals(outcome, complained(`--url ${scheme}://…@${rest}: ${form}; ${advice}`, 2));
  }
});

Deno.test("the scheme of a URL may have capitals", async () => {
  await using server = await serve({ port: 0 });
  const url = `PackLine://127.0.0.1:${server.port}`;
  assertEquals(await runScript("client", ["--url", url, "PING"], { permissions: ["--allow-net"] }), PONG);
  const outcome = await runScript("client", ["--url", "WSS://a/rpc", "--ca", "/none", "PING"], { permissions: [] });
  assertEquals(outcome, complained("cannot read --ca /none: no permission; run it with --allow-read=/none", 3));
});

Deno.test("a URL without a port means the usual one, and one with brackets an address of IPv6", async () => {
  const [host, six] = await Promise.all(
    ["packline://127.0.0.1", "packline://[::1]:1300"].map((url) =>
      runScript("client", ["--url", url, "PING"], { permissions: [] })
    ),
  );
  assertEquals(
    host.stderr,
    "packline: no permission to reach 127.0.0.1:1235; run it with --allow-net=127.0.0.1:1235\n",
  );
  assertEquals(six.stderr, "packline: no permission to reach [::1]:1300; run it with --allow-net=[::1]:1300\n");
});

Deno.test({
  name: "unix: names a socket",
  ignore: Deno.build.os === "windows",
  async fn() {
    await using folder = await Folder.make();
    const path = `${folder.path}/p.sock`;
    await using _server = await serve({ path });
    for (const url of [`unix:${path}`, `unix://${path}`]) {
      const permissions = ["--allow-net", `--allow-read=${path}`, `--allow-write=${path}`];
      assertEquals(await runScript("client", ["-u", url, "PING"], { permissions }), PONG, url);
    }
  },
});

testWith(["openssl"], "packlines:// speaks TLS, with the flags that it needs", async () => {
  await using certificates = await Certificates.begin();
  await using folder = await Folder.make();
  const authority = await certificates.selfSigned({ subject: "/CN=authority" });
  await folder.write("cert", authority.cert);
  await using server = await serve({ port: 0, tls: pemOf(await certificates.signedBy(authority)) });
  const run = (...args: string[]) =>
    runScript("client", ["-u", `packlines://127.0.0.1:${server.port}`, ...args, "PING"], {
      permissions: ["--allow-net", "--allow-read"],
    });
  assertMatch((await run()).stderr, /is not signed by a trusted authority; pass its authority with --ca\n$/);
  assertEquals(await run("--ca", `${folder.path}/cert`), PONG);
});

Deno.test({
  name: "a variable that is not UTF-8 is one line and exit code 2, for both programs",
  ignore: Deno.build.os === "windows",
  async fn() {
    const outcomeOf = async (variable: string, program: string, ...args: string[]) => {
      const path = new URL(`../../${program}`, import.meta.url).pathname;
      const { code, stderr } = await new Deno.Command("sh", {
        args: [
          "-c",
          `export ${variable}="$(printf '\\377')"; exec "$0" run --allow-env "$@"`,
          Deno.execPath(),
          path,
          ...args,
        ],
        stdout: "null",
        stderr: "piped",
      }).output();
      return [code, new TextDecoder().decode(stderr)];
    };
    assertEquals(
      await outcomeOf("PACKLINE_URL", "client.ts", "PING"),
      [2, "packline: PACKLINE_URL is not text in UTF-8; see --help\n"],
    );
    assertEquals(
      await outcomeOf("PACKLINE_HOSTNAME", "server.ts"),
      [2, "packline: PACKLINE_HOSTNAME is not text in UTF-8; see --help\n"],
    );
  },
});
