/** Several workers on one port, without processes: who watches over them, and how their counts add up. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type FromWorker, type RunningWorker, type ToWorker, type WorkerEvents, Workers } from "../../cli/workers.ts";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import { sumStatistics } from "../../handlers/statistics.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { withServer } from "../support/test_server.ts";

// Who watches over them ----------------------------------------------------------------------------------------------

/** A worker that does what the test says. */
class FakeWorker implements RunningWorker {
  readonly told: ToWorker[] = [];
  killed = false;

  constructor(readonly number: number, readonly port: number, readonly events: WorkerEvents) {}

  post(message: ToWorker): void {
    this.told.push(message);
  }

  kill(): void {
    this.killed = true;
    this.events.onEnd("SIGKILL");
  }

  tell(message: FromWorker): void {
    this.events.onMessage(message);
  }

  listen(port = 4000): void {
    this.tell({ type: "listening", address: `127.0.0.1:${port}`, port });
  }

  /** Ends as one that was told to. */
  drained(finished: number, cut: number): void {
    this.tell({ type: "drained", report: { finished, cut } });
    this.events.onEnd("exit code 0");
  }
}

/** Workers of the test's own, and what is heard of them. */
class World {
  readonly clock = new FakeClock();
  readonly started: FakeWorker[] = [];
  readonly notes: string[] = [];
  /** Why no worker can be started now. */
  trouble: string | undefined;

  /** Who was started last. */
  get last(): FakeWorker {
    return this.started.at(-1) as FakeWorker;
  }

  async start(count: number): Promise<Workers> {
    const workers = this.made(count);
    await workers.start();
    return workers;
  }

