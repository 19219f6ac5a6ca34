/** `server.ts` as a program: what it says, and how it ends. */

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { flagOf, UsageError } from "../../cli/arguments.ts";
import { readCommandLine } from "../../cli/serve.ts";
import { connect } from "../../client.ts";
import { DEFAULT_LIMITS, LIMIT_NAMES, MAY_BE_ENDLESS } from "../../limits.ts";
import { frame, runScript, ServerScript } from "./scripts.ts";

const STOPPING = "packline: stopping within 10 s; a second signal ends it at once";

Deno.test("the server says in one line where it listens", async () => {
  await using server = await ServerScript.start();
  assertMatch(server.firstLine, /^packline \d+\.\d+\.\d+ listening on 127\.0\.0\.1:[1-9]\d*$/);
  using conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await conn.write(frame({ cmd: 1 }));
  const reply = new Uint8Array(64);
  assertEquals(reply.subarray(0, await conn.read(reply) as number), frame({ res: "PONG" }));
});

Deno.test("every limit is a flag, and each sets its own", async () => {
  const limits = Object.fromEntries(
    LIMIT_NAMES.map((name, index) => [name, MAY_BE_ENDLESS.has(name) ? 1_000 : DEFAULT_LIMITS[name] + 1 + index]),
  );
  const args = Object.entries(limits).flatMap(([name, value]) => [flagOf(name), String(value)]);
  await using server = await ServerScript.start(...args);
  await using client = await connect({ port: server.port });
  assertEquals((await client.reply("INFO")).res.limits, limits);
});

Deno.test("no limit takes a flag out of its range, and each says so by name", () => {
  const bad = ["-1", "NaN", "Infinity", "-Infinity", '"5"', "1.5", "1e3", "0x10", "5 ", "five", "2147483648"];
  for (const name of LIMIT_NAMES) {
    assertEquals(readCommandLine([flagOf(name), "1"]), { [name]: 1 });
    const endless = MAY_BE_ENDLESS.has(name);
    if (endless) assertEquals(readCommandLine([flagOf(name), "none"]), { [name]: Infinity });
    for (const text of ["0", ...bad, ...(endless ? [] : ["none"])]) {
      for (const args of [[flagOf(name), text], [`${flagOf(name)}=${text}`]]) {
        const { message } = assertThrows(() => readCommandLine(args), UsageError);
        const [, start] = message.match(/^(.*): it must be a whole number from 1 to \d+(, or none)?$/) ?? [];
        assertEquals(start, `${flagOf(name)} ${text}`, message);
      }
    }
    assertThrows(() => readCommandLine([flagOf(name)]), UsageError, "needs a value");
  }
});

Deno.test("a limit that was set by a flag is kept", async () => {
  await using server = await ServerScript.start("--max-payload-bytes", "10", "--idle-timeout-ms", "none");
  using conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await conn.write(frame({ cmd: 1, more: true, than: "ten" }));
  const reply = new Uint8Array(1024);
  const replyBytes = await conn.read(reply) as number;
  assertMatch(new TextDecoder().decode(reply.subarray(0, replyBytes)), /BAD_FRAME.*the limit is 10/);
});

Deno.test("--help tells every flag, with its unit and default, and --version the version", async () => {
  const [help, version] = await Promise.all([
    runScript("server", ["--help"], { permissions: [] }),
    runScript("server", ["--version"], { permissions: [] }),
  ]);
  assertEquals([help.code, help.stderr, version.code, version.stderr], [0, "", 0, ""]);
  assertMatch(version.stdout, /^packline \d+\.\d+\.\d+\n$/);
  assertMatch(help.stdout, /^ {2}--port NUMBER .*\(default 1235\)$/m);
  assertMatch(help.stdout, /^ {2}--max-in-flight COUNT .*\(default 1024\)$/m);
  assertMatch(help.stdout, /^ {2}--max-total-held-bytes BYTES .*\(default 268435456\)$/m);
  assertMatch(help.stdout, /^ {2}--max-payload-bytes BYTES .*\(default 1048576\)$/m);
  assertMatch(help.stdout, /^ {2}--idle-timeout-ms MILLISECONDS .*\(default 300000\)$/m);
  assertEquals(help.stdout.match(/^ {2}--/gm)?.length, 10 + LIMIT_NAMES.length);
});

