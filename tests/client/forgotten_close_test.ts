/**
 * Programs that forget `close()`: an idle client does not keep its program alive, an open call does. Over each transport,
 * as processes of their own; and without a connection, by what the client asks of its clock.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { type Transport, writeAll } from "../../transport/transport.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";
import { concat, message } from "../support/wire.ts";
import type { ServeOptions } from "../../server.ts";
import { serve } from "../support/demo_server.ts";
import { Certificates } from "../production/certificates.ts";
import { testWith } from "../production/programs.ts";

/** Longer than any of these programs takes, and far below the server's idle limit, which would end them too. */
const PATIENCE_MS = 60_000;

/** Calls, reads a stream, waits for nothing else. */
const PROGRAM = `
  const { connect } = await import(Deno.args[0]);
  const client = await connect(JSON.parse(Deno.args[1]));
  console.log(await client.call("PING"));
  client.call("DELAY", { sleep: 0.2 }, { timeoutMs: Infinity }).then(console.log);
  for await (const n of client.stream("TICK", { count: 2, interval: 0.2 })) console.log(n);
  const unread = client.stream("TICK", { interval: 3600 });
  console.log((await unread.next()).value);
  void unread.return();
  console.log("the last line");
`;

/** Runs the program, and answers with what it has said. */
async function runProgram(options: unknown, program = PROGRAM): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--allow-all",
      "-",
      import.meta.resolve("../../mod.ts"),
      JSON.stringify(options),
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(program));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  return new TextDecoder().decode(stdout);
}

const SAID = "PONG\n1\nDONE\n2\n1\nthe last line\n";

/** A program against a server of these options. */
async function forgets(options: ServeOptions, client: (port: number) => unknown): Promise<void> {
  await using server = await serve(options);
  assertEquals(sorted(await runProgram(client(server.port))), sorted(SAID), "in any order: two of them come at once");
}

function sorted(text: string): string[] {
  return text.split("\n").sort();
}

Deno.test("a program that forgets close() ends after its last call, over TCP", async () => {
  await forgets({ port: 0 }, (port) => ({ port }));
});

