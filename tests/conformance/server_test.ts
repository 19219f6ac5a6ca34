/** The conformance kit, and the servers that it checks: packline's own passes, over TCP and as a program. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Certificates, pemOf } from "../production/certificates.ts";
import { Folder, testWith } from "../production/programs.ts";
import { serve } from "../support/demo_server.ts";
import { linesOf } from "./report.ts";
import { ALL_SERVER_CHECKS, checkServer } from "./server_kit.ts";
import { checkShutdown, StartedServer } from "./shutdown_checks.ts";
import { fileOf, VECTORS } from "./vectors_file.ts";
import { SCENARIOS } from "./scenarios/scenarios.ts";
import type { Message, Place } from "./wire.ts";
import { WrongServer } from "./wrong_server.ts";

const root = new URL("../../", import.meta.url);

Deno.test("vectors.json is what `vectors/` says: `deno run --allow-write tests/conformance/vectors_file.ts` writes it", async () => {
  assertEquals(await Deno.readTextFile(new URL("vectors.json", import.meta.url)), fileOf(VECTORS));
});

Deno.test("every check cites a heading of PROTOCOL.md that exists, and has a name of its own", async () => {
  const document = await Deno.readTextFile(new URL("PROTOCOL.md", root));
  const headings = new Set([...document.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading));
  for (const checks of [ALL_SERVER_CHECKS, SCENARIOS]) {
    assertEquals(checks.filter(({ heading }) => !headings.has(heading)), []);
    assertEquals(new Set(checks.map(({ heading, name }) => `${heading}: ${name}`)).size, checks.length);
  }
  assert(ALL_SERVER_CHECKS.length > 380 && SCENARIOS.length > 120);
});

Deno.test("packline's server passes every check", async () => {
  await using server = await serve({ port: 0, logLevel: "error", onError: () => {} });
  const outcomes = await checkServer({ hostname: "127.0.0.1", port: server.port });
  const open = outcomes.filter(({ result }) => result !== "passed");
  const ofTime = ["`idleTimeoutMs`", "`frameTimeoutMs`", "`halfOpenTimeoutMs`"]; // below, with limits that are short enough
  assertEquals(open.filter(({ result, name }) => result === "failed" || !ofTime.includes(name)), []);
  assertEquals(outcomes.length, ALL_SERVER_CHECKS.length);
});

/** Where the transport matters: sizes, cuts, ends. */
const OF_TRANSPORT = ["The frame", "Long frames", "Broken frames", "Order", "The end of a connection", "Signs of life"];

async function checkTransport(place: Place): Promise<void> {
  const outcomes = await checkServer(place, { only: ({ heading }) => OF_TRANSPORT.includes(heading) });
  assertEquals(outcomes.filter(({ result }) => result !== "passed"), [], linesOf(outcomes).join("\n"));
  assert(outcomes.length > 90, `only ${outcomes.length} checks`);
}

testWith(["openssl"], "the kit checks a server over TLS", async () => {
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned({ subject: "/CN=authority" });
  const tls = pemOf(await certificates.signedBy(authority));
  await using server = await serve({ port: 0, tls, logLevel: "error", onError: () => {} });
  await checkTransport({ hostname: "127.0.0.1", port: server.port, tls: { caCerts: [authority.cert] } });

  const address = `127.0.0.1:${server.port}`;
  const passed = await kit("--server", address, "--level", "1", "--ca", authority.certPath);
  assertEquals([passed.code, passed.err], [0, ""], passed.out);
  const stranger = await kit("--server", address, "--tls");
  assertEquals(stranger.code, 1);
  assertMatch(stranger.err, /^cannot check the server: .*UnknownIssuer\n$/);
});

Deno.test("the kit checks a server on a unix socket", async () => {
  await using folder = await Folder.make();
  const path = `${folder.path}/p.sock`;
  await using _server = await serve({ path, logLevel: "error", onError: () => {} });
  await checkTransport({ path });
  const passed = await kit("--server", `unix:${path}`, "--level", "1");
  assertEquals([passed.code, passed.err], [0, ""], passed.out);
});

Deno.test("packline's server keeps short limits", async () => {
  const limits = { idleTimeoutMs: 1_000, frameTimeoutMs: 1_000, halfOpenTimeoutMs: 1_000 };
  await using server = await serve({ port: 0, ...limits, logLevel: "error", onError: () => {} });
  const only = ({ heading }: { heading: string }) => heading === "Limits";
  const outcomes = await checkServer({ hostname: "127.0.0.1", port: server.port }, { only });
  assertEquals(outcomes.filter(({ result }) => result !== "passed"), [], linesOf(outcomes).join("\n"));
  assert(outcomes.length >= 5);
});

Deno.test("packline's server as a program passes the checks of a shutdown", async () => {
  const command = [Deno.execPath(), "run", "--no-prompt", "--allow-net=127.0.0.1", `${root.pathname}server.ts`];
  await using server = await StartedServer.start([...command, "--port", "0"]);
  const outcomes = await checkShutdown(server);
  assertEquals(outcomes.filter(({ result }) => result !== "passed"), []);
  assert(outcomes.length >= 8);
});

/** Runs the kit as its task does. */
async function kit(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const program = new URL("main.ts", import.meta.url).pathname;
  const permissions = ["--no-prompt", "--allow-net", "--allow-run", "--allow-read", "--allow-write"];
  const child = new Deno.Command(Deno.execPath(), { args: ["run", ...permissions, program, ...args], cwd: root });
  const { code, stdout, stderr } = await child.output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out, err };
}

Deno.test("the kit as a program: a line for each failed check, a summary by level, and the exit code", async () => {
  await using right = await serve({ port: 0, logLevel: "error", onError: () => {} });
  const passed = await kit("--server", `127.0.0.1:${right.port}`, "--level", "1");
  assertEquals([passed.code, passed.err], [0, ""]);
  assertMatch(passed.out, /^(skipped: 1 check: .*\n)*level 1: 2\d\d passed, 0 failed, 3 skipped\n$/);

  const wrong = {
    reply: (message: Message) => [message.err === "CMD_NOT_FOUND" ? { ...message, err: "NO" } : message],
  };
  await using server = new WrongServer(right.port, wrong);
  const failed = await kit("--server", `127.0.0.1:${server.place.port}`, "--level", "1");
  assertEquals(failed.code, 1);
  const line = 'failed: level 1, "The wire on one page": a failure that has a code alone: ' +
    'sent {cmd: "FOO"}; came {err: "NO"}; right: {err: "CMD_NOT_FOUND"}';
  assert(failed.out.split("\n").includes(line), failed.out);

  for (
    const args of [[], ["--server"], ["--client"], ["--server", "a:1", "--level", "5"], ["--server", "a:1", "--ca"]]
  ) {
    const { code, err } = await kit(...args);
    assertEquals(code, 2);
    assertMatch(err, /^usage: deno task conformance --server HOST:PORT/);
  }
  const noDriver = await kit("--client", "--", "sh", "-c", "exit 1");
  assertEquals(noDriver.code, 1);
  assertEquals(noDriver.err, "cannot check the client: the driver has not answered its first step\n");
  const nobody = await kit("--server", "127.0.0.1:1");
  assertEquals([nobody.code, nobody.out], [1, ""]);
  assertMatch(nobody.err, /^cannot check the server: .*\n$/);
});