Deno.test("a command line that makes no sense is one line and exit code 2", async () => {
  const refused: [args: string[], text: string][] = [
    [["--port", "abc"], "--port abc: a port is a whole number from 0 to 65535"],
    [["--port", "70000"], "--port 70000: a port is a whole number from 0 to 65535"],
    [["--port", "1.5"], "--port 1.5: a port is a whole number from 0 to 65535"],
    [["--port="], "--port needs a value"],
    [["--port", "1", "--port", "2"], "--port is given 2 times"],
    [["--max-in-flight", "0"], "--max-in-flight 0: it must be a whole number from 1 to 2147483647"],
    [["--max-depth=x"], "--max-depth x: it must be a whole number from 1 to 1000"],
    [["--grace", "-1"], "--grace -1: a time is a number of seconds from 0, up to 2147483.647"],
    [["--bogus\x1b[2J"], "unknown flag --bogus\\u001b[2J"],
    [["stray"], 'unexpected argument "stray"'],
  ];
  await Promise.all(refused.map(async ([args, text]) => {
    const outcome = await runScript("server", args, { permissions: [] });
    assertEquals(outcome, { code: 2, stdout: "", stderr: `packline: ${text}; see --help\n` });
  }));
});

Deno.test("an address it cannot listen on is one line and exit code 1", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `127.0.0.1:${taken.addr.port}`;
  const args = ["--port", String(taken.addr.port)];
  assertEquals(await runScript("server", args), {
    code: 1,
    stdout: "",
    stderr:
      `packline: cannot listen on ${address}: the port is in use; choose another with --port, 0 for any that is free\n`,
  });
  assertEquals(await runScript("server", args, { permissions: [] }), {
    code: 1,
    stdout: "",
    stderr: `packline: no permission to listen on ${address}; run it with --allow-net=${address}\n`,
  });
});

const signals: Deno.Signal[] = Deno.build.os === "windows" ? [] : ["SIGHUP", "SIGINT", "SIGTERM"];

const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

for (const signal of signals) {
  Deno.test(`${signal} ends the server once what is in flight is answered`, async () => {
    await using server = await ServerScript.start();
    const conn = await callInFlight(server.port, 0.3);
    server.process.kill(signal);
    const reply = new Uint8Array(64);
    const replyBytes = await conn.read(reply) as number;
    assertMatch(new TextDecoder().decode(reply.subarray(0, replyBytes)), /seq.*res.*DONE/);
    conn.close();
    assertEquals(await server.end(), { code: 0, stdout: "", stderr: `${STOPPING}\n` });
  });

  Deno.test(`a second ${signal} ends the server at once`, async () => {
    await using server = await ServerScript.start("--grace", "60");
    using _conn = await callInFlight(server.port, 60);
    const startMs = performance.now();
    server.process.kill(signal);
    assertEquals(await server.complaint(), STOPPING.replace("10 s", "60 s"));
    // Again and again: those that come too soon are taken for copies of the first.
    const again = setInterval(() => kill(server.process, signal), 10);
    const outcome = await server.end();
    clearInterval(again);
    assertEquals(outcome, { code: EXIT_CODES[signal as keyof typeof EXIT_CODES], stdout: "", stderr: "" });
    assert(performance.now() - startMs < 5_000, "it did not wait for the call");
  });
}

Deno.test("--grace is how long the server waits for a call in flight", { ignore: signals.length === 0 }, async () => {
  await using server = await ServerScript.start("--grace", "0.05");
  const conn = await callInFlight(server.port, 60);
  server.process.kill("SIGTERM");
  const reply = new Uint8Array(64);
  const replyBytes = await conn.read(reply) as number;
  assertMatch(new TextDecoder().decode(reply.subarray(0, replyBytes)), /seq.*err.*CANCELLED/);
  conn.close();
  assertEquals((await server.end()).code, 0);
});

/** A connection on which a DELAY is running: the PING behind it has been answered. */
async function callInFlight(port: number, sleep: number): Promise<Deno.TcpConn> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new Uint8Array([...frame({ sleep, cmd: 2, seq: 1 }), ...frame({ cmd: 1, seq: 2 })]));
  const reply = new Uint8Array(frame({ seq: 2, res: "PONG" }).length);
  assertEquals(await conn.read(reply), reply.length);
  assertEquals(reply, frame({ seq: 2, res: "PONG" }));
  return conn;
}

function kill(process: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    process.kill(signal);
  } catch {
    // It has ended already.
  }
}
