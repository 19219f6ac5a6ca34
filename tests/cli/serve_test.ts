/** `server.ts` as a program: what it says, and how it ends. */

import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { flagOf, UsageError } from "../../cli/arguments.ts";
import { readSettings } from "../../cli/service_flags.ts";
import { connect } from "../../client.ts";
import { DEFAULT_LIMITS, LIMIT_NAMES, type Limits, MAY_BE_ENDLESS } from "../../limits.ts";
import { Folder, Program, root, run } from "../production/programs.ts";
import type { commands } from "./own_service.ts";
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
  const args = Object.entries(limits).flatMap(([name, value]) => [
    flagOf(name),
    name.endsWith("Ms") ? `${value}ms` : String(value),
  ]);
  await using server = await ServerScript.start(...args);
  await using client = await connect({ port: server.port });
  assertEquals((await client.reply("INFO")).res.limits, limits);
});

Deno.test("no limit takes a flag out of its range, and each says so by name", () => {
  const bad = ["-1", "NaN", "Infinity", "-Infinity", '"5"', "1e3", "0x10", "5 ", "five", "2147483648"];
  const rule = /^(.*): (it must be a whole number from 1 to |it must be from 1ms to |write a time as ).*$/;
  const limit = (name: keyof Limits, ...args: string[]) => readSettings(args).settings.limits[name];
  for (const name of LIMIT_NAMES) {
    const isTime = name.endsWith("Ms");
    assertEquals(limit(name, flagOf(name), isTime ? "1ms" : "1"), 1);
    const endless = MAY_BE_ENDLESS.has(name);
    if (endless) assertEquals(limit(name, flagOf(name), "none"), Infinity);
    for (const text of ["0", ...bad, ...(endless ? [] : ["none"]), isTime ? "1KiB" : "1.5"]) {
      for (const args of [[flagOf(name), text], [`${flagOf(name)}=${text}`]]) {
        const { message } = assertThrows(() => limit(name, ...args), UsageError);
        const [, start] = message.match(rule) ?? [];
        assertEquals(start, `${flagOf(name)} ${text}`, message);
      }
    }
    assertThrows(() => limit(name, flagOf(name)), UsageError, "needs a value");
  }
});

Deno.test("a limit that was set by a flag is kept", async () => {
  await using server = await ServerScript.start("--max-payload-bytes", "10", "--idle-timeout", "none");
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
  assertMatch(help.stdout, /^ {2}--max-total-held-bytes SIZE .*\(default 256MiB\)$/m);
  assertMatch(help.stdout, /^ {2}--max-payload-bytes SIZE .*\(default 1MiB\)$/m);
  assertMatch(help.stdout, /^ {2}--idle-timeout TIME .*\(default 5m\)$/m);
  assertEquals(help.stdout.match(/^ {2}--/gm)?.length, 19 + LIMIT_NAMES.length);
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
    [["--grace", "-1"], "--grace -1: write a time as 500ms, 2s, 5m or 1h; a bare number is seconds"],
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

// --commands ---------------------------------------------------------------------------------------------------------

const OWN_SERVICE = "tests/cli/own_service.ts";

/** `deno task serve`, in the folder of the project. */
async function startTask(...flags: string[]): Promise<Program & { port: number }> {
  const options = { cwd: root, env: { NO_COLOR: "1" } };
  const args = ["task", "--quiet", "serve", "--port", "0", ...flags];
  const program = await Program.start(Deno.execPath(), args, /listening on .*\n/, options);
  return Object.assign(program, { port: Number(program.said.match(/:(\d+)\n/)?.[1]) });
}

for (const workers of Deno.build.os === "linux" ? ["1", "2"] : ["1"]) {
  Deno.test(`--commands serves a module of commands, with ${workers} workers`, async () => {
    await using server = await startTask("--commands", `./${OWN_SERVICE}`, "--workers", workers);
    await using client = await connect<typeof commands>({ port: server.port });
    assertEquals(await client.reply("GREET", { name: "Ada" }), { res: "Hello, Ada!" });
    await server.hear(/^greeting Ada$/m);
    server.kill("SIGTERM");
    assertEquals((await server.status).code, 0);
  });
}

Deno.test("without --commands the task's server keeps no permission to read files or start programs", async () => {
  await using folder = await Folder.make();
  const serve = new URL("../../cli/serve.ts", import.meta.url);
  const code = `
    import { main } from "${serve}";
    const names = ["read", "run"];
    const states = () => names.map((name) => Deno.permissions.querySync({ name }).state).join(" ");
    console.log("before:", states());
    await main(["--port", "0"]);
    console.log("after:", states());`;
  await folder.write("main.ts", code);
  const args = ["run", `--config=${root}deno.json`, "--allow-net", "--allow-read", "--allow-run"];
  await using program = await Program.start(Deno.execPath(), [...args, `${folder.path}/main.ts`], /listening on .*\n/);
  program.kill("SIGTERM");
  await program.hear(/^before: granted granted$/m);
  await program.hear(/^after: prompt prompt$/m);
});

Deno.test("a module without commands that can be served is one line and exit code 1", async () => {
  await using folder = await Folder.make();
  const files: [name: string, code: string, text: string][] = [
    ["none.ts", "export const x = 1;", '"x": it is not a command; make it with command()'],
    ["empty.ts", "export default {};", "export each by its name, as in export const GREET = command(...)"],
    ["nothing.ts", "const x = 1;", "export each by its name, as in export const GREET = command(...)"],
    ["bad.ts", "export const commands = { A: 1 };", '"A": it is not a command; make it with command()'],
    ["number.ts", "export default { A: { handler() {}, number: 2 } };", "it must be an integer from 16 up"],
    ["throws.ts", 'throw new Error("boom\\nand more");', "Error: boom (at file://throws.ts:1:7)"],
    ["odd.ts", "throw Object.create(null);", "thrown: something that cannot be shown"],
    ["import.ts", 'import "./nope.ts";', "/nope.ts does not exist"],
    ["typo.ts", "export const commands = ;", "Expression expected (at file://typo.ts:1:25)"],
    ["inner.ts", 'import "./throws.ts";', "Error: boom (at file://"],
    ["twice.ts", "null.x;", "(reading 'x') (at file://twice.ts:1:6)"],
  ];
  for (const [name, code] of files) await folder.write(name, code);
  const outcome = async (name: string, permission: string) => {
    const args = ["run", "--no-prompt", "--allow-net=127.0.0.1", permission, `${root}server.ts`, "--port", "0"];
    const path = `${folder.path}/${name}`;
    const { code, text } = await run(Deno.execPath(), [...args, "--commands", path], { env: { NO_COLOR: "1" } });
    assertEquals(code, 1, text);
    assertEquals(text.split("\n").length, 2, text);
    return text.replaceAll(path, name);
  };
  for (const [name, , text] of files) assertStringIncludes(await outcome(name, "--allow-read"), text);
  assertEquals(await outcome("gone.ts", "--allow-read"), "packline: cannot load gone.ts: there is no such file\n");
  const unread = await outcome("bad.ts", "--allow-read=.");
  assertEquals(unread, "packline: cannot load bad.ts: no permission; run it with --allow-read=bad.ts\n");
});

// Signals ------------------------------------------------------------------------------------------------------------

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
