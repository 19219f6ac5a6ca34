/** `run()`: a service of a user's own as a program, over its process. */

import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { UsageError } from "../../cli/arguments.ts";
import { readSettings } from "../../cli/service_flags.ts";
import { type Client, connect } from "../../client.ts";
import { run as runService } from "../../server.ts";
import { Folder, onFreePort, Program, root, run } from "../production/programs.ts";
import type { commands } from "./own_service.ts";

const SERVICE = `${root}tests/cli/own_service.ts`;
const NET = "--allow-net=127.0.0.1";
const ENV = [NET, "--allow-env", "--allow-read=/none"];
const WORKERS = ["--unstable-net", `--allow-run=${Deno.execPath()}`];

const linuxOnly = { ignore: Deno.build.os !== "linux" };

type Started = Program & { port: number };

/** A service, listening. */
async function start(deno: string[], args: string[] = [], env: Record<string, string> = {}): Promise<Started> {
  const program = await Program.start(Deno.execPath(), ["run", "--no-prompt", ...deno, ...args], /listening on .*\n/, {
    env: { NO_COLOR: "1", ...env },
  });
  return Object.assign(program, { port: Number(program.said.match(/:(\d+)\n/)?.[1]) });
}

/** The limits of a service, by its own word. */
async function limitsOf({ port }: Started): Promise<Record<string, number>> {
  await using client = await connect({ port });
  return (await client.reply("INFO")).res.limits;
}

Deno.test("run() serves the commands, and SIGTERM ends the process after the caller's own cleanup", async () => {
  await using service = await start([NET, SERVICE]);
  assertMatch(service.said, /^packline \d+\.\d+\.\d+ listening on 127\.0\.0\.1:\d+\n$/);
  await using client = await connect<typeof commands>({ port: service.port });
  assertEquals(await client.reply("GREET", { name: "Ada" }), { res: "Hello, Ada!" });
  service.kill("SIGTERM");
  assertEquals((await service.status).code, 0);
  await service.hear(/greeting Ada\npackline: stopping within 10 s; .*\ncleaned up\n$/);
});

Deno.test("a flag wins over the environment, that over code, and code over the default", async () => {
  const env = { PACKLINE_MAX_IN_FLIGHT: "8", PACKLINE_MAX_PAYLOAD_BYTES: "64KiB", PACKLINE_FRAME_TIMEOUT: "" };
  const flags = ["--max-in-flight", "9", "--write-timeout", "90s"];
  const cases: [deno: string[], flags: string[], maxInFlight: number, maxPayloadBytes: number][] = [
    [[NET], [], 7, 1_048_576], // no permission to read the environment
    [[NET, "--allow-env=PACKLINE_MAX_PAYLOAD_BYTES"], [], 7, 65_536],
    [[NET, "--allow-env"], [], 8, 65_536],
    [[NET, "--allow-env"], flags, 9, 65_536],
  ];
  for (const [deno, flags, maxInFlight, maxPayloadBytes] of cases) {
    await using service = await start([...deno, SERVICE], flags, env);
    const limits = await limitsOf(service);
    assertEquals([limits.maxInFlight, limits.maxPayloadBytes], [maxInFlight, maxPayloadBytes]);
    assertEquals([limits.idleTimeoutMs, limits.frameTimeoutMs], [undefined, 10_000]);
    assertEquals(limits.writeTimeoutMs, flags.length > 0 ? 90_000 : 120_000);
  }
});

