/** A server whose stderr is a pipe that nobody reads: neither its callers nor its end wait for that. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect } from "../../client.ts";

const mod = new URL("../../mod.ts", import.meta.url).href;
const server = new URL("../../server.ts", import.meta.url).href;
const config = new URL("../../deno.json", import.meta.url).pathname;

/** A server whose BUG throws, each time an error of another name, so that each is a line. SIGTERM ends it. */
const SERVER = `
  import { accessLog, command, serve } from ${JSON.stringify(mod)};
  let calls = 0;
  const BUG = command({ handler: ({ text = "" }) => { throw Object.assign(new Error(text), { name: "Bug" + calls++ }); } });
  const SAME = command({ handler: () => { throw new Error("a bug that a caller can provoke"); } });
  const middleware = Deno.args.includes("access log") ? [accessLog()] : [];
  const server = await serve({ port: 0, commands: { BUG, SAME }, middleware });
  console.log(server.port);
  Deno.addSignalListener("SIGTERM", async () => {
    await server.shutdown({ graceMs: 1_000 });
    Deno.exit(7);
  });`;

/** The same as a program of `run()`, which ends it. */
const PROGRAM = `
  import { command } from ${JSON.stringify(mod)};
  import { run } from ${JSON.stringify(server)};
  let calls = 0;
  const BUG = command({ handler: ({ text = "" }) => { throw Object.assign(new Error(text), { name: "Bug" + calls++ }); } });
  await run({ port: 0, commands: { BUG } });`;

/** A server in a process of its own; its stderr is read only where a test does so. */
class Stalled implements AsyncDisposable {
  private constructor(readonly process: Deno.ChildProcess, readonly port: number) {}

  static async start(program = SERVER, ...args: string[]): Promise<Stalled> {
    const file = await Deno.makeTempFile({ suffix: ".ts" });
    await Deno.writeTextFile(file, program);
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "--allow-net=127.0.0.1", `--config=${config}`, file, ...args],
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const { value = "" } = await process.stdout.pipeThrough(new TextDecoderStream()).getReader().read();
    await Deno.remove(file);
    return new Stalled(process, Number(value.match(/\d+\s*$/)?.[0]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.process.status;
    // What is in a pipe that nobody has read stays a resource of this process.
    await this.process.stderr.cancel().catch(() => {});
  }
}

for (const [what, program, code] of [["a server", SERVER, 7], ["a program of run()", PROGRAM, 0]] as const) {
  Deno.test(`a stderr that nobody reads holds up neither the callers nor the end of ${what}`, async () => {
    await using server = await Stalled.start(program);
    await using failing = await connect<typeof COMMANDS>({ port: server.port, timeoutMs: 20_000 });
    await using other = await connect({ port: server.port, timeoutMs: 20_000 });
    // More than a pipe holds, by far: 64 kinds of 4,000 characters a second, and the last ones at the end.
    for (let round = 0; round < 10; round++) {
      const calls = Array.from({ length: 100 }, () => failing.reply("BUG", { text: "x".repeat(5_000) }).catch(codeOf));
      assertEquals(new Set(await Promise.all(calls)), new Set(["INTERNAL"]));
      assertEquals((await other.reply("PING")).res, "PONG");
    }
    server.process.kill("SIGTERM");
    assertEquals((await server.process.status).code, code);
  });
}

Deno.test("an access log that nobody reads holds up neither the callers nor the end", async () => {
  await using server = await Stalled.start(SERVER, "access log");
  await using client = await connect({ port: server.port, timeoutMs: 20_000 });
  // More than a pipe and the lines that are kept: 60 bytes for each call.
  for (let round = 0; round < 30; round++) {
    const calls = Array.from({ length: 1_000 }, () => client.call.PING());
    assertEquals(new Set(await Promise.all(calls)), new Set(["PONG"]));
  }
  server.process.kill("SIGTERM");
  assertEquals((await server.process.status).code, 7);
});

Deno.test("an access log that is read has a line for each call", async () => {
  await using server = await Stalled.start(SERVER, "access log");
  const text = new Response(server.process.stderr).text();
  {
    await using client = await connect({ port: server.port, timeoutMs: 20_000 });
    for (let round = 0; round < 10; round++) {
      await Promise.all(Array.from({ length: 1_000 }, () => client.call.PING()));
    }
  }
  server.process.kill("SIGTERM");
  assertEquals((await server.process.status).code, 7);
  const lines = (await text).split("\n").slice(0, -1);
  assertEquals(lines.filter((line) => / PING ok /.test(line)).length, 10_000);
  assertEquals(lines.length, 10_000);
});

Deno.test("a thousand errors that are alike are a few lines, and the last is not lost at the end", async () => {
  await using server = await Stalled.start();
  const text = new Response(server.process.stderr).text();
  {
    await using client = await connect<typeof COMMANDS>({ port: server.port, timeoutMs: 20_000 });
    for (let round = 0; round < 10; round++) {
      await Promise.all(Array.from({ length: 100 }, () => client.reply("SAME", {}).catch(codeOf)));
    }
  }
  server.process.kill("SIGTERM");
  assertEquals((await server.process.status).code, 7);
  const lines = (await text).split("\n").slice(0, -1);
  let told = 0;
  for (const line of lines) {
    assertMatch(line, /^packline: error in SAME for 127\.0\.0\.1:\d+: Error: a bug that a caller can provoke \| at /);
    told += 1 + Number(line.match(/\(and ([\d,]+) more like this\)$/)?.[1].replaceAll(",", "") ?? 0);
  }
  assertEquals(told, 1_000);
  assert(lines.length < 30, `${lines.length} lines`);
});

/** For the types of the calls alone. */
declare const COMMANDS: {
  BUG: import("../../mod.ts").Command<{ text?: string }, null>;
  SAME: import("../../mod.ts").Command<Record<never, never>, null>;
};

function codeOf({ code }: { code: string }): string {
  return code;
}
