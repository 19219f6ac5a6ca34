/** A server that is going: calls move, none is lost, and the old connection ends when it is empty. */

import { assertEquals, assertRejects } from "@std/assert";
import { connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { Hosts } from "../support/hosts.ts";

async function setUp(names: readonly string[] = ["a"], options: ConnectOptions = {}) {
  const clock = new FakeClock();
  const hosts = new Hosts(clock);
  const accepted = names.map((name) => hosts.accept(name));
  const client = await connect({ servers: names, dial: hosts.dial, clock, random: () => 1, ...options });
  const servers = await Promise.all(accepted);
  await turn();
  return { client, clock, hosts, servers, state: () => client.servers.map(({ state }) => state) };
}

Deno.test("going - an idle connection is closed at once, and dialled again when a call needs it", async () => {
  const { client, hosts, servers: [old], state } = await setUp();
  const first = client.reply("A");
  await old.request();
  await old.reply({ seq: 0, res: 1 });
  await first;
  await old.reply({ going: 10_000 });
  assertEquals(await old.rest(), []);
  assertEquals([state(), client.state, hosts.dialsTo("a")], [["idle"], "idle", 1]);
  const accepted = hosts.accept("a");
  const call = client.reply("B");
  const next = await accepted;
  assertEquals((await next.request()).cmd, "B");
  await next.reply({ seq: 0, res: 2 });
  assertEquals((await call).res, 2);
  await client.close();
});

Deno.test("going - a busy connection takes calls until there is another one, then ends when they are answered", async () => {
  const { client, clock, hosts, servers: [old], state } = await setUp();
  const slow = client.reply("SLOW");
  await old.request();
  await old.reply({ going: 8_000 });
  await turn();
  assertEquals([state(), client.state], [["going"], "open"]);
  const meanwhile = client.reply("MEANWHILE");
  assertEquals((await old.request()).cmd, "MEANWHILE");
  await old.reply({ seq: 1, res: 1 });
  await meanwhile;
  await clock.advance(999);
  assertEquals(hosts.dialsTo("a"), 1);
  const accepted = hosts.accept("a");
  await clock.advance(1); // a second at most, and half of the time
  const next = await accepted;
  await turn();
  assertEquals([state(), client.servers[0].inFlight], [["open"], 1]);
  const call = client.reply("NEXT");
  assertEquals((await next.request()).cmd, "NEXT");
  await next.reply({ seq: 0, res: 2 });
  await call;
  await old.reply({ seq: 0, res: "slow" });
  assertEquals((await slow).res, "slow");
  assertEquals(await old.rest(), [], "it ends, with nothing more on it");
  await client.close();
});

Deno.test("going - with another server, calls go there at once", async () => {
  const { client, clock, hosts, servers: [a, b], state } = await setUp(["a", "b"]);
  const slow = [client.reply("SLOW"), client.reply("SLOW")];
  await Promise.all([a.request(), b.request()]);
  await a.reply({ going: 8_000 });
  await turn();
  assertEquals(state(), ["waiting", "open"]);
  const calls = Promise.all(Array.from({ length: 5 }, () => client.reply("A")));
  assertEquals((await b.requests(5)).map(({ cmd }) => cmd), ["A", "A", "A", "A", "A"]);
  await b.reply(...[1, 2, 3, 4, 5].map((seq) => ({ seq, res: seq })));
  await calls;
  await a.reply({ seq: 0, res: "slow" });
  assertEquals(await a.rest(), [], "it ends when its last call is answered");
  await b.reply({ seq: 0, res: "slow" });
  await Promise.all(slow);
  await clock.advance(999);
  const call = client.reply("A");
  await b.request();
  await b.reply({ seq: 6, res: 1 });
  await call;
  assertEquals(hosts.dialsTo("a"), 1, "not before its time");
  await clock.advance(1);
  const accepted = hosts.accept("a");
  const next = client.reply("A");
  await b.request();
  await b.reply({ seq: 7, res: 1 });
  await next;
  await accepted;
  await turn();
  assertEquals(state(), ["open", "open"]);
  await client.close();
});

Deno.test("going - if there is no other server, the old connection takes calls until that is known", async () => {
  const { client, clock, hosts, servers: [old], state } = await setUp();
  const slow = client.reply("SLOW");
  await old.request();
  hosts.down.add("a");
  await old.reply({ going: 2_000 });
  await clock.advance(999);
  assertEquals(state(), ["going"]);
  const call = client.reply("A");
  assertEquals((await old.request()).cmd, "A");
  await old.reply({ seq: 1, res: 1 });
  await call;
  await clock.advance(1);
  assertEquals(hosts.dialsTo("a"), 2);
  const late = client.reply("LATE");
  await turn();
  assertEquals([client.state, client.servers[0].inFlight], ["waiting", 1]);
  await old.reply({ seq: 0, res: "slow" });
  assertEquals((await slow).res, "slow");
  assertEquals(await old.rest(), []);
  hosts.down.clear();
  const accepted = hosts.accept("a");
  await clock.advance(5_000);
  const next = await accepted;
  assertEquals((await next.request()).cmd, "LATE");
  await next.reply({ seq: 0, res: "late" });
  assertEquals((await late).res, "late");
  await client.close();
});

Deno.test("going - a dial without end: the old connection takes calls for three quarters of its time", async () => {
  const { client, clock, hosts, servers: [old], state } = await setUp();
  const slow = client.reply("SLOW");
  await old.request();
  const accepted = hosts.accept("a", { answersPings: false });
  await old.reply({ going: 4_000 });
  await clock.advance(2_999);
  await using _deaf = await accepted;
  assertEquals(state(), ["going"]);
  await clock.advance(1);
  assertEquals(state(), ["connecting"]);
  await old.reply({ seq: 0, res: "slow" });
  assertEquals((await slow).res, "slow");
  assertEquals(await old.rest(), []);
  await client.close();
});

Deno.test("going - after each restart the waits between dials begin anew, however many have failed before", async () => {
  const { client, clock, hosts, servers } = await setUp();
  let [server] = servers;
  for (let restarts = 0; restarts < 3; restarts++) {
    await server.reply({ going: 10_000 });
    await server.rest();
    hosts.down.add("a");
    hosts.dials.length = 0;
    const startMs = clock.now();
    const call = client.reply("A");
    await clock.advance(349);
    hosts.down.clear();
    const accepted = hosts.accept("a");
    await clock.advance(5_000);
    server = await accepted;
    assertEquals((await server.request()).cmd, "A");
    await server.reply({ seq: 0, res: 1 });
    await call;
    assertEquals(hosts.dials.map(({ atMs }) => atMs - startMs), [0, 50, 150, 350]);
  }
  await client.close();
});

Deno.test("going - said in answer to the PING of a new connection, it gets no calls", async () => {
  const { client, clock, hosts, servers: [a, b], state } = await setUp(["a", "b"]);
  a.cut();
  await clock.advance(500);
  const call = client.reply("A");
  const back = await hosts.accept("a", { answersPings: false });
  await back.reply({ going: 10_000 });
  assertEquals((await b.request()).cmd, "A");
  await b.reply({ seq: 0, res: 1 });
  await call;
  assertEquals([state(), client.servers[0].error?.code], [["waiting", "open"], "SHUTTING_DOWN"]);
  await back.rest();
  await client.close();
});

Deno.test("going - a stream goes on, and its reader learns from GOING_AWAY that it can read on elsewhere", async () => {
  for (const err of ["CANCELLED", "GOING_AWAY"]) {
    const { client, clock, hosts, servers: [old] } = await setUp();
    const stream = client.stream("NEWS");
    const first = stream.next();
    await old.request();
    await old.reply({ seq: 0, res: 1, more: true }, { going: 1_000 });
    assertEquals((await first).value, 1);
    const accepted = hosts.accept("a");
    await clock.advance(500);
    const next = await accepted;
    await turn();
    await old.reply({ seq: 0, res: 2, more: true });
    assertEquals((await stream.next()).value, 2);
    const ended = assertRejects(() => stream.next(), RpcError);
    await old.reply({ seq: 0, err, msg: "the server shuts down" });
    const error = await ended;
    assertEquals([error.code, error.retryable], ["GOING_AWAY", false]);
    assertEquals(await old.rest(), [{ cmd: 0, seq: 0, credit: 253 }]);
    const again = client.stream("NEWS").next();
    await next.request();
    await next.reply({ seq: 0, res: 3, more: true });
    assertEquals((await again).value, 3);
    await client.close();
  }
});

Deno.test("going - a stream that ends by GOING_AWAY is not begun again on the same connection", async () => {
  const { client, clock, hosts, servers: [old], state } = await setUp();
  const stream = client.stream("NEWS");
  const first = stream.next();
  const ended = first.then(() => assertRejects(() => stream.next(), RpcError));
  await old.request();
  await old.reply({ seq: 0, res: 1, more: true }, { going: 10_000 }, { seq: 0, err: "GOING_AWAY" });
  assertEquals((await ended).code, "GOING_AWAY");
  assertEquals(await old.rest(), [{ cmd: 0, seq: 0, credit: 253 }]);
  const again = client.stream("NEWS").next();
  assertEquals(state(), ["waiting"]);
  const accepted = hosts.accept("a");
  await clock.advance(500); // as after a loss
  const next = await accepted;
  await next.request();
  await next.reply({ seq: 0, res: 2, more: true });
  assertEquals((await again).value, 2);
  await client.close();
});