Deno.test("where to listen is decided as a whole: a port in one place wins over a path in a lower one", () => {
  const where = (args: string[], options: Parameters<typeof readSettings>[1]) => {
    const { hostname, port, path } = readSettings(args, options).settings;
    return path ?? `${hostname}:${port}`;
  };
  assertEquals(where([], { path: "/run/a.sock" }), "/run/a.sock");
  assertEquals(where(["--port", "1300"], { path: "/run/a.sock" }), "127.0.0.1:1300");
  assertEquals(where(["--unix", "/run/b.sock"], { hostname: "0.0.0.0", port: 1300 }), "/run/b.sock");
  assertEquals(where(["--port", "1301"], { hostname: "0.0.0.0", port: 1300 }), "0.0.0.0:1301");
  const twice: [args: string[], text: string][] = [
    [["--unix", "/run/b.sock", "--port", "1"], "--unix cannot be used with --port"],
    [["--hostname", "::1", "--unix", "/run/b.sock"], "--unix cannot be used with --hostname"],
    [["--fd", "3", "--port", "1"], "--fd cannot be used with --port"],
    [["--fd", "3", "--unix", "/run/b.sock"], "--fd cannot be used with --unix"],
  ];
  for (const [args, text] of twice) assertThrows(() => where(args, {}), UsageError, text);
  const tls = { cert: "a certificate", key: "a key" };
  assertThrows(() => where(["--unix", "/run/b.sock"], { tls }), UsageError, "--unix cannot be used with TLS");
  assertThrows(
    () => where([], { path: "/run/a.sock", workers: 2 }),
    UsageError,
    "--workers cannot be used with --unix",
  );
});

Deno.test("--help lists the service's own commands and defaults, whatever the environment holds", async () => {
  const env = { NO_COLOR: "1", PACKLINE_PORT: "x" };
  const { code, text } = await run(Deno.execPath(), ["run", "--allow-env", SERVICE, "--help"], { env });
  assertMatch(text, /^ {2}GREET +name +Greets somebody$/m);
  assertMatch(text, /^ {2}PING +Answers PONG$/m);
  assertMatch(text, /^Usage: deno run --allow-net own_service\.ts \[flags\]$/m);
  assertMatch(text, /--max-in-flight is PACKLINE_MAX_IN_FLIGHT/);
  assertMatch(text, /^ {2}--port NUMBER .*\(default 0\)$/m);
  assertMatch(text, /^ {2}--max-in-flight COUNT .*\(default 7\)$/m);
  assertMatch(text, /^ {2}--idle-timeout TIME .*\(default none\)$/m);
  assertMatch(text, /^ {2}--half-open-timeout TIME .*\(default none\)$/m); // follows the one above
  assertMatch(text, /^ {2}--grace TIME .*\(default 10s\)$/m);
  assertEquals(code, 0);
});