Deno.test("a program that forgets close() ends after its last call, over a unix socket", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/socket`;
  await forgets({ path }, () => ({ path }));
  await Deno.remove(folder, { recursive: true });
});

testWith(["openssl"], "a program that forgets close() ends after its last call, over TLS and mutual TLS", async () => {
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned();
  const [{ cert, key }, ada] = await Promise.all([certificates.signedBy(authority), certificates.signedBy(authority)]);
  const ca = authority.cert;
  await forgets({ port: 0, tls: { cert, key } }, (port) => ({ port, tls: { ca } }));
  await forgets({ port: 0, tls: { cert, key, ca } }, (port) => ({ port, tls: { ca, cert: ada.cert, key: ada.key } }));
});

Deno.test("a program that awaits close() goes on behind it", async () => {
  await using server = await serve({ port: 0 });
  const program = `
    const { connect } = await import(Deno.args[0]);
    const client = await connect(JSON.parse(Deno.args[1]));
    await client.call("PING");
    await client.close();
    console.log("the last line");
  `;
  assertEquals(await runProgram({ port: server.port }, program), "the last line\n");
});

Deno.test("a program ends soon after its last call, if the server answers nothing, not even a cancel", async () => {
  using mute = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const program = `
    const { connect } = await import(Deno.args[0]);
    const client = await connect(JSON.parse(Deno.args[1]));
    const stream = client.stream("TICK");
    const first = stream.next();
    console.log((await client.outcome.PING({}, { timeoutMs: 300 })).error.code);
    await stream.return();
    console.log((await first).done);
    const start = performance.now();
    addEventListener("unload", () => console.log(performance.now() - start < 5_000 ? "soon" : "late"));
  `;
  assertEquals(await runProgram({ port: mute.addr.port }, program), "TIMEOUT\ntrue\nsoon\n");
});

Deno.test("a program ends soon after its last call, though the server sends without a pause", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const flood = async () => {
    using conn = await listener.accept();
    await conn.read(new Uint8Array(1_000));
    await writeAll(conn, message({ res: "PONG", seq: 0 }));
    for (const notices = concat(...new Array(5_000).fill(message({ news: 1 })));;) await writeAll(conn, notices);
  };
  const flooded = assertRejects(flood, Error); // by the end of the program
  const program = `
    const { connect } = await import(Deno.args[0]);
    const client = await connect(JSON.parse(Deno.args[1]));
    console.log(await client.call.PING());
    const start = performance.now();
    addEventListener("unload", () => console.log(performance.now() - start < 20_000 ? "soon" : "late"));
  `;
  assertEquals(await runProgram({ port: listener.addr.port }, program), "PONG\nsoon\n");
  await flooded;
});

Deno.test("a call keeps its program alive, also beside one that has ended without its reply", async () => {
  const clock = new FakeClock();
  const network = memoryNetwork();
  const kept: boolean[] = [];
  const dial = async () =>
    Object.assign(await network.dial(), { ref: () => void kept.push(true), unref: () => void kept.push(false) });
  await using client: Client = await connect({ dial, clock });
  await using server = await ScriptedServer.accept(network);
  assertEquals(kept, [false], "nothing is open");
  const late = failure(client.call("A", {}, { timeoutMs: 500 }));
  await server.request();
  assertEquals(kept.splice(0), [false, true]);
  await clock.advance(510);
  assertEquals([await late, kept.splice(0)], ["TIMEOUT", [false]]);
  const call = client.call("A");
  assertEquals((await server.requests(2)).map(({ seq, cancel }) => [seq, cancel]), [[0, true], [1, undefined]]);
  assertEquals(kept.splice(0), [true]);
  await server.reply({ seq: 1, res: 1 });
  assertEquals([await call, kept.splice(0)], [1, [false]]);
  await server.reply({ seq: 0, err: "CANCELLED" });
  await turn();
  assertEquals(kept, []);
});

// Without a connection ------------------------------------------------------------------------------------------------

const NEVER = new Promise<never>(() => {});

async function failure(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, RpcError)).code;
}

const WITHOUT_ANSWER: Record<string, ConnectOptions> = {
  "a dial": { dial: () => NEVER },
  "several dials": { servers: ["a", "b"], dial: () => NEVER },
  "a failed dial": { dial: () => Promise.reject(new Error("down")) },
  "the question for servers": { servers: () => NEVER },
  "a failed question for servers": { servers: () => [] },
};

for (const [what, options] of Object.entries(WITHOUT_ANSWER)) {
  Deno.test(`a call that waits for ${what} keeps its program alive until it ends, and nothing does after it`, async () => {
    const clock = new FakeClock();
    await using client: Client = await connect({ ...options, clock, random: () => 1, lazy: true });
    const patience = new AbortController();
    const calls = [
      failure(client.call("A", {}, { timeoutMs: 500 })),
      failure(client.call("A", {}, { timeoutMs: Infinity, signal: patience.signal })),
    ];
    for (let step = 0; step < 400; step++) {
      await clock.advance(100);
      assert(clock.keeping > 0, `after ${step} steps`);
    }
    patience.abort();
    assertEquals(await Promise.all(calls), ["TIMEOUT", "CANCELLED"]);
    assertEquals([client.statistics().waiting, clock.keeping], [0, 0]);
    await clock.advance(20_000);
    assertEquals(clock.keeping, 0);
    const next = failure(client.call("A"));
    await turn();
    assert(clock.keeping > 0, "the next call waits as well");
    await client.close();
    assertEquals([await next, clock.keeping], ["CLOSED", 0]);
  });
}

Deno.test("connect() keeps its program alive until there is a connection, and no longer", async () => {
  const clock = new FakeClock();
  const dialed = Promise.withResolvers<Transport>();
  const network = memoryNetwork();
  const servers = () => Promise.resolve(["a", "b"]);
  const dial = (_signal: AbortSignal, server: string) => server === "a" ? dialed.promise : NEVER;
  const connecting: Promise<Client> = connect({ servers, dial, clock });
  await clock.advance(100);
  assert(clock.keeping > 0, "it dials");
  dialed.resolve(await network.dial());
  await using client = await connecting;
  await using server = await ScriptedServer.accept(network);
  assertEquals(clock.keeping, 0, "the other dial goes on");
  const call = client.call("A");
  await server.request();
  await server.reply({ seq: 0, res: 1 });
  assertEquals([await call, clock.keeping], [1, 0]);
  const failed = failure(connect({ dial: () => Promise.reject(new Error("down")), clock }));
  assertEquals([await failed, clock.keeping], ["CONNECTION_LOST", 0]);
});

Deno.test("a call that waits while a new connection is tested keeps its program alive, the test does not", async () => {
  const clock = new FakeClock();
  const network = memoryNetwork();
  await using client: Client = await connect({ dial: network.dial, clock, random: () => 0 });
  const first = await ScriptedServer.accept(network);
  first.cut();
  await turn();
  assertEquals(clock.keeping, 0);
  const call = failure(client.call("A", {}, { timeoutMs: 500 }));
  await using second = await ScriptedServer.accept(network, { answersPings: false });
  assertEquals((await second.request()).cmd, 1);
  assert(clock.keeping > 0, "the call waits");
  await clock.advance(510);
  assertEquals([await call, clock.keeping], ["TIMEOUT", 0]);
  assertEquals(client.state, "connecting");
});

Deno.test("a call that does not wait for a server, and one that is answered, keep nothing alive after them", async () => {
  const clock = new FakeClock();
  const network = memoryNetwork();
  let isDown = true;
  const dial = () => isDown ? Promise.reject(new Error("down")) : network.dial();
  await using client: Client = await connect({ dial, clock, random: () => 1, lazy: true });
  assertEquals(await failure(client.call("A", {}, { waitForReady: false })), "CONNECTION_LOST");
  assertEquals(clock.keeping, 0);
  const call = client.call("A");
  await turn();
  assert(clock.keeping > 0);
  isDown = false;
  const accepted = ScriptedServer.accept(network);
  await clock.advance(2_000);
  await using server = await accepted;
  await server.request();
  assertEquals(clock.keeping, 0, "the connection does it now");
  await server.reply({ seq: 0, res: 1 });
  assertEquals(await call, 1);
});

Deno.test("a program ends with its last call, whatever dial or question for servers has no answer", async () => {
  for (const never of ["dial", "servers"]) {
    const program = `
      const { connect } = await import(Deno.args[0]);
      const client = await connect({ lazy: true, ${never}: () => new Promise(() => {}) });
      console.log((await client.outcome.PING({}, { timeoutMs: 300 })).error.code);
      const start = performance.now();
      addEventListener("unload", () => console.log(performance.now() - start < 5_000 ? "soon" : "late"));
    `;
    assertEquals(await runProgram({}, program), "TIMEOUT\nsoon\n", never);
  }
});

Deno.test("a program ends soon after its last call, while a socket opens for it", async () => {
  // It takes connections into its queue, and never says anything.
  using mute = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = mute.addr;
  const program = `
    const { connect } = await import(Deno.args[0]);
    const client = await connect({ lazy: true, ...JSON.parse(Deno.args[1]) });
    console.log((await client.outcome.PING({}, { timeoutMs: 300 })).error.code);
    const start = performance.now();
    addEventListener("unload", () => console.log(performance.now() - start < 5_000 ? "soon" : "late"));
  `;
  for (const options of [{ port, tls: {} }, { url: `ws://127.0.0.1:${port}/` }]) {
    assertEquals(await runProgram(options, program), "TIMEOUT\nsoon\n", JSON.stringify(options));
  }
});

Deno.test("a program that awaits connect() goes on behind it, though nothing else keeps it", async () => {
  const program = `
    const { connect, memoryPair } = await import(Deno.args[0]);
    const later = new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, 100)));
    await connect({ dial: async () => (await later, memoryPair()[0]) });
    console.log("the last line");
  `;
  assertEquals(await runProgram({}, program), "the last line\n");
});
