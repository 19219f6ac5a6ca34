/** Several workers on one port: that all of them serve, that one which dies takes nobody with it, and that they end in order. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type FromWorker, type RunningWorker, type ToWorker, type WorkerEvents, Workers } from "../../cli/workers.ts";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import type { ServerStatistics } from "../../handlers/command.ts";
import { sumStatistics } from "../../handlers/statistics.ts";
import { FakeClock, turn } from "../fake_clock.ts";
import { withServer } from "../wire.ts";
import { Certificates } from "./certificates.ts";
import { Program, root, run, testWith } from "./programs.ts";

const PONG = { res: "PONG" };

// Who watches over them ----------------------------------------------------------------------------------------------

/** A worker that does what the test says. */
class FakeWorker implements RunningWorker {
  readonly told: ToWorker[] = [];
  terminated = false;

  constructor(readonly number: number, readonly port: number, readonly events: WorkerEvents) {}

  post(message: ToWorker): void {
    this.told.push(message);
  }

  terminate(): void {
    this.terminated = true;
    this.events.onEnd("it exited");
  }

  tell(message: FromWorker): void {
    this.events.onMessage(message);
  }

  listen(port = 4000): void {
    this.tell({ type: "listening", address: `127.0.0.1:${port}`, port });
  }
}

/** Workers of the test's own, and what is heard of them. */
class World {
  readonly clock = new FakeClock();
  readonly started: FakeWorker[] = [];
  readonly notes: string[] = [];

  /** Who was started last. */
  get last(): FakeWorker {
    return this.started.at(-1) as FakeWorker;
  }

  start(count: number): Promise<Workers> {
    return Workers.start({
      count,
      port: 0,
      clock: this.clock,
      note: (text) => this.notes.push(text),
      start: (number, port, events) => {
        this.started.push(new FakeWorker(number, port, events));
        return this.last;
      },
    });
  }

  /** So many that listen. */
  static async listening(count: number): Promise<World & { workers: Workers }> {
    const world = new World();
    const workers = world.start(count);
    world.last.listen();
    await turn();
    for (const worker of world.started.slice(1)) worker.listen();
    return Object.assign(world, { workers: await workers });
  }
}

/** Counts of a server that was called so often. */
async function statisticsOf(pings: number): Promise<ServerStatistics> {
  await using server = await withServer();
  await using client = await connect({ port: server.port });
  for (let ping = 0; ping < pings; ping++) await client.call("PING");
  return server.server.statistics();
}

Deno.test("Workers - the first finds the port, the others share it", async () => {
  const world = new World();
  const starting = world.start(3);
  assertEquals(world.started.map(({ number, port }) => [number, port]), [[1, 0]]);
  world.last.listen(4321);
  await turn();
  assertEquals(world.started.map(({ number, port }) => [number, port]), [[1, 0], [2, 4321], [3, 4321]]);
  for (const worker of world.started.slice(1)) worker.listen(4321);
  assertEquals((await starting).address, "127.0.0.1:4321");
  assertEquals([world.notes, world.clock.timers], [[], 0]);
});

Deno.test("Workers - a start at which one cannot listen fails with its reason, and ends the others", async () => {
  for (const failing of [0, 1, 2]) {
    const world = new World();
    const starting = world.start(3);
    starting.catch(() => {});
    if (failing > 0) world.last.listen();
    await turn();
    world.started[failing].tell({ type: "failed", reason: "the port is in use" });
    world.started[failing].events.onEnd("it exited");
    const error = await assertRejects(() => starting, Error);
    assertEquals(error.message, "the port is in use");
    const others = world.started.filter((_, index) => index !== failing);
    assert(others.every(({ terminated }) => terminated), `when worker ${failing + 1} fails`);
    assertEquals([world.notes, world.clock.timers], [[], 0]);
  }
});

Deno.test("Workers - one that ends is started again, later each time; the others hear nothing of it", async () => {
  const { clock, started, notes } = await World.listening(2);
  const waits = [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000];
  let dying = started[1];
  for (const waitMs of waits) {
    const before = started.length;
    dying.events.onEnd("out of memory");
    assertEquals(notes.pop(), `worker 2 has ended (out of memory); it is started again in ${waitMs} ms`);
    await clock.advance(waitMs - 1);
    assertEquals(started.length, before);
    await clock.advance(1);
    dying = started.at(-1) as FakeWorker;
    assertEquals([started.length, dying.number, dying.port], [before + 1, 2, 4000]);
    // Whether it comes to listen or not.
    if (waitMs < 1000) dying.listen();
  }
  assertEquals([started[0].told, started[0].terminated, clock.timers], [[], false, 0]);
});