Deno.test("what is wrong is one line and an exit code, and the caller's cleanup runs", async () => {
  const cases: [deno: string[], args: string[], env: Record<string, string>, code: number, text: string][] = [
    [[], ["--port", "1"], {}, 1, "no permission to listen on 127.0.0.1:1; run it with --allow-net=127.0.0.1:1"],
    [[NET], ["--prot", "1"], {}, 2, "unknown flag --prot (did you mean --port?); see --help"],
    [[NET], ["--version"], {}, 2, "unknown flag --version; see --help"],
    [
      [NET, "--allow-env"],
      [],
      { PACKLINE_GRACE: "soon" },
      2,
      "PACKLINE_GRACE soon: write a time as 500ms, 2s, 5m or 1h; a bare number is seconds; see --help",
    ],
    [[NET], ["--cert", "a.pem"], {}, 2, "TLS needs both --cert and --key; see --help"],
    [[NET], ["--workers", "2"], {}, 1, "cannot share a port; run it with --unstable-net"],
    // What the environment has set is named as there.
    [
      ENV,
      [],
      { PACKLINE_UNIX: "/none", PACKLINE_PORT: "1" },
      2,
      "PACKLINE_UNIX cannot be used with PACKLINE_PORT; see --help",
    ],
    [
      ENV,
      [],
      { PACKLINE_FD: "3", PACKLINE_UNIX: "/none" },
      2,
      "PACKLINE_FD cannot be used with PACKLINE_UNIX; see --help",
    ],
    [
      ENV,
      [],
      { PACKLINE_UNIX_MODE: "0660" },
      2,
      "PACKLINE_UNIX_MODE and PACKLINE_UNIX_GROUP need PACKLINE_UNIX; see --help",
    ],
    // A flag replaces what the environment says about another place.
    [
      [...ENV.filter((flag) => flag !== NET)],
      ["--port", "1"],
      { PACKLINE_UNIX: "/none", PACKLINE_UNIX_MODE: "0660" },
      1,
      "no permission to listen on 127.0.0.1:1; run it with --allow-net=127.0.0.1:1",
    ],
    [ENV, [], { PACKLINE_CERT: "a.pem" }, 2, "TLS needs both PACKLINE_CERT and PACKLINE_KEY; see --help"],
    [ENV, ["--ca", "a.pem"], { PACKLINE_CERT: "a.pem" }, 2, "TLS needs both --cert and --key; see --help"],
    [ENV, ["--cert", "/none"], { PACKLINE_KEY: "/none" }, 1, "cannot read --cert /none: there is no such file"],
    [ENV, ["--key", "/none"], { PACKLINE_CERT: "/none" }, 1, "cannot read PACKLINE_CERT /none: there is no such file"],
    [ENV, ["--fd", "3"], { PACKLINE_WORKERS: "2" }, 2, "PACKLINE_WORKERS cannot be used with --fd; see --help"],
    [
      ENV,
      ["--workers", "2"],
      { PACKLINE_UNIX: "/none", PACKLINE_WORKERS: "3" },
      2,
      "--workers cannot be used with PACKLINE_UNIX: only a port can be shared; see --help",
    ],
    [
      ENV,
      [],
      { PACKLINE_UNIX: "/none", PACKLINE_CERT: "/none", PACKLINE_KEY: "/none" },
      2,
      "PACKLINE_UNIX cannot be used with TLS; see --help",
    ],
  ];
  await Promise.all(cases.map(async ([deno, args, variables, code, text]) => {
    const env = { NO_COLOR: "1", ...variables };
    const outcome = await run(Deno.execPath(), ["run", "--no-prompt", ...deno, SERVICE, ...args], { env });
    assertEquals(outcome, { code, text: `cleaned up\npackline: ${text}\n` });
  }));
});

Deno.test("a server whose stdout is a file on a full disk serves all the same", linuxOnly, async () => {
  await onFreePort(async (port) => {
    const server = ["run", "--no-prompt", NET, `${root}server.ts`, "--port", String(port)];
    const shell = ["-c", 'exec "$@" >/dev/full', "sh", Deno.execPath(), ...server];
    const child = new Deno.Command("sh", { args: shell, stdout: "null", stderr: "null" }).spawn();
    const client = await connect({ port, lazy: true });
    assertEquals(await client.call.PING(), "PONG");
    await client.close();
    child.kill("SIGTERM");
    assertEquals((await child.status).code, 0);
  });
});

Deno.test("run() takes arguments in place of those of the process, and returns the exit code", async () => {
  await using folder = await Folder.make();
  const module = JSON.stringify(new URL("../../mod.ts", import.meta.url));
  const code = `import { run } from ${module}; console.log(await run({ args: ["--max-depth", "0"] }));`;
  await folder.write("main.ts", code);
  const args = ["run", `--config=${root}deno.json`, `${folder.path}/main.ts`, "--port", "0"];
  assertEquals(await run(Deno.execPath(), args, { env: { NO_COLOR: "1" } }), {
    code: 2,
    text: "2\npackline: --max-depth 0: it must be a whole number from 1 to 1000; see --help\n",
  });
});

Deno.test("run() rejects a mistake in its options, by name", async () => {
  const refused: [options: unknown, text: string][] = [
    [{ grace: 5 }, '"grace": unknown option; the options are hostname, port'],
    [{ graceMs: -1 }, "Cannot use -1 as graceMs: it must be a number of milliseconds from 0 to 2147483647"],
    [{ worker: { number: 1 } }, 'Cannot use "worker": unknown option; the options are '],
    [{ workers: 0 }, 'Cannot use 0 as workers: it must be a whole number from 1 to 1024, or "auto"'],
    [{ args: "--help" }, 'Cannot use "--help" as args: it must be an array of strings'],
    [{ workerFlags: [1] }, "Cannot use [1] as workerFlags: it must be an array of strings"],
  ];
  for (const [options, text] of refused) {
    await assertRejects(() => runService(options as Parameters<typeof runService>[0]), Error, text);
  }
});

