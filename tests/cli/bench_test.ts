/** `cli/bench.ts`: how a load is made, on a clock that stands still until the test moves it. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Bench, type Callable, type Load, paceOf } from "../../cli/bench.ts";
import { benchJson, benchProgress, benchReport } from "../../cli/bench_report.ts";
import { RpcError } from "../../errors.ts";
import { MAX_TIMER_MS } from "../../limits.ts";
import type { Timer } from "../../transport/clock.ts";
import { FakeClock } from "../support/fake_clock.ts";

const LOAD: Load = {
  call: { name: "PING", params: {} },
  inFlight: 1,
  calls: Infinity,
  durationMs: Infinity,
  rate: undefined,
};

/** A server that takes as long as it is told for each call, one call of a connection after the other. */
class SlowServer implements Callable {
  readonly clock: FakeClock;
  readonly #millisecondsOf: (call: number) => number;
  calls = 0;
  inFlight = 0;
  mostInFlight = 0;

  constructor(clock: FakeClock, millisecondsOf: (call: number) => number) {
    this.clock = clock;
    this.#millisecondsOf = millisecondsOf;
  }

  call(): Promise<unknown> {
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    return new Promise((resolve) => {
      const reply = () => {
        this.inFlight--;
        resolve({ res: "PONG" });
      };
      this.clock.setTimer(reply, this.#millisecondsOf(this.calls++), true);
    });
  }
}

function benchOn(clock: FakeClock, clients: readonly Callable[], load: Partial<Load>): Bench {
  const wait = (milliseconds: number) => new Promise<void>((wake) => void clock.setTimer(wake, milliseconds, true));
  return new Bench(clients, { ...LOAD, ...load }, { now: () => clock.now(), wait });
}

const percentiles = (bench: Bench) => [50, 90, 100].map((percent) => Math.round(bench.latencies.percentile(percent)));

Deno.test("without a rate, each reply makes room for the next call, and no more are in flight than wanted", async () => {
  const clock = new FakeClock();
  const servers = [new SlowServer(clock, () => 10), new SlowServer(clock, () => 20)];
  const bench = benchOn(clock, servers, { calls: 90, inFlight: 3 });
  const ended = bench.run();
  await clock.advance(10_000);
  await ended;
  assertEquals(servers.map(({ calls, mostInFlight }) => [calls, mostInFlight]), [[60, 3], [30, 3]]);
  assertEquals([bench.sent, bench.settled, bench.unanswered, bench.overdue], [90, 90, 0, 0]);
  assertEquals([bench.elapsedMs, bench.callsPerSecond], [200, 450]);
  assertEquals(percentiles(bench), [10, 20, 20]);
});

Deno.test("a duration ends the calls, and waits for those in flight", async () => {
  const clock = new FakeClock();
  const server = new SlowServer(clock, () => 30);
  const bench = benchOn(clock, [server], { durationMs: 100 });
  const ended = bench.run();
  await clock.advance(10_000);
  await ended;
  assertEquals([bench.sent, bench.settled, bench.elapsedMs], [4, 4, 120]);
});

Deno.test("a duration ends calls that get no reply half a second later, and they are told", async () => {
  for (const rate of [undefined, 100]) {
    const clock = new FakeClock();
    // From the eleventh call on, nothing is answered.
    const server = new SlowServer(clock, (call) => call < 10 ? 10 : 3_600_000);
    const load = { durationMs: 1000, inFlight: 2, rate };
    const bench = benchOn(clock, [server], load);
    let ended = false;
    const running = bench.run().then(() => ended = true);
    await clock.advance(1499);
    assertEquals(ended, false);
    await clock.advance(1);
    await running;
    assertEquals([bench.settled, bench.unanswered, bench.elapsedMs], [10, 2, 1000], `at a rate of ${rate}`);
    assertMatch(benchReport({ bench, load: { ...LOAD, ...load }, connections: 1 }), /^still in flight: 2$/m);
  }
});

Deno.test("with a rate, calls are made when they are due, over all connections in turn", async () => {
  const clock = new FakeClock();
  const servers = [new SlowServer(clock, () => 1), new SlowServer(clock, () => 1)];
  const bench = benchOn(clock, servers, { rate: 100, calls: 200, inFlight: 2 });
  const ended = bench.run();
  await clock.advance(10_000);
  await ended;
  assertEquals(servers.map(({ calls, mostInFlight }) => [calls, mostInFlight]), [[100, 1], [100, 1]]);
  assertEquals([bench.settled, bench.elapsedMs, percentiles(bench)], [200, 1991, [1, 1, 1]]);
});

Deno.test("with a rate, a latency counts from the time a call was due: a stall is felt by all who came meanwhile", async () => {
  // One call stalls for a second, in which a hundred are due.
  const stall = (call: number) => call === 10 ? 1000 : 1;
  const clock = new FakeClock();
  const closed = benchOn(clock, [new SlowServer(clock, stall)], { calls: 200 });
  const ended = [closed.run()];
  await clock.advance(10_000);
  assertEquals(percentiles(closed), [1, 1, 1000], "callers who wait for one another hide it");
  const open = benchOn(clock, [new SlowServer(clock, stall)], { calls: 200, rate: 100 });
  ended.push(open.run());
  await clock.advance(10_000);
  await Promise.all(ended);
  assertEquals(open.settled, 200);
  // Call 11 was due 10 ms into the stall and sent at its end, and so on: a hundred calls, each 9 ms less late.
  const [p50, p90, longest] = percentiles(open);
  assert(p50 > 90 && p90 > 800 && longest === 1000, `${p50}, ${p90}, ${longest}`);
});

Deno.test("a rate of less than 10 calls per second has a fraction", async () => {
  const clock = new FakeClock();
  const load = { ...LOAD, calls: 2 };
  const bench = benchOn(clock, [new SlowServer(clock, () => 2500)], load);
  const ended = bench.run();
  await clock.advance(10_000);
  await ended;
  assertMatch(benchReport({ bench, load, connections: 1 }), /^0\.4 calls\/s$/m);
});

Deno.test("calls that a rate wanted and that could not be made are told", async () => {
  const clock = new FakeClock();
  const bench = benchOn(clock, [new SlowServer(clock, () => 100)], { rate: 100, durationMs: 1000 });
  const ended = bench.run();
  await clock.advance(10_000);
  await ended;
  assertEquals([bench.sent, bench.settled, bench.overdue], [10, 10, 90]);
  assertMatch(benchReport({ bench, load: { ...LOAD, rate: 100 }, connections: 1 }), /^due but never sent: 90; /m);
});

Deno.test("failures are counted by code, with the text of the first", async () => {
  const clock = new FakeClock();
  let call = 0;
  const client = {
    call: () => call++ % 3 === 0 ? Promise.reject(new RpcError("OVERLOADED", `full ${call}`)) : Promise.resolve({}),
  };
  const bench = benchOn(clock, [client], { calls: 9 });
  await bench.run();
  assertEquals([bench.settled, ...bench.failures], [9, ["OVERLOADED", { count: 3, text: "full 1" }]]);
  const result = { bench, load: LOAD, connections: 1 };
  const report = benchReport(result);
  assertMatch(report, /^PING: 9 calls in 0\.000 s, 3 failed; 1 connection, /);
  assertMatch(report, /^failed with OVERLOADED: 3 \(full 1\)$/m);
  assertEquals(JSON.parse(benchJson(result)).errors, { OVERLOADED: 3 });
});

Deno.test("a load that is stopped tells what there is so far, and what was in flight", async () => {
  const clock = new FakeClock();
  const server = new SlowServer(clock, (call) => call < 4 ? 10 : 60_000);
  const load = { ...LOAD, calls: 10, inFlight: 2 };
  const bench = benchOn(clock, [server], load);
  const ended = bench.run();
  await clock.advance(500);
  assertEquals(benchProgress(bench, load), "40 %, 4 calls, 200 calls/s");
  bench.stop();
  await ended;
  await clock.advance(60_000);
  assertEquals([bench.sent, bench.settled, bench.unanswered], [6, 4, 2]);
  assertEquals(
    benchReport({ bench, load, connections: 1 }),
    `\
PING: 4 calls in 0.500 s; 1 connection, 2 in flight on each

8 calls/s

latency in ms, percentiles within 0.5 %:
     min      mean       p50       p90       p99     p99.9       max
   10.00     10.00     10.00     10.00     10.00     10.00     10.00

   <= 10  ########################################  100.00 %         4

still in flight: 2`,
  );
  const { settled, unanswered, latencyMs, histogram } = JSON.parse(benchJson({ bench, load, connections: 1 }));
  assertEquals([settled, unanswered, latencyMs.p99, histogram], [4, 2, 10, [{ upToMs: 10, calls: 4 }]]);
});

Deno.test("a load without any outcome is told without latencies", () => {
  const bench = benchOn(new FakeClock(), [], {});
  const result = { bench, load: LOAD, connections: 0 };
  assertMatch(benchReport(result), /^PING: 0 calls in /);
  assertEquals(JSON.parse(benchJson(result)).latencyMs.p50, null);
});

/** A clock whose timers are as short as those of the runtime. */
class ShortClock extends FakeClock {
  override setTimer(callback: () => void, delayMs: number, keepAlive: boolean): Timer {
    return super.setTimer(callback, Math.min(delayMs, MAX_TIMER_MS), keepAlive);
  }
}

Deno.test("a wait that no timer of the runtime can hold costs nothing until its end", async () => {
  const clock = new ShortClock();
  let isOver = false;
  const waited = paceOf(clock).wait(3 * MAX_TIMER_MS).then(() => isOver = true);
  for (let timer = 0; timer < 3; timer++) {
    assertEquals([clock.timers, isOver], [1, false]); // a timer, and no turns of the event loop
    await clock.advance(MAX_TIMER_MS);
  }
  await waited;
  assertEquals(clock.timers, 0);
});
