/**
 * More load than a server can carry (PROTOCOL.md, "What goes wrong"): it answers as many requests in time as it can, and refuses
 * the others. In simulated time, and once over sockets.
 */

import { assert, assertEquals, assertGreater, assertLess, assertMatch } from "@std/assert";
import { command, type Commands } from "../../handlers/command.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import { sleep } from "../../transport/clock.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";
import { type Answered, type Arriving, underLoad } from "../support/simulated_load.ts";
import { connectTcp } from "../support/peers.ts";
import type { Message } from "../support/wire.ts";

const TTL_MS = 100;
const COMPUTE_MS = 2;

/** A server with a command that computes, 500 times a second at most, and one that waits. */
function computing(clock: FakeClock): { commands: Commands } {
  return {
    commands: {
      COMPUTE: command(({ ms = COMPUTE_MS }: { ms?: number }) => clock.compute(ms)),
      WAIT: command(({ ms }: { ms: number }, { clock, signal }) => sleep(clock, ms, signal)),
    },
  };
}

/** Requests at random times, on random connections. */
function randomLoad(random: Random, load: { times: number; connections: number; forMs: number }): Arriving[] {
  const arriving: Arriving[] = [];
  const gapMs = () => -Math.log(1 - random.next()) * COMPUTE_MS / load.times;
  for (let atMs = 0; atMs < load.forMs; atMs += gapMs()) {
    const request = { cmd: "COMPUTE", seq: arriving.length, ttl: TTL_MS };
    arriving.push({ atMs, connection: random.below(load.connections), request });
  }
  return arriving;
}

/** Requests at given times, each on a connection of its own. */
function loadOf(...requests: [atMs: number, request: Message][]): Arriving[] {
  return requests.map(([atMs, request], seq) => ({ atMs, connection: seq, request: { ...request, seq } }));
}

function errorsOf(answers: readonly Answered[]): string[] {
  return answers.flatMap(({ reply: { err } }) => err as string ?? []);
}

const isUseful = ({ reply, afterMs }: Answered) => reply.err === undefined && afterMs <= TTL_MS;

// More than it can carry ----------------------------------------------------------------------------------------------

for (const connections of [1, 10, 50, 200]) {
  Deno.test(`at two and three times its capacity, on ${connections} connections, a server answers as many in time as it can`, async () => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    for (const times of [2, 3]) {
      const clock = new FakeClock();
      const load = randomLoad(new Random(seed), { times, connections, forMs: 3_000 });
      const answers = await underLoad(clock, computing(clock), load);
      // The first requests come to a server that is not overloaded yet.
      const later = answers.filter((_, index) => load[index].atMs >= 1_000);
      const useful = later.filter(isUseful).length;
      assertGreater(useful, 0.9 * 2_000 / COMPUTE_MS);
      const answered = later.filter(({ reply }) => reply.err === undefined).map(({ afterMs }) => afterMs);
      assertLess(answered.sort((a, b) => a - b)[Math.floor(0.99 * answered.length)], TTL_MS);
      const refused = errorsOf(later);
      assertEquals(useful + refused.length + answered.filter((ms) => ms > TTL_MS).length, later.length);
      assertGreater(refused.filter((err) => err === "OVERLOADED").length, 0.5 * refused.length);
    }
  });
}

Deno.test("a request that is refused because it would be answered too late says so, and when to come back", async () => {
  const clock = new FakeClock();
  const load = randomLoad(new Random(1), { times: 2, connections: 1, forMs: 2_000 });
  load.push({ atMs: 3_000, connection: 0, request: { cmd: "STATS", seq: load.length } });
  const answers = await underLoad(clock, computing(clock), load);
  const { reply: { res } } = answers.pop()!;
  const refused = answers.filter(({ reply }) => reply.err === "OVERLOADED").map(({ reply }) => reply);
  for (const { msg, $after } of refused) {
    assertMatch(
      msg as string,
      new RegExp(`^the server is busy: the request may have waited for ${$after} ms of other work, `),
    );
    assert($after as number >= 0.75 * TTL_MS && $after as number <= 2 * TTL_MS, `${$after}`);
  }
  assertEquals((res as ServerStatistics).refused.overloaded, refused.length);
  assertEquals((res as ServerStatistics).commands.COMPUTE.inFlight, 0);
});

