/** A client of many servers: who gets a call, who sits out, who comes back. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { encodeFrame } from "../../codec/encode.ts";
import type { Fields } from "../../codec/message.ts";
import { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { Hosts } from "../support/hosts.ts";
import { newSeed, Random } from "../support/random.ts";
import type { ScriptedServer } from "../support/scripted_server.ts";

/** A client of scripted servers, all of them connected. */
async function setUp<Name extends string>(names: readonly Name[], options: ConnectOptions = {}) {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  const accepted = names.map((name) => hosts.accept(name));
  const client = await connect({ servers: names, dial: hosts.dial, clock, random: () => 1, ...options });
  const servers = await Promise.all(accepted);
  await turn();
  const named = Object.fromEntries(names.map((name, index) => [name, servers[index]])) as Record<Name, ScriptedServer>;
  return { client, clock, hosts, ...named };
}

const states = (client: Client) => client.servers.map(({ address, state }) => `${address} ${state}`);

/** Answers every request of a scripted server with its name, and counts them, until it ends. */
async function answering(server: ScriptedServer, name = ""): Promise<number> {
  let count = 0;
  for (let message = await server.message(); message !== undefined; message = await server.message()) {
    if (message.cmd === 0) continue;
    count++;
    await server.reply({ seq: message.seq, res: name }).catch(() => {});
  }
  return count;
}

Deno.test("servers - calls go to the one with fewer in flight", async () => {
  const { client, a, b } = await setUp(["a", "b"]);
  assertEquals(states(client), ["a open", "b open"]);
  const calls = Promise.all(Array.from({ length: 10 }, () => client.reply("A")));
  await Promise.all([a.requests(5), b.requests(5)]);
  assertEquals(client.servers.map(({ inFlight }) => inFlight), [5, 5]);
  const served = [answering(a), answering(b)];
  await a.reply(...[0, 1, 2, 3, 4].map((seq) => ({ seq, res: seq })));
  await turn();
  assertEquals(client.servers.map(({ inFlight }) => inFlight), [0, 5]);
  const more = Promise.all(Array.from({ length: 5 }, () => client.reply("B")));
  await turn();
  await b.reply(...[0, 1, 2, 3, 4].map((seq) => ({ seq, res: seq })));
  await Promise.all([calls, more]);
  await client.close();
  assertEquals(await Promise.all(served), [5, 0], "all five went to the one that had none");
});

Deno.test("servers - of three servers one is slow: it gets fewer calls, and no other waits for it", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const counts = [0, 0, 0];
  const served = await Promise.all([0, 1, 2].map((index) =>
    serve({
      port: 0,
      commands: {
        WORK: command(async () => {
          counts[index]++;
          if (index === 2) await new Promise((resolve) => setTimeout(resolve, 50));
          return index;
        }),
      },
    })
  ));
  const servers = served.map(({ port }) => `127.0.0.1:${port}`);
  await using client = await connect({ servers, random: () => random.next() });
  const callers = Array.from({ length: 8 }, async () => {
    for (let calls = 0; calls < 200; calls++) await client.call("WORK");
  });
  await Promise.all(callers);
  console.log(`calls: ${counts}`);
  assert(counts[2] < 160 && counts[0] > 500 && counts[1] > 500, `${counts}`);
  await client.close();
  await Promise.all(served.map((server) => server.shutdown()));
});

