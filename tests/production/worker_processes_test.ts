/** Several workers on one port, as processes: that all serve, that one which dies takes nobody with it, that all end in order. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import config from "../../deno.json" with { type: "json" };
import { RpcError } from "../../errors.ts";
import { PseudoTerminal, testInTerminal } from "../terminal/pseudo_terminal.ts";
import { messageMark, startProcess, WORKER_FLAG } from "../../cli/worker_process.ts";
import type { FromWorker } from "../../cli/workers.ts";
import { Certificates } from "./certificates.ts";
import type { mortalCommands } from "./mortal_worker.ts";
import { Folder, Program, root, run, testWith } from "./programs.ts";
import {
  clientsOfBoth,
  DENO,
  linuxOnly,
  type MortalClient,
  startMortals,
  startServer,
  startWorkers,
} from "./worker_programs.ts";

/** How often a worker is killed under load. */
const KILLS = 5;

const PING = Uint8Array.fromHex("202681a3636d64010a");
const PONG = { res: "PONG" };

/** Finds a process by who has started it, and by the end of its command line. */
const FIND_PROCESS = `
for status in $(grep -ls "^PPid:.$0$" /proc/[0-9]*/status); do
  folder=\${status%/status}
  tr "\\0" " " <"$folder/cmdline" | grep -q -- "$1 $" && basename "$folder"
done`;

/** The process of a worker. */
async function processOf(supervisor: number, worker: number): Promise<number> {
  const { text } = await run("sh", ["-c", FIND_PROCESS, String(supervisor), `${WORKER_FLAG} ${worker}`]);
  assertMatch(text, /^\d+\n$/);
  return Number(text);
}