Deno.test("an overloaded server does not refuse a PING, nor a request without a ttl", async () => {
  const clock = new FakeClock();
  const load = randomLoad(new Random(2), { times: 2, connections: 20, forMs: 2_000 });
  for (const [index, { request }] of load.entries()) {
    if (index % 10 === 0) request.cmd = "PING";
    if (index % 10 === 1) delete request.ttl;
  }
  const answers = await underLoad(clock, computing(clock), load);
  const pings = answers.filter((_, index) => index % 10 === 0);
  assert(!errorsOf(pings).includes("OVERLOADED"));
  assertEquals(errorsOf(answers.filter((_, index) => index % 10 === 1)), []);
  assert(errorsOf(answers).includes("OVERLOADED"));
});

Deno.test("an overloaded server goes on with requests that have more time", async () => {
  const clock = new FakeClock();
  const load = randomLoad(new Random(3), { times: 1.5, connections: 20, forMs: 3_000 });
  for (const { request } of load) if (request.seq as number % 2 === 0) request.ttl = 10_000;
  const answers = await underLoad(clock, computing(clock), load);
  assertEquals(errorsOf(answers.filter((_, index) => index % 2 === 0)), []);
});

// Less than it can carry ------------------------------------------------------------------------------------------------

Deno.test("at half of its capacity a server refuses nothing", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  for (const connections of [1, 20, 200]) {
    const clock = new FakeClock();
    const load = randomLoad(new Random(seed), { times: 0.5, connections, forMs: 5_000 });
    assertEquals(errorsOf(await underLoad(clock, computing(clock), load)), []);
  }
});

Deno.test("a server at rest takes as many requests at once as it can answer in time", async () => {
  const clock = new FakeClock();
  const burst = Array.from({ length: 49 }, (): [number, Message] => [1_000, { cmd: "COMPUTE", ttl: TTL_MS }]);
  const answers = await underLoad(clock, computing(clock), loadOf(...burst));
  assertEquals(answers.filter(isUseful).length, 49);
});

Deno.test("one long computation does not refuse what came meanwhile", async () => {
  const clock = new FakeClock();
  const meanwhile = [10, 60, 140].map((atMs): [number, Message] => [1_000 + atMs, { cmd: "COMPUTE", ttl: TTL_MS }]);
  const load = loadOf([0, { cmd: "PING" }], [1_000, { cmd: "COMPUTE", ms: 150 }], ...meanwhile);
  const answers = await underLoad(clock, computing(clock), load);
  assertEquals(errorsOf(answers), []);
  assert(isUseful(answers[4]) && !isUseful(answers[2]), "the server cannot know which of them is too old");
});

Deno.test("handlers that wait refuse nothing, also at the limit of their connection", async () => {
  const clock = new FakeClock();
  const load: Arriving[] = [];
  for (let atMs = 0; atMs < 2_500; atMs += 10) {
    load.push({ atMs, connection: 0, request: { cmd: "COMPUTE", seq: load.length, ttl: TTL_MS } });
  }
  const onOther = (atMs: number, request: Message) => {
    load.push({ atMs, connection: 1, request: { ...request, seq: load.length } });
  };
  for (let count = 0; count < 3; count++) onOther(0, { cmd: "WAIT", ms: 2_000, ttl: 30_000 });
  onOther(1_990, { cmd: "COMPUTE", ttl: TTL_MS });
  load.sort((a, b) => a.atMs - b.atMs);
  const answers = await underLoad(clock, { ...computing(clock), maxInFlight: 2 }, load);
  assertEquals(errorsOf(answers), []);
});