Deno.test("servers - connect() resolves with the first that is reached; the others come later", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  hosts.down.add("a");
  await using client = await connect({ servers: ["a", "b"], dial: hosts.dial, clock, random: () => 1 });
  const b = await hosts.accept("b");
  assertEquals(states(client), ["a waiting", "b open"]);
  assertStringIncludes(`${client.servers[0].error?.message}`, "a is down");
  assertEquals(client.servers[0].waitMs, 50);
  const call = client.reply("A");
  assertEquals((await b.request()).cmd, "A");
  await b.reply({ seq: 0, res: 1 });
  await call;
  assertEquals(hosts.dialsTo("a"), 1, "not before its time");
  hosts.down.clear();
  await clock.advance(60_000);
  assertEquals([hosts.dialsTo("a"), clock.timers], [1, 0], "no call needs it, no timer runs");
  void answering(b, "b");
  const next = client.reply("B");
  void answering(await hosts.accept("a"), "a");
  await next;
  await turn();
  assertEquals(states(client), ["a open", "b open"]);
  // After its quiet time, b is first looked at.
  const names = new Set<unknown>();
  for (let calls = 0; calls < 10_000 && names.size < 2; calls++) {
    await turn();
    for (const { res } of await Promise.all([client.reply("C"), client.reply("C")])) names.add(res);
  }
  assertEquals([...names].sort(), ["a", "b"]);
  await client.close();
});

Deno.test("servers - connect() fails when all have failed, and names each reason", async () => {
  const hosts = new Hosts(new FakeClock());
  hosts.down.add("a").add("b");
  const error = await assertRejects(() => connect({ servers: ["a", "b"], dial: hosts.dial }), RpcError);
  assertEquals([error.code, error.retryable], ["CONNECTION_LOST", true]);
  assertEquals(
    error.message,
    "CONNECTION_LOST: cannot reach the server: a is down; cannot reach the server: b is down",
  );
});

Deno.test("servers - one that is lost sits out, and comes back after a PING, not before", async () => {
  const { client, clock, hosts, a, b } = await setUp(["a", "b"]);
  const calls = Promise.all([client.reply("A"), client.reply("A", {}, { idempotent: true })]);
  assertEquals((await b.request()).cmd, "A");
  await b.reply({ seq: 0, res: 1 });
  const served = answering(b);
  await a.request();
  a.cut();
  await calls; // the second one was sent again, at once
  await client.reply("B");
  assertEquals(states(client), ["a waiting", "b open"]);
  await clock.advance(500);
  const silent = hosts.accept("a", { answersPings: false });
  await client.reply("C");
  await using back = await silent;
  assertEquals(states(client), ["a connecting", "b open"]);
  const message = await back.message();
  assertEquals(message, { cmd: 0, max: 1_048_576, alive: 30_000, notice: true });
  const ping = await back.message();
  assertEquals(ping, { cmd: 1, seq: Number.MAX_SAFE_INTEGER });
  await Promise.all(Array.from({ length: 10 }, () => client.reply("D")));
  await back.reply({ seq: ping?.seq, res: "PONG" });
  await turn();
  assertEquals(states(client), ["a open", "b open"]);
  assertEquals(client.statistics().lateReplies, 0);
  const two = [client.reply("E"), client.reply("E")];
  assertEquals(await back.message(), { cmd: "E", seq: 0, ttl: 30_000 });
  await back.reply({ seq: 0, res: 1 });
  await Promise.all(two);
  await client.close();
  assert(await served >= 13);
});

Deno.test("servers - one that accepts and answers no PING gets no calls, and the wait doubles", async () => {
  const { client, clock, hosts, a, b } = await setUp(["a", "b"]);
  void answering(b);
  a.cut();
  await turn();
  for (const [round, waitMs] of [50, 100, 200].entries()) {
    await clock.advance(waitMs === 50 ? 50 : 0);
    await client.reply("A");
    await using _deaf = await hosts.accept("a", { answersPings: false });
    await clock.advance(10_000);
    await turn();
    assertStringIncludes(`${client.servers[0].error?.message}`, "has not answered a PING within 10000 ms");
    assertEquals(client.servers[0].waitMs, 2 * waitMs, `round ${round}`);
    await clock.advance(2 * waitMs);
  }
  await client.close();
});

