/** When clients come back, what waits for them, and what a caller is told. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { Hosts } from "../support/hosts.ts";
import { newSeed, Random } from "../support/random.ts";

Deno.test("redial - 1,000 clients of a restarted server come back spread over half a second", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  const clients: Client[] = [];
  for (let n = 0; n < 1_000; n++) {
    clients.push(await connect({ servers: ["a"], dial: hosts.dial, clock, random: () => random.next() }));
  }
  const servers = await Promise.all(clients.map(() => hosts.accept("a")));
  // Each has had an answer, and has calls waiting for the next one.
  const first = Promise.all(clients.map((client) => client.reply("A")));
  await Promise.all(servers.map(async (server) => {
    await server.request();
    await server.reply({ seq: 0, res: 1 });
  }));
  await first;
  hosts.dials.length = 0;
  const startMs = clock.now();
  for (const server of servers) server.cut();
  await turn();
  const calls = Promise.allSettled(clients.map((client) => client.reply("B")));
  await clock.advance(1_000);
  const perTenth = Array.from({ length: 10 }, () => 0);
  for (const { atMs } of hosts.dials) perTenth[Math.floor((atMs - startMs) / 100)]++;
  console.log(`dials per 100 ms: ${perTenth}`);
  assertEquals(hosts.dials.length, 1_000);
  assert(Math.max(...perTenth) <= 260, "not in one instant");
  assertEquals(perTenth.slice(5), [0, 0, 0, 0, 0]);
  await Promise.all(clients.map((client) => client.close()));
  await calls;
});

Deno.test("redial - a server without seq that answers once is dialled again without a pause", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  const options = { servers: ["a"], dial: hosts.dial, clock, random: () => 1, sequenced: false };
  await using client = await connect(options);
  for (let n = 0; n < 5; n++) {
    const call = client.reply("A");
    const server = await hosts.accept("a");
    assertEquals(await server.message(), { cmd: "A", ttl: 30_000 });
    await server.reply({ res: n });
    assertEquals((await call).res, n);
    server.cut();
    await turn();
  }
  assertEquals(hosts.dials.map(({ atMs }) => atMs), Array(5).fill(1_000));
});

async function setUp(options: ConnectOptions = {}) {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  const client = await connect({ servers: ["a"], dial: hosts.dial, clock, random: () => 1, ...options });
  const server = await hosts.accept("a");
  const call = client.reply("A");
  await server.request();
  await server.reply({ seq: 0, res: 1 });
  await call;
  return { client, server, clock, hosts };
}

Deno.test("waitForReady: false - without a connection a call fails at once, and says why", async () => {
  const { client, server, clock, hosts } = await setUp({ waitForReady: false });
  hosts.down.add("a");
  server.cut();
  await turn();
  const error = await assertRejects(() => client.reply("B"), RpcError);
  assertEquals([error.code, error.retryable], ["CONNECTION_LOST", true]);
  assertStringIncludes(
    error.message,
    "no server can be reached, and waitForReady is false: the connection to memory is lost",
  );
  const patient = client.reply("C", {}, { waitForReady: true, timeoutMs: Infinity });
  await clock.advance(600);
  const later = await assertRejects(() => client.reply("D"), RpcError);
  assertStringIncludes(later.message, "waitForReady is false: cannot reach the server: a is down");
  assertStringIncludes(`${(later.cause as Error).message}`, "a is down");
  hosts.down.clear();
  const accepted = hosts.accept("a");
  await clock.advance(5_000);
  const next = await accepted;
  assertEquals((await next.request()).cmd, "C");
  await next.reply({ seq: 0, res: 3 });
  assertEquals((await patient).res, 3);
  await client.close();
});

Deno.test("waitForReady: false - for one call; the first dial is waited for, and its failure ends it", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  await using client = await connect({ servers: ["a"], dial: hosts.dial, clock, random: () => 1, lazy: true });
  const call = client.reply("A", {}, { waitForReady: false });
  const server = await hosts.accept("a");
  assertEquals((await server.request()).cmd, "A");
  await server.reply({ seq: 0, res: 1 });
  assertEquals((await call).res, 1);
  hosts.down.add("a");
  server.cut();
  await clock.advance(10_000);
  const failed = assertRejects(() => client.reply("B", {}, { waitForReady: false }), RpcError);
  const stream = assertRejects(() => client.stream("S", {}, { waitForReady: false }).next(), RpcError);
  const patient = assertRejects(() => client.reply("C", {}, { timeoutMs: 60_000 }), RpcError);
  assertEquals([(await failed).code, (await stream).code], ["CONNECTION_LOST", "CONNECTION_LOST"]);
  await client.close();
  assertEquals((await patient).code, "CLOSED");
});

Deno.test("TIMEOUT - its text says where the time went", async () => {
  const { client, server, clock, hosts } = await setUp({ timeoutMs: 1_000 });
  const text = async (call: Promise<unknown>) => (await assertRejects(() => call, RpcError)).message;
  const sent = text(client.reply("B"));
  await server.request();
  await clock.advance(1_010);
  assertEquals(await sent, "TIMEOUT: no reply within 1000 ms: sent to memory after 0 ms");
  // After a wait for the connection.
  server.cut();
  await turn();
  const late = text(client.reply("C"));
  const accepted = hosts.accept("a");
  await clock.advance(500);
  await (await accepted).request();
  await clock.advance(600);
  assertEquals(await late, "TIMEOUT: no reply within 1000 ms: sent to memory after 500 ms");
  await client.close();
});

Deno.test("TIMEOUT - a dial without end is named, with its time", async () => {
  const clock = new FakeClock();
  const dial = () => new Promise<never>(() => {});
  await using client = await connect({ servers: ["a", "b"], dial, clock, lazy: true, timeoutMs: 2_000 });
  const call = assertRejects(() => client.reply("A"), RpcError);
  await clock.advance(2_010);
  assertEquals(
    (await call).message,
    "TIMEOUT: no reply within 2000 ms, and the call was not sent: CONNECTION_LOST: still connecting to a after 2000 ms; still connecting to b after 2000 ms",
  );
});