/** Waits for something that other tasks bring about. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve));
}

// Serving, and the end -----------------------------------------------------------------------------------------------

Deno.test("two workers share a port, their counts add up, and SIGTERM drains both", linuxOnly, async () => {
  await using program = await startServer("--grace", "5");
  assertMatch(program.said, /^packline [\d.]+ with 2 workers listening on 127\.0\.0\.1:\d+\n$/);
  await using both = await clientsOfBoth({ port: program.port });
  const [first, second] = both.clients;
  for (let call = 0; call < 10; call++) await first.reply("PING");
  for (let call = 0; call < 20; call++) await second.reply("PING");
  const { res: own } = await first.reply("STATS");
  const { res: others } = await second.reply("STATS");
  const { res: all } = await first.reply("STATS", { all: true });
  assertEquals([own.worker, others.worker, all.worker], [1, 2, 1]);
  assertEquals([own.commands.PING.calls, others.commands.PING.calls, all.commands.PING.calls], [10, 20, 30]);
  assertEquals(all.connections.accepted, own.connections.accepted + others.connections.accepted);
  assertEquals(all.workers, { counted: [1, 2], silent: [] });

  const calls = [first, second, second].map((client) => client.reply("DELAY", { sleep: 0.3 }));
  await Promise.all([first.reply("PING"), second.reply("PING")]); // behind these, the others have begun
  program.kill("SIGTERM");
  assertEquals((await Promise.all(calls)).map(({ res }) => res), ["DONE", "DONE", "DONE"]);
  assertEquals((await program.status).code, 0);
  await program.hear(/\npackline: stopped; calls in flight: 3 finished, 0 cut\n/);
});

Deno.test("a second signal ends all workers at once", linuxOnly, async () => {
  await using program = await startServer("--grace", "60");
  await using both = await clientsOfBoth({ port: program.port });
  const calls = both.clients.map((client) => assertRejects(() => client.reply("DELAY", { sleep: 60 }), RpcError));
  await Promise.all(both.clients.map((client) => client.reply("PING")));
  program.kill("SIGINT");
  await program.hear(/stopping within 60 s; a second signal ends it at once\n/);
  program.kill("SIGTERM");
  assertEquals((await program.status).code, 143);
  for (const error of await Promise.all(calls)) assertEquals(error.code, "CONNECTION_LOST");
});

testInTerminal("Ctrl-C reaches workers as well, and they drain all the same", async () => {
  if (linuxOnly.ignore) return;
  const server = ["task", "--config", `${root}deno.json`, "serve", "--port", "0", "--workers", "2"];
  await using terminal = new PseudoTerminal([Deno.execPath(), ...server]);
  await terminal.until("listening on 127.0.0.1:");
  const port = Number((await terminal.until("\n")).trim());
  await using both = await clientsOfBoth({ port });
  const calls = both.clients.map((client) => client.reply("DELAY", { sleep: 0.3 }));
  await Promise.all(both.clients.map((client) => client.reply("PING"))); // behind these, the others have begun
  await terminal.type("\x03");
  assertEquals((await Promise.all(calls)).map(({ res }) => res), ["DONE", "DONE"]);
  await terminal.until("packline: stopped; calls in flight: 2 finished, 0 cut");
  assertEquals((await terminal.end()).code, 0);
});

Deno.test("workers whose supervisor is killed end as well", linuxOnly, async () => {
  await using program = await startMortals();
  await using both = await clientsOfBoth({ port: program.port });
  const calls = both.clients.map((client) => assertRejects(() => client.reply("DELAY", { sleep: 60 }), RpcError));
  await Promise.all(both.clients.map((client) => client.reply("PING")));
  program.kill("SIGKILL");
  for (const error of await Promise.all(calls)) assertEquals(error.code, "CONNECTION_LOST");
  // The last of them to end closes the stderr that they have in common.
  await assertRejects(() => program.hear(/a word more/), Error, "the program ended");
});

// Death --------------------------------------------------------------------------------------------------------------

/** How a worker dies, and how the system names that. */
const DEATHS: Record<string, { kill: (victim: MortalClient) => Promise<unknown>; reason: string }> = {
  "is killed": {
    kill: async (victim) => Deno.kill((await victim.reply("PROCESS")).res, "SIGKILL"),
    reason: "SIGKILL",
  },
  "throws": { kill: (victim) => victim.reply("DIE", { way: "throw" }), reason: "exit code 1" },
  "exits": { kill: (victim) => victim.reply("DIE", { way: "exit" }), reason: "exit code 7" },
  "fills its heap": { kill: (victim) => victim.reply("DIE", { way: "fill" }), reason: "SIG(TRAP|ILL|ABRT)" },
};

for (const [how, { kill, reason }] of Object.entries(DEATHS)) {
  Deno.test(`a worker that ${how} is started again, and the other does not notice`, linuxOnly, async () => {
    await using program = await startMortals({ DENO_V8_FLAGS: "--max-old-space-size=100" });
    await using both = await clientsOfBoth({ port: program.port });
    const [first, second] = both.clients;
    const survives = first.reply("DELAY", { sleep: 0.5 });
    const dies = assertRejects(() => second.reply("DELAY", { sleep: 60 }), RpcError);
    await Promise.all([first.reply("PING"), second.reply("PING")]); // behind these, the others have begun
    kill(second).catch(() => {}); // some do not answer any more
    assertEquals((await dies).code, "CONNECTION_LOST");
    await program.hear(new RegExp(`worker 2 has ended \\(${reason}\\); it restarts in 50 ms\n`));
    assertEquals([(await survives).res, first.state], ["DONE", "open"]);
    assertEquals(await second.reply("PING"), PONG); // on a connection to whoever is there

    await program.hear(/worker 2 is listening again\n/);
    await using again = await clientsOfBoth({ port: program.port });
    const { res } = await again.clients[0].reply("STATS", { all: true });
    assertEquals(res.workers, { counted: [1, 2], silent: [] });
    program.kill("SIGTERM");
    assertEquals((await program.status).code, 0);
    await program.hear(/finished 0, cut 0\n/);
  });
}