  made(count: number): Workers {
    return new Workers({
      count,
      port: 0,
      clock: this.clock,
      note: (text) => this.notes.push(text),
      start: (number, port, events) => {
        if (this.trouble !== undefined) throw new Error(this.trouble);
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
  for (let ping = 0; ping < pings; ping++) await client.reply("PING");
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
    assert(others.every(({ killed }) => killed), `when worker ${failing + 1} fails`);
    assertEquals([world.notes, world.clock.timers], [[], 0]);
  }
});

Deno.test("Workers - one that ends is started again, later each time; the others hear nothing of it", async () => {
  const { clock, started, notes } = await World.listening(2);
  const waits = [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000];
  let dying = started[1];
  for (const waitMs of waits) {
    const before = started.length;
    dying.events.onEnd("SIGKILL");
    assertEquals(notes.pop(), `worker 2 has ended (SIGKILL); it restarts in ${waitMs} ms`);
    await clock.advance(waitMs - 1);
    assertEquals(started.length, before);
    await clock.advance(1);
    dying = started.at(-1) as FakeWorker;
    assertEquals([started.length, dying.number, dying.port], [before + 1, 2, 4000]);
    // Whether it comes to listen or not.
    if (waitMs >= 1000) continue;
    dying.listen();
    await turn();
    assertEquals(notes.pop(), "worker 2 is listening again");
  }
  dying.listen();
  await turn();
  assertEquals([started[0].told, started[0].killed, clock.timers], [[], false, 0]);
});

Deno.test("Workers - one that cannot even be started is tried again, later each time", async () => {
  const world = await World.listening(2);
  const { clock, started, notes } = world;
  world.trouble = "no memory for a process";
  started[1].events.onEnd("SIGKILL");
  for (const waitMs of [50, 100, 200]) await clock.advance(waitMs);
  assertEquals(notes, [
    "worker 2 has ended (SIGKILL); it restarts in 50 ms",
    "worker 2 has ended (no memory for a process); it restarts in 100 ms",
    "worker 2 has ended (no memory for a process); it restarts in 200 ms",
    "worker 2 has ended (no memory for a process); it restarts in 400 ms",
  ]);
  world.trouble = undefined;
  await clock.advance(400);
  world.last.listen();
  await turn();
  assertEquals([started.length, started[2].number, started[2].port, clock.timers], [3, 2, 4000, 0]);
  await assertRejects(() => Object.assign(new World(), { trouble: "no" }).start(2), Error, "no");
});

Deno.test("Workers - a restarted one that does not come to listen is killed and tried again", async () => {
  const { clock, started, notes } = await World.listening(2);
  started[1].events.onEnd("SIGKILL");
  await clock.advance(50);
  const [, , hanging] = started;
  await clock.advance(59_999);
  assertEquals([hanging.killed, notes.length], [false, 1]);
  await clock.advance(1);
  assertEquals(hanging.killed, true);
  assertEquals(notes.at(-1), "worker 2 has ended (it has not listened within 60 s); it restarts in 100 ms");
  await clock.advance(100);
  const [, , , again] = started;
  again.listen();
  await turn();
  assertEquals(notes.at(-1), "worker 2 is listening again");
  await clock.advance(60_000);
  assertEquals([again.killed, clock.timers], [false, 0]);
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
  assertEquals(notes.at(-1), "worker 2 has ended (why); it restarts in 50 ms");
  await clock.advance(50);
});

Deno.test("Workers - a shutdown drains all, adds up what they report, and starts none again", async () => {
  const { workers, clock, started } = await World.listening(3);
  started[2].events.onEnd("why"); // waits to be started again
  const ended = workers.shutdown({ graceMs: 5_000 });
  assertEquals([started[0].told, started[1].told], [[{ type: "drain", graceMs: 5_000 }], [{
    type: "drain",
    graceMs: 5_000,
  }]]);
  started[0].drained(3, 1);
  started[1].drained(4, 0);
  assertEquals(await ended, { finished: 7, cut: 1 });
  assertEquals([started.length, clock.timers], [3, 0]);
});

Deno.test("Workers - one that does not end in time is made to, and one that dies meanwhile is not waited for", async () => {
  const { workers, clock, started, notes } = await World.listening(3);
  const ended = workers.shutdown({ graceMs: 5_000 });
  started[0].drained(1, 0);
  started[1].events.onEnd("why");
  await clock.advance(6_999);
  assertEquals(started[2].killed, false);
  await clock.advance(1);
  assertEquals(await ended, { finished: 1, cut: 0 });
  assertEquals(notes, [
    "worker 2 has ended (why) during the shutdown; its calls in flight are lost",
    "worker 3 did not end in time and is killed",
  ]);
  assertEquals([started.length, clock.timers], [3, 0]);
});

Deno.test("Workers - a shutdown before all listen drains those that do, and is no failed start", async () => {
  const world = new World();
  const workers = world.made(3);
  const starting = workers.start();
  world.last.listen();
  await turn();
  const ended = workers.shutdown({ graceMs: 5_000 });
  const [first, second, third] = world.started;
  assertEquals(first.told, [{ type: "drain", graceMs: 5_000 }]);
  second.events.onEnd("exit code 1");
  first.drained(2, 0);
  third.listen();
  third.drained(0, 0);
  assertEquals([await starting, await ended], [false, { finished: 2, cut: 0 }]);
  assertEquals([world.notes, world.started.map(({ killed }) => killed)], [[], [false, false, false]]);

  // And before the others are started.
  const early = new World();
  const few = early.made(2);
  const beginning = few.start();
  const stopped = few.shutdown({ graceMs: 5_000 });
  early.last.listen();
  early.last.drained(0, 0);
  assertEquals([await beginning, await stopped, early.started.length], [false, { finished: 0, cut: 0 }, 1]);
});

Deno.test("Workers - a signal that ends one before all listen, and comes here later, is no failed start", async () => {
  const world = new World();
  const workers = world.made(2);
  const starting = workers.start();
  world.last.listen();
  await turn();
  const [first, second] = world.started;
  second.events.onEnd("SIGTERM");
  await turn();
  const ended = workers.shutdown({ graceMs: 5_000 });
  first.drained(1, 0);
  await world.clock.advance(1_000);
  assertEquals([await starting, await ended], [false, { finished: 1, cut: 0 }]);
  assertEquals([world.notes, first.killed, world.clock.timers], [[], false, 0]);

  // A signal to this worker only.
  const other = new World();
  const failing = other.made(1).start();
  failing.catch(() => {});
  other.last.events.onEnd("SIGTERM");
  await turn();
  await other.clock.advance(1_000);
  assertEquals((await assertRejects(() => failing, Error)).message, "SIGTERM");
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

Deno.test("Workers - one that has not answered is asked no more until it has, and its answer serves all who wait", async () => {
  const { clock, started } = await World.listening(2);
  const [first, second] = started;
  for (let query = 1; query <= 100; query++) {
    first.tell({ type: "ask", query });
    if (query < 100) await clock.advance(1_000);
  }
  assertEquals(second.told.length, 1);
  first.tell({ type: "ask", query: 101 });
  const statistics = await statisticsOf(1);
  second.tell({ type: "report", query: 1, statistics });
  assertEquals(first.told.slice(-2), [
    { type: "others", query: 100, statistics: [statistics], silent: [] },
    { type: "others", query: 101, statistics: [statistics], silent: [] },
  ]);
  first.tell({ type: "ask", query: 102 });
  assertEquals(second.told.length, 2);
  second.events.onEnd("why");
  assertEquals(first.told.length, 102);
  await clock.advance(100);
  started[2].listen();
  await turn();
  assertEquals(clock.timers, 0);
});

Deno.test("Workers - nobody waits for the counts of one that has ended", async () => {
  const { clock, started } = await World.listening(3);
  const [first, second, third] = started;
  second.events.onEnd("why");
  first.tell({ type: "ask", query: 1 });
  assertEquals(first.told, []);
  third.events.onEnd("why");
  assertEquals(first.told, [{ type: "others", query: 1, statistics: [], silent: [2, 3] }]);
  await clock.advance(100);
  for (const worker of started.slice(3)) worker.listen();
  await turn();
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
    refused: { badFrame: 7, invalidMessage: 8, truncated: 9, unknownCommand: 10, overloaded: 11 },
    lateReplies: 11,
    draining: true,
    limits: { maxConnections: 12, maxInFlightTotal: 13 },
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
  assertEquals(sum.refused, { badFrame: 14, invalidMessage: 16, truncated: 18, unknownCommand: 20, overloaded: 22 });
  assertEquals(sum.bytes, { received: one.bytes.received + 10, sent: one.bytes.sent + 12 });
  const { calls, errors, inFlight, totalMs, maxMs, durations } = sum.commands.PING;
  assertEquals([calls, errors, inFlight, maxMs], [12, { A: 2, constructor: 4 }, 6, 1e6]);
  assertEquals(totalMs, one.commands.PING.totalMs + 2);
  assertEquals(durations.reduce((total, count) => total + count), 6);
  assertEquals(sum.commands.OWN.calls, 10);
  assertEquals([one.draining, sum.draining], [false, true]);
  assertEquals(sum.limits, {
    maxConnections: one.limits.maxConnections + 24,
    maxInFlightTotal: one.limits.maxInFlightTotal + 26,
  });
  assertEquals(sumStatistics(one), one);
});

Deno.test("a server without workers says nothing of any, and its own counts are those of all", async () => {
  await using server = await withServer();
  await using client = await connect({ port: server.port });
  assertEquals("worker" in (await client.reply("INFO")).res, false);
  const { res } = await client.reply("STATS", { all: true });
  assertEquals(["worker" in res, "workers" in res, res.connections.accepted], [false, false, 1]);
  const error = await assertRejects(() => client.reply("STATS", { all: "yes" as unknown as boolean }), RpcError);
  assertEquals(error.message, "INVALID_PARAMS: all: must be true or false");
});

Deno.test("a server that is one of several says which, and asks the others", async () => {
  const other = { ...await statisticsOf(5), worker: 2 };
  const askOthers = () => Promise.resolve({ statistics: [other], silent: [4] });
  await using server = await withServer({ worker: { number: 3, askOthers } });
  await using client = await connect({ port: server.port });
  await client.reply("PING");
  assertEquals((await client.reply("INFO")).res.worker, 3);
  const { res: own } = await client.reply("STATS");
  assertEquals([own.worker, own.workers, own.commands.PING.calls], [3, undefined, 1]);
  const { res: all } = await client.reply("STATS", { all: true });
  assertEquals([all.worker, all.workers], [3, { counted: [2, 3], silent: [4] }]);
  assertEquals(all.commands.PING.calls, 6);
});