for (const err of ["OVERLOADED", "SHUTTING_DOWN", "NOT_READY", "DEADLINE_EXCEEDED"]) {
  Deno.test(`servers - one that answers the PING with ${err} gets no calls; another error is an answer`, async () => {
    const { client, clock, hosts, a, b } = await setUp(["a", "b"]);
    void answering(b);
    a.cut();
    await clock.advance(500);
    await client.reply("A");
    const refusing = await hosts.accept("a", { answersPings: false });
    await refusing.message();
    await refusing.reply({ seq: (await refusing.message())?.seq, err });
    await refusing.rest();
    assertEquals([client.servers[0].state, client.servers[0].error?.code], ["waiting", err]);
    await clock.advance(500);
    await client.reply("A");
    await using odd = await hosts.accept("a", { answersPings: false });
    await odd.message();
    await odd.reply({ seq: (await odd.message())?.seq, err: "INVALID_PARAMS" });
    await turn();
    assertEquals(client.servers[0].state, "open");
    await client.close();
  });
}

for (const end of ["going", "garbage"] as const) {
  Deno.test(`servers - one that answers the PING and ends in the same breath gets no calls (${end})`, async () => {
    const { client, clock, hosts, a, b } = await setUp(["a", "b"]);
    void answering(b);
    a.cut();
    await clock.advance(500);
    await client.reply("A");
    const back = await hosts.accept("a", { answersPings: false });
    await back.message();
    const pong = { seq: (await back.message())?.seq, res: "PONG" };
    const frame = encodeFrame<Fields>(pong, (writer, message) => writer.writeValue(message));
    const last = end === "garbage"
      ? Uint8Array.of(0xff, 0xff) // declares more than a frame can hold
      : encodeFrame<Fields>({ going: 5_000 }, (writer, message) => writer.writeValue(message));
    await back.send(Uint8Array.from([...frame, ...last]));
    await back.rest();
    assertEquals(states(client), ["a waiting", "b open"]);
    for (let n = 0; n < 5; n++) await client.reply("A");
    await client.close();
  });
}

Deno.test("servers - a stream stays where it began", async () => {
  const { client, a, b } = await setUp(["a", "b"]);
  const stream = client.stream("NEWS", {}, { credit: 2 });
  const first = stream.next();
  const home = b;
  await home.request();
  void answering(a);
  await home.reply({ seq: 0, res: 1, more: true });
  assertEquals((await first).value, 1);
  for (let n = 2; n < 10; n++) {
    await client.reply("A");
    const next = stream.next();
    assertEquals(await home.request(), { cmd: 0, seq: 0, credit: 1 });
    await home.reply({ seq: 0, res: n, more: true });
    assertEquals((await next).value, n);
  }
  await client.close();
});

Deno.test("servers - connectionsPerServer: several connections to each, used alike", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  const accepted = [1, 2, 3].map(() => hosts.accept("a"));
  const options = { servers: ["a"], connectionsPerServer: 3, dial: hosts.dial, clock, random: () => 1 };
  await using client = await connect(options);
  const connections = await Promise.all(accepted);
  await turn();
  assertEquals(states(client), ["a open", "a open", "a open"]);
  const calls = Promise.all(Array.from({ length: 30 }, () => client.reply("A")));
  for (const connection of connections) void answering(connection);
  await turn();
  await calls;
  assertEquals(hosts.dialsTo("a"), 3);
});

Deno.test("servers - a function is asked again after 30 s of calls, and after a loss; what it names is used", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  let asked = 0;
  let names = ["a"];
  const servers = () => {
    asked++;
    return Promise.resolve(names);
  };
  await using client = await connect({ servers, dial: hosts.dial, clock, random: () => 1 });
  const a = answering(await hosts.accept("a"));
  await client.reply("A");
  assertEquals([asked, states(client)], [1, ["a open"]]);
  names = ["a", "b"];
  await clock.advance(29_000);
  await client.reply("A");
  assertEquals(asked, 1);
  await clock.advance(1_000);
  const accepted = hosts.accept("b");
  const asking = client.reply("A");
  const b = await accepted;
  void answering(b);
  await asking;
  await turn();
  assertEquals(asked, 2);
  assertEquals(states(client), ["a open", "b open"]);
  names = ["b", "c"];
  b.cut();
  await clock.advance(1_000);
  const call = client.reply("A");
  const c = await hosts.accept("c");
  await a; // it is no longer named: its connection is closed
  assertEquals((await c.request()).cmd, "A");
  await c.reply({ seq: 0, res: 1 });
  await call;
  assertEquals([asked, states(client)], [3, ["b connecting", "c open"]]);
  await client.close();
});

