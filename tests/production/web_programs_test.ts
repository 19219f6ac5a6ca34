/** WebSockets to the program, and what others make of them: curl, balancers, and a page in a browser. */

import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { connect, createServer, serve } from "../../mod.ts";
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
import { answerTo, commands, PAGE, Raw, upgradeOf, useAll } from "../support/web_socket_service.ts";

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
