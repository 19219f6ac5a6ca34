/** `client.ts --tap` as a program, against servers that take load. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect } from "../../client.ts";
import { jsonLines, plainLines } from "../../cli/tap.ts";
import type { TappedCall } from "../../handlers/tap.ts";
import { command, RpcError } from "../../mod.ts";
import { overEach, TCP, TLS, UNIX } from "../support/transports.ts";
import { connectTcp } from "../support/peers.ts";
import { withServer } from "../support/test_server.ts";
import { LineReader, runClient, runScript, ServerScript, startScript } from "./scripts.ts";

/** The script, tapping. */
class TapScript implements AsyncDisposable {
  readonly process: Deno.ChildProcess;
  readonly #stdout: LineReader;
  readonly #stderr: LineReader;

  private constructor(args: readonly string[], permissions?: string[]) {
    this.process = startScript("client", ["--tap", ...args], { permissions });
    this.#stdout = new LineReader(this.process.stdout);
    this.#stderr = new LineReader(this.process.stderr);
  }

  /** Starts it; the tap is on. */
  static async start(args: readonly string[], permissions?: string[]): Promise<TapScript> {
    const script = new TapScript(args, permissions);
    const said = await script.#stderr.read();
    assertMatch(said ?? "", /^packline: watching the calls of .+; Ctrl-C ends it$/);
    return script;
  }

  /** The next line. */
  async line(): Promise<string> {
    const line = await this.#stdout.read();
    if (line === undefined) throw new Error(`it has ended: ${await this.#stderr.rest()}`);
    return line;
  }