Deno.test("Workers - one that has lasted is started again as if for the first time", async () => {
  const { clock, started, notes } = await World.listening(2);
  for (const waitMs of [50, 100]) {
    (started.at(-1) as FakeWorker).events.onEnd("why");
    await clock.advance(waitMs);
    (started.at(-1) as FakeWorker).listen();
  }
  await clock.advance(10_000);
  (started.at(-1) as FakeWorker).events.onEnd("why");
  assertEquals(notes.at(-1), "worker 2 has ended (why); it is started again in 50 ms");
  await clock.advance(50);
});

Deno.test("Workers - a shutdown drains all, adds up what they report, and starts none again", async () => {
  const { workers, clock, started } = await World.listening(3);
  started[2].events.onEnd("why"); // waits to be started again
  const ended = workers.shutdown({ grace: 5 });
  assertEquals([started[0].told, started[1].told], [[{ type: "drain", grace: 5 }], [{ type: "drain", grace: 5 }]]);
  started[0].tell({ type: "drained", report: { finished: 3, cut: 1 } });
  started[1].tell({ type: "drained", report: { finished: 4, cut: 0 } });
  assertEquals(await ended, { finished: 7, cut: 1 });
  assertEquals([started.length, clock.timers], [3, 0]);
});

Deno.test("Workers - one that does not end in time is made to, and one that dies meanwhile is not waited for", async () => {
  const { workers, clock, started, notes } = await World.listening(3);
  const ended = workers.shutdown({ grace: 5 });
  started[0].tell({ type: "drained", report: { finished: 1, cut: 0 } });
  started[1].events.onEnd("why");
  await clock.advance(6_999);
  assertEquals(started[2].terminated, false);
  await clock.advance(1);
  assertEquals(await ended, { finished: 1, cut: 0 });
  assertEquals(notes, ["worker 3 does not come to an end, and is made to"]);
  assertEquals([started.length, clock.timers], [3, 0]);
});

Deno.test("Workers - one that asks is told the counts of the others, and who has not answered in time", async () => {
  const { clock, started: [first, second, third, fourth] } = await World.listening(4);
  const [two, three] = await Promise.all([statisticsOf(2), statisticsOf(3)]);
  first.tell({ type: "ask", query: 77 });
  const [asked] = second.told;
  assertEquals([asked.type, third.told, fourth.told], ["report", [asked], [asked]]);
  const query = asked.type === "report" ? asked.query : NaN;
  second.tell({ type: "report", query, statistics: two });
  third.tell({ type: "report", query, statistics: three });
  await clock.advance(999);
  assertEquals(first.told, []);
  await clock.advance(1);
  assertEquals(first.told, [{ type: "others", query: 77, statistics: [two, three], silent: [4] }]);
  fourth.tell({ type: "report", query, statistics: two }); // too late
  assertEquals([first.told.length, clock.timers], [1, 0]);
});

Deno.test("Workers - nobody waits for the counts of one that has ended", async () => {
  const { clock, started: [first, second, third] } = await World.listening(3);
  second.events.onEnd("why");
  first.tell({ type: "ask", query: 1 });
  assertEquals(first.told, []);
  third.events.onEnd("why");
  assertEquals(first.told, [{ type: "others", query: 1, statistics: [], silent: [2, 3] }]);
  await clock.advance(100);
  assertEquals(clock.timers, 0);
});

// Their counts -------------------------------------------------------------------------------------------------------

Deno.test("sumStatistics() adds up, but for the longest uptime and the slowest call", async () => {
  const one = await statisticsOf(2);
  const other: ServerStatistics = {
    ...structuredClone(one),
    uptime: one.uptime + 100,
    connections: { open: 1, accepted: 20, refused: 300 },
    inFlight: 4,
    bytes: { received: 5, sent: 6 },
    refused: { badFrame: 7, invalidMessage: 8, truncated: 9, unknownCommand: 10 },
    lateReplies: 11,
  };
  Object.assign(other.commands.PING, {
    calls: 5,
    errors: { A: 1, constructor: 2 },
    inFlight: 3,
    totalMs: 1,
    maxMs: 1e6,
  });
  other.commands.OWN = structuredClone(other.commands.PING);
  const sum = sumStatistics(one, other, other);
  assertEquals(sum.uptime, other.uptime);
  assertEquals(sum.connections, {
    open: one.connections.open + 2,
    accepted: one.connections.accepted + 40,
    refused: one.connections.refused + 600,
  });
  assertEquals([sum.inFlight, sum.lateReplies], [one.inFlight + 8, one.lateReplies + 22]);
  assertEquals(sum.refused, { badFrame: 14, invalidMessage: 16, truncated: 18, unknownCommand: 20 });
  assertEquals(sum.bytes, { received: one.bytes.received + 10, sent: one.bytes.sent + 12 });
  const { calls, errors, inFlight, totalMs, maxMs, durations } = sum.commands.PING;
  assertEquals([calls, errors, inFlight, maxMs], [12, { A: 2, constructor: 4 }, 6, 1e6]);
  assertEquals(totalMs, one.commands.PING.totalMs + 2);
  assertEquals(durations.reduce((total, count) => total + count), 6);
  assertEquals(sum.commands.OWN.calls, 10);
  assertEquals(sumStatistics(one), one);
});