/** Calls that a client makes all the time, several at once, and what became of them. */
class Lanes implements AsyncDisposable {
  answered = 0;
  readonly failures: string[] = [];
  #stopped = false;
  readonly #running: Promise<unknown>;

  constructor(readonly client: Client) {
    this.#running = Promise.all(Array.from({ length: 4 }, () => this.#run()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let count = 0; !this.#stopped; count++) {
      try {
        await this.client.reply("DELAY", { sleep: count % 5 / 1000 });
        this.answered++;
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        this.failures.push(error.code);
      }
    }
  }
}

Deno.test("workers are killed under load, and no call on another's connection fails", linuxOnly, async () => {
  await using program = await startServer("--grace", "5");
  let answered = 0;
  let lost = 0;
  for (let kill = 1; kill <= KILLS; kill++) {
    await using both = await clientsOfBoth({ port: program.port });
    const [lasting, dying] = both.clients.map((client) => new Lanes(client as unknown as Client));
    {
      await using _ = lasting;
      await using __ = dying;
      await until(() => lasting.answered > 50 && dying.answered > 50);
      program.said = "";
      Deno.kill(await processOf(program.pid, 2), "SIGKILL");
      await program.hear(/worker 2 has ended \(SIGKILL\); it restarts in \d+ ms\n/);
      const before = lasting.answered;
      await program.hear(/worker 2 is listening again\n/);
      await until(() => lasting.answered > before + 50);
    }
    assertEquals([lasting.failures, lasting.client.state], [[], "open"]);
    // What was in flight there. A process takes its time to die: its port may take a connection more.
    assertEquals(new Set(dying.failures), new Set(["CONNECTION_LOST"]));
    answered += lasting.answered;
    lost += dying.failures.length;
  }
  program.kill("SIGTERM");
  assertEquals((await program.status).code, 0);
  console.log(
    `${KILLS} workers killed under load: ${answered} calls on the other's connection answered, 0 failed; ` +
      `in flight on the dead ones: ${lost}, each told CONNECTION_LOST`,
  );
});

Deno.test("a worker that says what is no message is ended, and nothing is left of it", linuxOnly, async () => {
  await using folder = await Folder.make();
  await folder.write(
    "chatty.ts",
    `
    const { value } = await Deno.stdin.readable.pipeThrough(new TextDecoderStream()).getReader().read();
    const mark = ${JSON.stringify(messageMark("SECRET"))}.replace("SECRET", value.split("\\n")[0]);
    console.log(mark + "hello");
    setInterval(() => {}, 1_000_000);`,
  );
  const program = { main: `file://${folder.path}/chatty.ts`, flags: [], args: [] };
  const { promise: ended, resolve: onEnd } = Promise.withResolvers<string>();
  startProcess(1, { hostname: "127.0.0.1", port: 0 }, { onMessage() {}, onEnd }, program);
  assertEquals(await ended, "SIGKILL");
});

Deno.test(
  "a worker that has started a program is restarted when it dies, and waited for no longer",
  linuxOnly,
  async () => {
    await using program = await startMortals();
    await using both = await clientsOfBoth({ port: program.port, waitForReady: true });
    for (const client of both.clients) {
      const left = (await client.reply("LEAVE")).res;
      assertEquals((await assertRejects(() => client.reply("DIE", { way: "exit" }), RpcError)).code, "CONNECTION_LOST");
      await program.hear(/worker \d is listening again\n/);
      Deno.kill(left, "SIGKILL");
    }
  },
);

Deno.test("a worker that no longer answers is named, and made to end with the others", linuxOnly, async () => {
  await using program = await startServer("--grace", "0.2");
  await using both = await clientsOfBoth({ port: program.port });
  const [first, second] = both.clients;
  const deaf = assertRejects(() => second.reply("DELAY", { sleep: 60 }), RpcError);
  await second.reply("PING");
  Deno.kill(await processOf(program.pid, 2), "SIGSTOP");
  // A process takes its time to stand still: it may still answer.
  let { res: { workers } } = await first.reply("STATS", { all: true });
  while (workers?.silent.length === 0) ({ res: { workers } } = await first.reply("STATS", { all: true }));
  assertEquals(workers, { counted: [1], silent: [2] });
  program.kill("SIGTERM");
  await program.hear(/worker 2 did not end in time and is killed\n/);
  await program.hear(/stopped; calls in flight: 0 finished, 0 cut\n/);
  assertEquals([(await program.status).code, (await deaf).code], [0, "CONNECTION_LOST"]);
});