// Workers -----------------------------------------------------------------------------------------------------------

/** A client of one of the workers. */
async function clientOf(port: number, worker: number): Promise<Client<typeof commands>> {
  for (let tries = 0; tries < 100; tries++) {
    const client = await connect<typeof commands>({ port });
    if ((await client.reply("INFO")).res.worker === worker) return client;
    await client.close();
  }
  throw new Error(`worker ${worker} has answered none of 100 connections`);
}

Deno.test("workers serve the commands, print on the same output, and clean up at the end", linuxOnly, async () => {
  await using service = await start([NET, ...WORKERS, SERVICE], ["--workers", "2", "--max-in-flight", "9"]);
  assertMatch(service.said, /^packline [\d.]+ with 2 workers listening on /);
  assertEquals([(await limitsOf(service)).maxInFlight, (await limitsOf(service)).idleTimeoutMs], [9, undefined]);
  {
    await using first = await clientOf(service.port, 1);
    await using second = await clientOf(service.port, 2);
    await first.reply("GREET", { name: "Ada" });
    await second.reply("GREET", { name: "Grace" });
    await service.hear(/greeting Ada\n/);
    await service.hear(/greeting Grace\n/);
    const processes = [(await first.reply("PROCESS")).res, (await second.reply("PROCESS")).res, service.pid];
    assertEquals(new Set(processes).size, 3);
  }
  service.kill("SIGTERM");
  assertEquals((await service.status).code, 0);
  await service.hear(/stopped; calls in flight: 0 finished, 0 cut\n/);
  assertEquals(service.said.match(/cleaned up\n/g)?.length, 3);
});

Deno.test("workers get the permissions that are not restricted, and those in workerFlags", linuxOnly, async () => {
  const deno = ["--allow-net", "--allow-env", "--allow-sys=hostname", ...WORKERS];
  await using service = await start([...deno, SERVICE], ["--workers", "2"]);
  await using client = await connect<typeof commands>({ port: service.port });
  const may = async (descriptor: Parameters<typeof client.reply.MAY>[0]) => (await client.reply("MAY", descriptor)).res;
  assertEquals(await may({ name: "net", host: "example.org" }), "granted");
  assertEquals(await may({ name: "env" }), "granted");
  assertEquals(await may({ name: "read", path: "/dev/null" }), "granted");
  for (const name of ["read", "write", "run", "sys", "ffi"] as const) assertEquals(await may({ name }), "prompt", name);
});

// --watch -----------------------------------------------------------------------------------------------------------

Deno.test("with --watch a client carries on over the restarts, and no call is lost", async () => {
  await using folder = await Folder.make();
  const module = JSON.stringify(new URL("../../mod.ts", import.meta.url));
  const write = (version: number) =>
    folder.write(
      "main.ts",
      `import { command, run } from ${module};
      const commands = { VERSION: command({ handler: () => ${version} }) };
      if (import.meta.main) await run({ commands });`,
    );
  await write(1);
  const deno = [`--config=${root}deno.json`, NET, "--watch", `${folder.path}/main.ts`];
  await using service = await onFreePort(async (port) => await start(deno, ["--port", String(port)]));
  await using client = await connect<{ VERSION: typeof commands.PROCESS }>({ port: service.port });
  const version = async () => (await client.reply("VERSION", {}, { idempotent: true })).res;
  assertEquals(await version(), 1);
  for (const next of [2, 3]) {
    await write(next);
    while (await version() !== next);
  }
  await client.close();
  // At the end of the program the watcher waits for a change of its files.
  service.kill("SIGKILL");
});