Deno.test("a server without workers says nothing of any, and its own counts are those of all", async () => {
  await using server = await withServer();
  await using client = await connect({ port: server.port });
  assertEquals("worker" in (await client.call("INFO")).res, false);
  const { res } = await client.call("STATS", { all: true });
  assertEquals(["worker" in res, "workers" in res, res.connections.accepted], [false, false, 1]);
  const error = await assertRejects(() => client.call("STATS", { all: "yes" as unknown as boolean }), RpcError);
  assertEquals(error.message, "INVALID_PARAMS: all: must be true or false");
});

Deno.test("a server that is one of several says which, and asks the others", async () => {
  const other = { ...await statisticsOf(5), worker: 2 };
  const askOthers = () => Promise.resolve({ statistics: [other], silent: [4] });
  await using server = await withServer({ worker: { number: 3, askOthers } });
  await using client = await connect({ port: server.port });
  await client.call("PING");
  assertEquals((await client.call("INFO")).res.worker, 3);
  const { res: own } = await client.call("STATS");
  assertEquals([own.worker, own.workers, own.commands.PING.calls], [3, undefined, 1]);
  const { res: all } = await client.call("STATS", { all: true });
  assertEquals([all.worker, all.workers], [3, { counted: [2, 3], silent: [4] }]);
  assertEquals(all.commands.PING.calls, 6);
});

// In threads ---------------------------------------------------------------------------------------------------------

const linuxOnly = { ignore: Deno.build.os !== "linux" };
const DENO = ["run", "--no-prompt", "--unstable-net", "--allow-net=127.0.0.1", `--allow-read=${root}`];

/** A program whose workers listen. */
async function startWorkers(script: string, ...flags: string[]): Promise<Program & { port: number }> {
  const program = await Program.start(
    Deno.execPath(),
    [...DENO, `${root}${script}`, ...flags],
    /listening on .*:\d+\n/,
  );
  const [, port] = await program.hear(/:(\d+)\n/);
  return Object.assign(program, { port: Number(port) });
}

/** Two clients, each of another worker: which it is, the kernel decides. */
async function clientsOfBoth(options: ConnectOptions): Promise<AsyncDisposable & { clients: [Client, Client] }> {
  const met: Client[] = [];
  const others: Client[] = [];
  for (let tries = 0; tries < 100 && (met[1] === undefined || met[2] === undefined); tries++) {
    const client = await connect({ timeout: 5_000, ...options });
    const { res: { worker } } = await client.call("INFO");
    if (worker !== undefined && met[worker] === undefined) met[worker] = client;
    else others.push(client);
  }
  for (const client of others) await client.close();
  const [, first, second] = met;
  assert(first !== undefined && second !== undefined, "not both have answered");
  return {
    clients: [first, second],
    async [Symbol.asyncDispose]() {
      await first.close();
      await second.close();
    },
  };
}

Deno.test("two workers share a port, their counts add up, and SIGTERM drains both", linuxOnly, async () => {
  await using program = await startWorkers("server.ts", "--port", "0", "--workers", "2", "--grace", "5");
  assertMatch(program.said, /^packline [\d.]+ with 2 workers listening on 127\.0\.0\.1:\d+\n$/);
  await using both = await clientsOfBoth({ port: program.port });
  const [first, second] = both.clients;
  for (let call = 0; call < 10; call++) await first.call("PING");
  for (let call = 0; call < 20; call++) await second.call("PING");
  const { res: own } = await first.call("STATS");
  const { res: others } = await second.call("STATS");
  const { res: all } = await first.call("STATS", { all: true });
  assertEquals([own.worker, others.worker, all.worker], [1, 2, 1]);
  assertEquals([own.commands.PING.calls, others.commands.PING.calls, all.commands.PING.calls], [10, 20, 30]);
  assertEquals(all.connections.accepted, own.connections.accepted + others.connections.accepted);
  assertEquals(all.workers, { counted: [1, 2], silent: [] });

  const calls = [first, second, second].map((client) => client.call("DELAY", { sleep: 0.3 }));
  await Promise.all([first.call("PING"), second.call("PING")]); // behind these, the others have begun
  program.kill("SIGTERM");
  assertEquals((await Promise.all(calls)).map(({ res }) => res), ["DONE", "DONE", "DONE"]);
  assertEquals((await program.status).code, 0);
  await program.hear(/\npackline: stopped; calls in flight: 3 finished, 0 cut\n$/);
});