Deno.test("servers - a removed server answers what it has, and is not dialled again", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  let names = ["a", "b"];
  const options = { dial: hosts.dial, clock, random: () => 1, timeoutMs: Infinity, aliveMs: 0 };
  await using client = await connect({ servers: () => names, ...options });
  const [a, b] = await Promise.all([hosts.accept("a"), hosts.accept("b")]);
  await turn();
  const slow = [client.reply("SLOW"), client.reply("SLOW")];
  await Promise.all([a.request(), b.request()]);
  await b.reply({ seq: 0, res: "slow" });
  void answering(b);
  names = ["b"];
  await clock.advance(30_000);
  await client.reply("A"); // by this call the function is asked
  await turn();
  assertEquals(states(client), ["b open"]);
  for (let n = 0; n < 10; n++) await client.reply("A");
  await a.reply({ seq: 0, res: "slow" });
  await Promise.all(slow);
  assertEquals(await a.rest(), [], "nothing more came to it");
  await clock.advance(60_000);
  await client.reply("A");
  assertEquals(hosts.dialsTo("a"), 1);
});

Deno.test("servers - the connection to a removed server ends when its last call is given up, though no answer comes", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  let names = ["a"];
  const options = { dial: hosts.dial, clock, random: () => 1, timeoutMs: 40_000, aliveMs: 0 };
  await using client = await connect({ servers: () => names, ...options });
  const a = await hosts.accept("a");
  const slow = assertRejects(() => client.reply("SLOW"), RpcError);
  await a.request();
  names = ["b"];
  await clock.advance(30_000);
  const other = client.reply("A"); // by this call the function is asked
  void answering(await hosts.accept("b"));
  await other;
  await clock.advance(10_000);
  assertEquals((await slow).code, "TIMEOUT");
  assertEquals(await a.request(), { cmd: 0, seq: 0, cancel: true });
  await a.reply({ seq: 99, res: "a sign of life, and the last one" });
  await clock.advance(10_000);
  assertEquals(await a.rest(), []);
});

Deno.test("servers - a function that returns no list of servers is told so", async () => {
  const list = "the function did not return an array of texts";
  const clock = new FakeClock();
  const dial = () => Promise.reject(new Error("not dialled"));
  for (
    const [found, fault] of [[[5], list], ["a", list], [undefined, list], [[], "the function returned no servers"]]
  ) {
    for (const own of [{ dial }, {}]) {
      const connecting = connect({ servers: () => found as never, clock, ...own });
      const error = await assertRejects(() => connecting, RpcError);
      assertEquals(error.message, `CONNECTION_LOST: cannot find the servers: ${fault}`);
    }
  }
});

Deno.test("servers - a function that fails: connect() says so; later, the servers of before are kept", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  const away = () => Promise.reject(new Error("the name server is away"));
  const error = await assertRejects(() => connect({ servers: away, dial: hosts.dial, clock }), RpcError);
  assertEquals(
    [error.code, error.message],
    ["CONNECTION_LOST", "CONNECTION_LOST: cannot find the servers: the name server is away"],
  );
  let fails = false;
  await using client = await connect({
    servers: () => fails ? away() : ["a"],
    dial: hosts.dial,
    clock,
    random: () => 1,
  });
  const a = await hosts.accept("a");
  void answering(a);
  fails = true;
  await clock.advance(60_000);
  await client.reply("A");
  await client.reply("A");
  assertEquals(states(client), ["a open"]);
});

Deno.test("servers - a lazy client whose function fails asks again each second while calls wait", async () => {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  let asked = 0;
  const servers = () => ++asked < 4 ? [] : ["a"];
  await using client = await connect({ servers, dial: hosts.dial, clock, random: () => 1, lazy: true });
  assertEquals([asked, client.state], [0, "idle"]);
  const call = client.reply("A");
  await turn();
  assertEquals([asked, client.state], [1, "waiting"]);
  await clock.advance(3_000);
  assertEquals(asked, 4);
  const a = await hosts.accept("a");
  await a.request();
  await a.reply({ seq: 0, res: "found" });
  assertEquals((await call).res, "found");
  await client.close();
  assertEquals(clock.timers, 0);
});