Deno.test("a connection that was quiet is not refused beside a single busy one, at a fifth or most of the capacity", async () => {
  for (const gapMs of [10, 2.5]) {
    const clock = new FakeClock();
    const load = loadOf([0, { cmd: "PING" }], [2_990, { cmd: "COMPUTE", ttl: TTL_MS }]);
    for (let atMs = 0; atMs < 3_500; atMs += gapMs) {
      load.push({ atMs, connection: 2, request: { cmd: "COMPUTE", seq: load.length, ttl: TTL_MS } });
    }
    const answers = await underLoad(clock, computing(clock), load.sort((a, b) => a.atMs - b.atMs));
    assertEquals(errorsOf(answers), []);
  }
});

Deno.test("a request without seq that waits for its turn behind a waiting one is not refused for that", async () => {
  const clock = new FakeClock();
  const load: Arriving[] = [];
  for (let atMs = 0; atMs < 2_500; atMs += 6) {
    load.push({ atMs, connection: 0, request: { cmd: "COMPUTE", seq: load.length, ttl: TTL_MS } });
  }
  load.push({ atMs: 2_000, connection: 1, request: { cmd: "WAIT", ms: 90 } });
  load.push({ atMs: 2_001, connection: 1, request: { cmd: "COMPUTE", ttl: TTL_MS } });
  const answers = await underLoad(clock, computing(clock), load.sort((a, b) => a.atMs - b.atMs));
  assertEquals(errorsOf(answers), []);
  assertGreater(Math.max(...answers.filter(isUseful).map(({ afterMs }) => afterMs)), 0.75 * TTL_MS);
});

Deno.test("a server that was stopped takes what waited for what it is, and recovers", async () => {
  const clock = new FakeClock();
  clock.setTimer(() => clock.compute(5_000), 2_000, false);
  const load = randomLoad(new Random(4), { times: 0.5, connections: 20, forMs: 8_000 });
  const answers = await underLoad(clock, computing(clock), load);
  assertEquals(errorsOf(answers.filter((_, index) => load[index].atMs < 2_000)), []);
  assertEquals(errorsOf(answers.filter((_, index) => load[index].atMs > 7_500)), []);
});

// Over sockets ----------------------------------------------------------------------------------------------------------

Deno.test("over sockets, a server with four times the load that it can carry answers in time what it does not refuse", async () => {
  const worker = new Worker(new URL("./computing_worker.ts", import.meta.url), { type: "module" });
  const port = await new Promise<number>((resolve) => worker.onmessage = ({ data }) => resolve(data));
  const peers = await Promise.all([1, 2, 3].map(() => connectTcp(port)));
  const sentMs: number[] = [];
  const replies: Promise<{ reply: Message; afterMs: number; atMs: number }>[] = [];
  for (const peer of peers) {
    const read = async () => {
      const reply = await peer.readReply();
      const nowMs = performance.now();
      return { reply, atMs: sentMs[reply.seq as number], afterMs: nowMs - sentMs[reply.seq as number] };
    };
    let before: Promise<unknown> = Promise.resolve();
    for (let count = 0; count < 400; count++) replies.push(before = before.then(read) as ReturnType<typeof read>);
  }
  // At a fixed rate, whatever is answered: only then do requests wait where the server cannot see them.
  const startMs = performance.now();
  for (let seq = 0; seq < 1_200; seq++) {
    while (performance.now() - startMs < seq * 1.25) await new Promise((resolve) => setTimeout(resolve, 1));
    sentMs.push(performance.now());
    await peers[seq % 3].send({ cmd: "COMPUTE", seq, ttl: 200 });
  }
  const answers = await Promise.all(replies);
  for (const peer of peers) await peer[Symbol.asyncDispose]();
  worker.terminate();
  const later = answers.filter(({ atMs }) => atMs - startMs > 600);
  assertGreater(later.filter(({ reply, afterMs }) => reply.err === undefined && afterMs <= 200).length, 0);
  const refused = later.filter(({ reply }) => reply.err === "OVERLOADED");
  assertGreater(refused.length, 0);
  for (const { reply: { $after } } of refused) assertGreater($after as number, 0);
});