Deno.test("a second signal ends all workers at once", linuxOnly, async () => {
  await using program = await startWorkers("server.ts", "--port", "0", "--workers", "2", "--grace", "60");
  await using both = await clientsOfBoth({ port: program.port });
  const calls = both.clients.map((client) => assertRejects(() => client.call("DELAY", { sleep: 60 }), RpcError));
  await Promise.all(both.clients.map((client) => client.call("PING")));
  program.kill("SIGINT");
  await program.hear(/stopping, within 60 s; a second signal ends it at once\n/);
  program.kill("SIGTERM");
  assertEquals((await program.status).code, 143);
  for (const error of await Promise.all(calls)) assertEquals(error.code, "CONNECTION_LOST");
});

Deno.test("a worker that no longer answers is named, and made to end with the others", linuxOnly, async () => {
  await using program = await startWorkers("tests/production/mortal_workers.ts");
  await using both = await clientsOfBoth({ port: program.port });
  const [first] = both.clients;
  await program.say("2 spin");
  // The word to the worker and the question to the other may cross.
  let { res } = await first.call("STATS", { all: true });
  for (let tries = 0; tries < 20 && res.workers?.counted.length === 2; tries++) {
    ({ res } = await first.call("STATS", { all: true }));
  }
  assertEquals(res.workers, { counted: [1], silent: [2] });
  program.kill("SIGTERM");
  await program.hear(/worker 2 does not come to an end, and is made to\nfinished 0, cut 0\n$/);
  assertEquals((await program.status).code, 0);
});

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
  await using program = await Program.start(Deno.execPath(), [...deno, ...args], /listening on .*:\d+\n/);
  const port = Number((await program.hear(/:(\d+)\n/))[1]);
  await using both = await clientsOfBoth({ port, tls: { ca: authority.cert, cert, key } });
  assertEquals(await both.clients[0].call("PING"), PONG);
});

Deno.test("what is wrong with workers is one line, and an exit code", linuxOnly, async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = String(taken.addr.port);
  const net = "--allow-net=127.0.0.1";
  const [read, unstable] = [`--allow-read=${root}`, "--unstable-net"];
  const all = [net, read, unstable];
  const whole = "workers are a whole number from 1 to 1024, or auto; see --help";
  const cases: [flags: string[], code: number, text: string, permissions?: string[]][] = [
    [["--workers", "0"], 2, `--workers 0: ${whole}`],
    [["--workers", "x"], 2, `--workers x: ${whole}`],
    [["--workers", "-1"], 2, `--workers -1: ${whole}`],
    [["--workers", "2000"], 2, `--workers 2000: ${whole}`],
    [["--workers", "2", "--unix", "p"], 2, "--workers goes without --unix: only a port can be shared; see --help"],
    [["--workers", "2"], 1, "cannot share a port; run it with --unstable-net", [net, read]],
    [
      ["--workers", "2"],
      1,
      `no permission to load the workers' code; run it with --allow-read=${root}`,
      [net, unstable],
    ],
    [
      ["--workers", "2", "--port", "0"],
      1,
      "no permission to listen on 127.0.0.1:0; run it with --allow-net=127.0.0.1:0",
      [read, unstable],
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
  await using program = await startWorkers("server.ts", "--port", "0", "--workers", "2");
  const args = [...DENO, `${root}server.ts`, "--port", String(program.port), "--workers", "2"];
  const { code, text } = await run(Deno.execPath(), args);
  assertMatch(text, /^packline: cannot listen on 127\.0\.0\.1:\d+: the port is in use; .*\n$/);
  assertEquals(code, 1);
});

Deno.test("one worker is a server like any other", linuxOnly, async () => {
  const deno = ["run", "--no-prompt", "--allow-net=127.0.0.1", `${root}server.ts`];
  const args = [...deno, "--port", "0", "--workers", "1"];
  await using program = await Program.start(Deno.execPath(), args, /listening on .*:\d+\n/);
  assertMatch(program.said, /^packline [\d.]+ listening on 127\.0\.0\.1:\d+\n$/);
});