  /** What is left on both outputs when it has ended. */
  async rest(): Promise<{ status: Deno.CommandStatus; stdout: string; stderr: string }> {
    const [status, stdout, stderr] = await Promise.all([
      this.process.status,
      this.#stdout.rest(),
      this.#stderr.rest(),
    ]);
    return { status, stdout, stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.process.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.rest();
  }
}

const LINE =
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z 127\.0\.0\.1:\d+ +(\S+) +(\S+) +(\d+\.\d) ms +(\d+) in +(\d+) out$/;

Deno.test("--tap shows a line for each call, and a server without --tap refuses", async () => {
  await using server = await ServerScript.start("--tap");
  await using tap = await TapScript.start(["--port", String(server.port)]);
  await runClient(server.port, "PING");
  const [, name, code, , received, sent] = (await tap.line()).match(LINE) ?? [];
  assertEquals([name, code, received, sent], ["PING", "ok", "9", "13"]);
  assertEquals((await runClient(server.port, "NO_SUCH")).code, 1);
  assertEquals((await tap.line()).match(LINE)?.slice(1, 3), ["NO_SUCH", "CMD_NOT_FOUND"]);

  await using closed = await ServerScript.start();
  assertEquals(await runClient(closed.port, "--tap"), {
    code: 1,
    stdout: "",
    stderr: "packline: the server does not let its calls be watched: start it with --tap\n",
  });
});

Deno.test("under load, what --tap shows and what it counts as left out adds up to the calls made", async () => {
  for (const json of [false, true]) {
    await using server = await ServerScript.start("--tap");
    await using tap = await TapScript.start(["--port", String(server.port), ...json ? ["--json"] : []]);
    const told = { shown: 0, leftOut: 0, expected: Infinity };
    const reading = (async () => {
      while (told.shown + told.leftOut < told.expected) {
        const line = await tap.line();
        const [, count] = line.match(json ? /^\{"leftOut":(\d+)\}$/ : /^([\d,]+) left out$/) ?? [];
        if (count === undefined) assert(json ? JSON.parse(line).ms >= 0 : LINE.test(line), line);
        if (count === undefined) told.shown++;
        else told.leftOut += Number(count.replaceAll(",", ""));
      }
    })();
    const { code } = await runClient(server.port, ..."--bench ECHO data=1 -c 4 -P 64 -n 30000".split(" "));
    assertEquals(code, 0);
    const { res } = JSON.parse((await runClient(server.port, "STATS", "--json")).stdout);
    const { TAP, ...others } = res.commands as Record<string, { calls: number }>;
    assertEquals([TAP.calls, others.ECHO.calls], [0, 30_000]);
    told.expected = Object.values(others).reduce((sum, { calls }) => sum + calls, 1); // and this STATS
    await runClient(server.port, "DELAY", "0"); // a line more, for a reader that waits at the exact number already
    await reading;
    assert([told.expected, told.expected + 1].includes(told.shown + told.leftOut), JSON.stringify(told));
    if (told.shown + told.leftOut === told.expected) {
      assertMatch(await tap.line(), /DELAY|^1 left out$|^\{"leftOut":1\}$/);
    }
    assert(told.leftOut > 0, "the load was no load");
  }
});

Deno.test("--tap COMMAND and --slow select at the server", async () => {
  await using server = await ServerScript.start("--tap");
  const port = ["--port", String(server.port)];
  await using delays = await TapScript.start([...port, "DELAY", "--json"]);
  await using slow = await TapScript.start([...port, "--slow", "100ms", "--json"]);
  await runClient(server.port, "PING");
  await runClient(server.port, "DELAY", "0");
  await runClient(server.port, "DELAY", "0.12");
  const commandOf = (line: string) => JSON.parse(line).command;
  assertEquals([commandOf(await delays.line()), commandOf(await delays.line())], ["DELAY", "DELAY"]);
  const { command, code, ms, receivedBytes, sentBytes, ...more } = JSON.parse(await slow.line());
  assertEquals([command, code, Object.keys(more)], ["DELAY", null, ["time", "peer"]]);
  assert(ms >= 100 && receivedBytes > 0 && sentBytes > 0);
  const typo = await runClient(server.port, "--tap", "DELAI");
  assertEquals([typo.code, typo.stderr], [1, "packline: command: the server has no such command\n"]);
});

Deno.test("Ctrl-C ends --tap, and the server has one reader fewer", async () => {
  await using server = await ServerScript.start("--tap");
  for (let round = 0; round < 10; round++) { // more than a server takes at once
    await using tap = await TapScript.start(["--port", String(server.port)]);
    tap.process.kill("SIGINT");
    const { status, stdout, stderr } = await tap.rest();
    assertEquals([status.signal, status.code, stdout, stderr], ["SIGINT", 130, "", ""]);
  }
});

Deno.test("--tap ends with 3 when the server is gone", async () => {
  const served = await withServer({ tap: true });
  await using tap = await TapScript.start(["--port", String(served.port)]);
  await served[Symbol.asyncDispose]();
  const { status, stdout, stderr } = await tap.rest();
  assertEquals([status.code, stdout], [3, ""]);
  assertMatch(stderr, /^packline: .+\n$/);
});

Deno.test("--tap | head ends with the reader of its output", async () => {
  await using served = await withServer({ tap: true });
  const script = startScript("client", ["--tap", "--port", String(served.port)]);
  const stderr = new LineReader(script.stderr);
  await stderr.read();
  await script.stdout.cancel();
  const peer = await connectTcp(served.port);
  const isOver = script.status;
  let ended = false;
  void isOver.then(() => ended = true);
  while (!ended) await peer.ask({ cmd: 1 });
  assertEquals([(await isOver).code, await stderr.rest()], [0, ""]);
  await peer[Symbol.asyncDispose]();
});

Deno.test("what a peer sends as a command or a code cannot forge a line, a column or a colour", async () => {
  const FAIL = command(({ code }: { code: string }) => {
    throw new RpcError(code);
  });
  await using served = await withServer({ tap: true, commands: { FAIL } });
  await using plain = await TapScript.start(["--port", String(served.port)]);
  await using json = await TapScript.start(["--port", String(served.port), "--json"]);
  await using client = await connect({ port: served.port });
  const forged = [
    "A\n2026-01-01T00:00:00.000Z 10.0.0.1:1 PING ok 0.1 ms 9 in 13 out",
    "12 left out",
    "\n12 left out",
    "PING         ok              0.1 ms",
    "\x1b[31mred\x1b[0m\x07",
    "\u202etfel ot thgir\u2028",
    "-",
    "ok",
    '"quoted"',
    "",
    "{}",
  ];
  const readable = (text: string) => /^[\x21-\x7e]+$/.test(text) && !text.includes('"') && !["-"].includes(text);
  for (const name of forged) {
    await client.outcome(name);
    const line = await plain.line();
    const quoted = line.slice(25).replace(/^\S+ +/, "").replace(/ +CMD_NOT_FOUND .*$/, "");
    if (readable(name)) assertEquals(quoted, name);
    else assertEquals(JSON.parse(quoted), name);
    assertMatch(line, /^[\x20-\x7e]+$/);
    assertMatch(line, /^\d{4}-\S+Z 127\.0\.0\.1:\d+ .* CMD_NOT_FOUND +\d+\.\d ms +\d+ in +27 out$/);
    const text = await json.line();
    assertMatch(text, /^[\x20-\x7e]+$/);
    assertEquals([JSON.parse(text).command, JSON.parse(text).code], [name, "CMD_NOT_FOUND"]);
  }
  for (const code of ["ok", "a b", "X\nY"]) {
    await client.outcome("FAIL", { code });
    assert((await plain.line()).includes(` ${JSON.stringify(code)} `));
    assertEquals(JSON.parse(await json.line()).code, code);
  }
});

Deno.test("parameters, results and meta are in no line", async () => {
  await using served = await withServer({ tap: true });
  await using tap = await TapScript.start(["--port", String(served.port), "--json"]);
  await using client = await connect({ port: served.port });
  await client.call("ECHO", { data: "a-secret" }, { meta: { token: "a-secret" } });
  const line = await tap.line();
  assertEquals(Object.keys(JSON.parse(line)), ["time", "peer", "command", "code", "ms", "receivedBytes", "sentBytes"]);
  assert(!line.includes("secret"));
});

overEach("--tap is the same over each transport", async (transport) => {
  await using served = await withServer({ tap: true }, transport);
  const { port, path, tls } = served.address;
  const permissions = path === undefined
    ? ["--allow-net", "--allow-read"]
    : [`--allow-net=unix:${path}`, "--allow-read", "--allow-write"];
  const folder = await Deno.makeTempDir();
  try {
    if (tls?.ca !== undefined) await Deno.writeTextFile(`${folder}/ca.pem`, String(tls.ca));
    const where = path === undefined ? ["--port", String(port)] : ["--unix", path];
    if (tls !== undefined) where.push("--ca", `${folder}/ca.pem`);
    await using tap = await TapScript.start(where, permissions);
    await using client = await connect({ port, path, tls });
    await client.call.PING();
    assertMatch(await tap.line(), /^\S+Z \S.* PING +ok +\d+\.\d ms +\d+ in +\d+ out$/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}, [TCP, TLS, UNIX]);

Deno.test("with workers --tap sees one of them, and says so", { ignore: Deno.build.os !== "linux" }, async () => {
  await using server = new DirectServer();
  const port = await server.port();
  const script = startScript("client", ["--tap", "--port", String(port)]);
  const stderr = new LineReader(script.stderr);
  try {
    assertMatch(
      await stderr.read() ?? "",
      /^packline: watching the calls of 127\.0\.0\.1:\d+, worker [12] only: the others are not seen; Ctrl-C ends it$/,
    );
  } finally {
    script.kill("SIGKILL");
    await Promise.all([script.status, stderr.rest(), script.stdout.cancel()]);
  }
});

/** The server's script with two workers, which needs more permissions. */
class DirectServer implements AsyncDisposable {
  readonly #process = startScript("server", ["--port", "0", "--workers", "2", "--tap"], {
    permissions: ["--unstable-net", "--allow-net", `--allow-run=${Deno.execPath()}`],
  });
  readonly #stdout = new LineReader(this.#process.stdout);
  readonly #stderr = new LineReader(this.#process.stderr);

  async port(): Promise<number> {
    const line = await this.#stdout.read();
    return Number(line?.split(":").at(-1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await Promise.all([this.#process.status, this.#stdout.rest(), this.#stderr.rest()]);
  }
}

Deno.test("--tap refuses what it cannot be combined with, and another command by its name", async () => {
  const wrong: [args: string, text: string][] = [
    ["--slow 1s PING", "--slow needs --tap"],
    ["--tap PING a=1", '--tap takes one command, and no parameters, such as "a=1"'],
    ["--tap --bench PING", "--tap cannot be used with --bench"],
    ["--tap --list", "--tap cannot be used with --list"],
    ["--tap --repeat 2 PING", "--tap cannot be used with --repeat"],
    ["--tap STATS --watch 1", "--tap cannot be used with --watch"],
    ["--tap STATS --format prometheus", "--tap cannot be used with --format"],
    ["--tap --slow x", "--slow x: write a time as 500ms, 2s, 5m or 1h; a bare number is seconds"],
  ];
  for (const [args, text] of wrong) {
    const { code, stderr } = await runScript("client", args.split(" "), { permissions: [] });
    assertEquals([code, stderr], [2, `packline: ${text}; see --help\n`]);
  }
  await using served = await withServer({
    commands: {
      TAP: command(async function* () {
        yield 1;
      }),
    },
  });
  const { code, stderr } = await runClient(served.port, "--tap");
  assertEquals([code, stderr], [3, "packline: the server's TAP is another command\n"]);
  await using single = await withServer({ commands: { TAP: command(() => 1) } });
  const once = await runClient(single.port, "--tap");
  const text = "command TAP returns a single reply: this needs a command that answers with a stream";
  assertEquals([once.code, once.stderr], [3, `packline: ${text}\n`]);
});

Deno.test("the columns of --tap widen for what is longer, up to a bound", () => {
  const call: TappedCall = {
    ...{ time: "2026-01-01T12:00:00.000Z", peer: "10.0.0.7:1", command: "GET", code: null },
    ...{ ms: 0.25, receivedBytes: 9, sentBytes: 13 },
  };
  const lines = plainLines();
  const [first] = lines({ calls: [call], leftOut: 0 });
  assertEquals(
    first,
    "2026-01-01T12:00:00.000Z 10.0.0.7:1            GET          ok              0.3 ms       9 in      13 out",
  );
  const [long, second, count] = lines({
    calls: [{ ...call, command: "THUMBNAIL_CREATE" }, call],
    leftOut: 12_408,
  });
  assertEquals(long.indexOf(" ms"), second.indexOf(" ms"));
  assertEquals(count, "12,408 left out");
  lines({ calls: [{ ...call, command: "X".repeat(64) }], leftOut: 0 });
  assertEquals(lines({ calls: [call], leftOut: 0 })[0].length, first.length + 24 - 12);
  assertEquals(jsonLines({ calls: [call], leftOut: 3 }), [
    '{"time":"2026-01-01T12:00:00.000Z","peer":"10.0.0.7:1","command":"GET","code":null,"ms":0.25,"receivedBytes":9,"sentBytes":13}',
    '{"leftOut":3}',
  ]);
});