Deno.test(
  "a worker that does not answer any more is ended; one that pauses, or whose watcher does, is not",
  linuxOnly,
  async () => {
    const program = { main: new URL("./mortal_worker.ts", import.meta.url).href, flags: [], args: [] };
    const { promise: listening, resolve: onListening } = Promise.withResolvers<number>();
    const { promise: ended, resolve: onEnd } = Promise.withResolvers<string>();
    const onMessage = (message: FromWorker) => {
      if (message.type === "listening") onListening(message.port);
    };
    startProcess(1, { hostname: "127.0.0.1", port: 0 }, { onMessage, onEnd }, program, 50);
    await using client = await connect<typeof mortalCommands>({ port: await listening });
    const { res: pid } = await client.reply("PROCESS");
    // What the worker answers while this process stands still is read before the next question is counted.
    const standsUntilMs = performance.now() + 1_000;
    while (performance.now() < standsUntilMs);
    assertEquals(await client.reply("PING"), PONG);
    Deno.kill(pid, "SIGSTOP");
    assertEquals(await ended, "it stopped answering");
  },
);

Deno.test("SIGHUP drains workers as SIGTERM does, and they do not heed their own", linuxOnly, async () => {
  await using program = await startServer("--grace", "5");
  await using both = await clientsOfBoth({ port: program.port });
  const processes = await Promise.all([1, 2].map((worker) => processOf(program.pid, worker)));
  const calls = both.clients.map((client) => client.reply("DELAY", { sleep: 1.5 }));
  await Promise.all(both.clients.map((client) => client.reply("PING")));
  for (const process of processes) Deno.kill(process, "SIGHUP");
  program.kill("SIGHUP");
  assertEquals((await Promise.all(calls)).map(({ res }) => res), ["DONE", "DONE"]);
  assertEquals((await program.status).code, 0);
  await program.hear(/stopped; calls in flight: 2 finished, 0 cut\n/);
});