Deno.test("servers - a function that never returns is given up after 10 s; a client that is closed meanwhile says so", async () => {
  const clock = new FakeClock();
  const servers = () => new Promise<string[]>(() => {});
  const late = assertRejects(() => connect({ servers, clock }), RpcError);
  await clock.advance(10_000);
  assertStringIncludes((await late).message, "cannot find the servers: the function has not returned within 10000 ms");
  assertEquals(clock.timers, 0);
  const closing = new AbortController();
  const closed = assertRejects(() => connect({ servers, clock, signal: closing.signal }), RpcError);
  await turn();
  closing.abort();
  assertEquals([(await closed).code, clock.timers], ["CLOSED", 0]);
});

Deno.test("servers - a name that is none is refused at once, by its text", async () => {
  for (const server of ["", ":1235", "a:b", "a:99999", "a:0", "::1", "http://a:1", "unix:", "a b:1"]) {
    await assertRejects(
      () => connect({ servers: [server] }),
      TypeError,
      `Cannot use ${JSON.stringify(server)} as a server`,
    );
  }
  await assertRejects(() => connect({ servers: [] }), TypeError, "as servers: it must be an array of servers");
  await assertRejects(
    () => connect({ servers: ["a:1"], port: 2 }),
    TypeError,
    "together with hostname, port, path or url",
  );
  await assertRejects(() => connect({ connectionsPerServer: 0 }), RangeError, "a whole number from 1 to 64");
});

Deno.test("servers - by IPv4, IPv6, name and unix socket", async () => {
  const path = await Deno.makeTempFile();
  await Deno.remove(path);
  await using four = await serve({ port: 0 });
  await using six = await serve({ hostname: "::1", port: 0 });
  await using unix = await serve({ path });
  const servers = [`127.0.0.1:${four.port}`, `[::1]:${six.port}`, `localhost:${four.port}`, `unix:${path}`];
  await using client = await connect({ servers });
  for (let calls = 0; calls < 100 && client.servers.some(({ state }) => state !== "open"); calls++) {
    await Promise.all(Array.from({ length: 10 }, () => client.call("PING")));
  }
  assertEquals(states(client), servers.map((server) => `${server} open`));
  void unix;
});

Deno.test("servers - over TCP: one of two is killed and comes back, one is found later; no idempotent call is lost", async () => {
  const WHO = (name: string) => ({ WHO: command(() => name) });
  const a = await serve({ port: 0, commands: WHO("a") });
  const b = await serve({ port: 0, commands: WHO("b") });
  await using c = await serve({ port: 0, commands: WHO("c") });
  let servers = [a, b].map(({ port }) => `127.0.0.1:${port}`);
  await using client = await connect({ servers: () => servers });
  const counts = new Map<string, number>();
  const round = async (calls: number) => {
    counts.clear();
    for (let n = 0; n < calls / 4; n++) {
      const names = await Promise.all(
        Array.from({ length: 4 }, () => client.call("WHO", {}, { idempotent: true })),
      );
      for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    return [...counts.keys()].sort();
  };
  assertEquals(await round(400), ["a", "b"]);
  servers = [servers[0], servers[1], `127.0.0.1:${c.port}`];
  await a.shutdown({ graceMs: 0 });
  assert(!(await round(400)).includes("a")); // c may be found by then
  const endMs = performance.now() + 10_000;
  while ((await round(40)).length < 2 && performance.now() < endMs) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assertEquals(await round(400), ["b", "c"], "c was found after the loss of a");
  await using again = await serve({ port: a.port, commands: WHO("a") });
  while ((await round(40)).length < 3 && performance.now() < endMs) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assertEquals(await round(400), ["a", "b", "c"]);
  void again;
  await client.close();
  await b.shutdown();
});