for (const workers of ["1", "2"]) {
  for (const permissions of [["-A"], ["--allow-net=127.0.0.1", `--allow-run=${Deno.execPath()}`]]) {
    Deno.test(`under nohup SIGHUP is ignored: ${workers} workers, ${permissions[0]}`, linuxOnly, async () => {
      await using folder = await Folder.make();
      const deno = [Deno.execPath(), "run", "--no-prompt", "--unstable-net", ...permissions];
      const args = [...deno, `${root}server.ts`, "--port", "0", "--workers", workers];
      const log = `${folder.path}/nohup.out`;
      const process = new Deno.Command("sh", {
        args: ["-c", 'log=$0; exec nohup "$@" >"$log" 2>&1', log, ...args],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
      await using _ended = {
        async [Symbol.asyncDispose]() {
          try {
            process.kill("SIGKILL");
          } catch {
            // It has ended already.
          }
          await process.status;
        },
      };
      const said = async (what: RegExp) => {
        for (let tries = 0; tries < 3_000; tries++) {
          const [, found] = (await Deno.readTextFile(log).catch(() => "")).match(what) ?? [];
          if (found !== undefined) return found;
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        throw new Error(`it did not say ${what}`);
      };
      const port = Number(await said(/listening on .*:(\d+)\n/));
      {
        await using client = await connect({ port });
        assertEquals(await client.reply("PING"), PONG);
        process.kill("SIGHUP");
        assertEquals((await client.reply("DELAY", { sleep: 0.3 })).res, "DONE");
        await using another = await connect({ port });
        assertEquals(await another.reply("PING"), PONG);
      }
      process.kill("SIGTERM");
      assertEquals((await process.status).code, 0);
    });
  }
}

Deno.test("a second signal ends even a worker that no longer answers", linuxOnly, async () => {
  await using program = await startServer("--grace", "60");
  await using both = await clientsOfBoth({ port: program.port });
  const deaf = assertRejects(() => both.clients[1].reply("DELAY", { sleep: 60 }), RpcError);
  await both.clients[1].reply("PING");
  Deno.kill(await processOf(program.pid, 2), "SIGSTOP");
  program.kill("SIGINT");
  await program.hear(/a second signal ends it at once\n/);
  program.kill("SIGTERM");
  assertEquals([(await program.status).code, (await deaf).code], [143, "CONNECTION_LOST"]);
});

// Around them ---

testWith(["openssl"], "workers speak mutual TLS", async () => {
  if (linuxOnly.ignore) return;
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned();
  const [server, { cert, key }] = await Promise.all([
    certificates.signedBy(authority),
    certificates.signedBy(authority),
  ]);
  const args = ["--cert", server.certPath, "--key", server.keyPath, "--ca", authority.certPath];
  const deno = [...DENO, `--allow-read=${certificates.folder}`, `${root}server.ts`, "--port", "0", "--workers", "2"];
  await using program = await startWorkers([...deno, ...args]);
  await using both = await clientsOfBoth({ port: program.port, tls: { ca: authority.cert, cert, key } });
  assertEquals(await both.clients[0].reply("PING"), PONG);
});

Deno.test("what is wrong with workers is one line, and an exit code", linuxOnly, async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = String(taken.addr.port);
  const net = "--allow-net=127.0.0.1";
  const [start, unstable] = [`--allow-run=${Deno.execPath()}`, "--unstable-net"];
  const all = [net, start, unstable];
  const whole = "workers are a whole number from 1 to 1024, or auto; see --help";
  const cases: [flags: string[], code: number, text: string, permissions?: string[]][] = [
    [["--workers", "0"], 2, `--workers 0: ${whole}`],
    [["--workers", "x"], 2, `--workers x: ${whole}`],
    [["--workers", "-1"], 2, `--workers -1: ${whole}`],
    [["--workers", "2000"], 2, `--workers 2000: ${whole}`],
    [
      ["--workers", "2", "--unix", "p"],
      2,
      "--workers cannot be used with --unix: only a port can be shared; see --help",
    ],
    [["--workers", "2"], 1, "cannot share a port; run it with --unstable-net", [net, start]],
    [
      ["--workers", "2"],
      1,
      `no permission to start workers; run it with ${start}`,
      [net, unstable],
    ],
    [
      ["--workers", "2", "--port", "0"],
      1,
      "no permission to listen on 127.0.0.1:0; run it with --allow-net=127.0.0.1:0",
      [start, unstable],
    ],
    [
      ["--workers", "2", "--port", port],
      1,
      `cannot listen on 127.0.0.1:${port}: the port is in use; choose another with --port, 0 for any that is free`,
    ],
  ];
  await Promise.all(cases.map(async ([flags, code, text, permissions = all]) => {
    const outcome = await run(Deno.execPath(), ["run", "--no-prompt", ...permissions, `${root}server.ts`, ...flags]);
    assertEquals(outcome, { code, text: `packline: ${text}\n` });
  }));
});

Deno.test("a port that workers share is in use for everybody else", linuxOnly, async () => {
  await using program = await startServer();
  const args = [...DENO, `${root}server.ts`, "--port", String(program.port), "--workers", "2"];
  const { code, text } = await run(Deno.execPath(), args);
  assertMatch(text, /^packline: cannot listen on 127\.0\.0\.1:\d+: the port is in use; .*\n$/);
  assertEquals(code, 1);
});

Deno.test("while workers start, each connection that is taken is answered", linuxOnly, async () => {
  const free = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = free.addr;
  free.close();
  let isStarting = true;
  let [refused, answered, lost] = [0, 0, 0];
  const callWhileItStarts = async () => {
    while (isStarting) {
      const conn = await Deno.connect({ hostname: "127.0.0.1", port }).catch(() => undefined);
      if (conn === undefined) {
        refused++;
        continue;
      }
      using _ = conn;
      await conn.write(PING).catch(() => {});
      const readBytes = await conn.read(new Uint8Array(64)).catch(() => null);
      if (readBytes === null) lost++;
      else answered++;
    }
  };
  const callers = Promise.all(Array.from({ length: 8 }, callWhileItStarts));
  try {
    await using _program = await startWorkers([...DENO, `${root}server.ts`, "--port", String(port), "--workers", "2"]);
    isStarting = false;
    await callers; // before the server ends
  } finally {
    isStarting = false;
  }
  console.log(`refused before: ${refused}, answered: ${answered}`);
  assert(refused > 0);
  assertEquals(lost, 0);
});

Deno.test("--workers auto is one for each core", linuxOnly, async () => {
  await using program = await startWorkers([...DENO, `${root}server.ts`, "--port", "0", "--workers", "auto"]);
  const cores = navigator.hardwareConcurrency;
  await program.hear(cores > 1 ? new RegExp(` with ${cores} workers listening on `) : /^packline [\d.]+ listening on /);
});

Deno.test("one worker is a server like any other", linuxOnly, async () => {
  const deno = ["run", "--no-prompt", "--allow-net=127.0.0.1", `${root}server.ts`];
  const args = [...deno, "--port", "0", "--workers", "1"];
  await using program = await Program.start(Deno.execPath(), args, /listening on .*:\d+\n/);
  assertMatch(program.said, /^packline [\d.]+ listening on 127\.0\.0\.1:\d+\n$/);
});

Deno.test("workers of a server from a URL run the code that it has loaded", linuxOnly, async () => {
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    const type = pathname.endsWith(".json") ? "application/json" : "application/typescript";
    let text = await Deno.readTextFile(root + pathname.slice(1));
    // No configuration says where std is, when the program is a URL.
    for (const [name, target] of Object.entries(config.imports)) text = text.replaceAll(`"${name}"`, `"${target}"`);
    return new Response(text, { headers: { "content-type": type } });
  });
  const server = `http://127.0.0.1:${http.addr.port}/server.ts`;
  await using program = await startWorkers([...DENO, server, "--port", "0", "--workers", "2"]);
  await http.shutdown();
  await using both = await clientsOfBoth({ port: program.port });
  assertEquals(await both.clients[1].reply("PING"), PONG);
  Deno.kill(await processOf(program.pid, 2), "SIGKILL");
  await program.hear(/worker 2 is listening again\n/);
});

Deno.test("a compiled server says that it has no workers", linuxOnly, async () => {
  const code = `
    import { main } from "${new URL("../../cli/serve.ts", import.meta.url)}";
    Object.defineProperty(Deno, "build", { value: { ...Deno.build, standalone: true } });
    Deno.exit(await main(["--workers", "2"]));`;
  await using folder = await Folder.make();
  await folder.write("main.ts", code);
  assertEquals(await run(Deno.execPath(), [...DENO, `--config=${root}deno.json`, `${folder.path}/main.ts`]), {
    code: 1,
    text: "packline: cannot start workers: this server is compiled; start several behind a load balancer\n",
  });
});

Deno.test("workers that cannot be started are one line, and an exit code", linuxOnly, async () => {
  // With this in the environment the runtime starts programs only for those who may start any.
  const env = { LD_LIBRARY_PATH: "/nowhere" };
  const { code, text } = await run(Deno.execPath(), [...DENO, `${root}server.ts`, "--port", "0", "--workers", "2"], {
    env,
  });
  assertMatch(text, /^packline: cannot start workers: .*LD_LIBRARY_PATH.*\n$/);
  assertEquals(code, 1);
});
