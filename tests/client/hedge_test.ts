/** Calls with a second copy. Time stands still unless it is told to go on. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { UnaryCall } from "../../client/client_call.ts";
import { resolveConnectOptions } from "../../client/connect_options.ts";
import { RpcClient } from "../../client/rpc_client.ts";
import { encodeCall } from "../../client/sender.ts";
import { isReceived, RpcError } from "../../errors.ts";
import { command, serve } from "../../mod.ts";
import { denoNetwork } from "../../transport/deno_network.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { Hosts } from "../support/hosts.ts";
import { twoServers } from "../support/two_servers.ts";

const HEDGED = { idempotent: true, hedgeAfterMs: 50 };

Deno.test("hedge - after its time a second copy goes to the other server; the first answer wins, the other is cancelled", async () => {
  for (const winner of ["first", "second"]) {
    await using scene = await twoServers();
    const { client, a, b, clock } = scene;
    const call = client.call("A", { n: 1 }, { ...HEDGED, timeoutMs: 1_000 });
    assertEquals(await a.request(), { n: 1, cmd: "A", seq: 0, ttl: 1_000 });
    await clock.advance(50);
    assertEquals(await b.request(), { n: 1, cmd: "A", seq: 0, ttl: 950 });
    const [quick, slow] = winner === "first" ? [a, b] : [b, a];
    await quick.reply({ seq: 0, res: winner });
    assertEquals(await call, winner);
    assertEquals(await slow.request(), { cmd: 0, seq: 0, cancel: true });
    await slow.reply({ seq: 0, err: "CANCELLED" });
    await turn();
    const { begun, answered, failed, hedged, retried, inFlight, lateReplies } = client.statistics();
    assertEquals([begun, answered, failed, hedged, retried, inFlight, lateReplies], [1, 1, {}, 1, 0, 0, 1]);
  }
});

Deno.test("hedge - an answer in time, a failure too, needs no second copy", async () => {
  await using scene = await twoServers();
  const { client, a, clock } = scene;
  const calls = [client.call("A", {}, HEDGED), client.call("B", {}, HEDGED)];
  const failed = assertRejects(() => calls[1], RpcError);
  const { seq } = await a.request();
  await a.reply({ seq, res: 1 });
  assertEquals(await calls[0], 1);
  const other = scene.b;
  const request = await other.request();
  await other.reply({ seq: request.seq, err: "NO_SUCH_PLACE" });
  await failed;
  await clock.advance(1_000);
  assertEquals(client.statistics().hedged, 0);
});

Deno.test("hedge - without another server there is no second copy", async () => {
  const network = memoryNetwork();
  await using client = await connect({ dial: network.dial });
  await using server = await ScriptedServer.accept(network);
  const call = client.call("A", {}, { idempotent: true, hedgeAfterMs: 0 });
  await server.request();
  const other = client.call("B", {}, { timeoutMs: 30 }).catch(() => {}); // its time is over after that of the hedge
  await other;
  await server.reply({ seq: 0, res: 1 });
  assertEquals([await call, client.statistics().hedged, client.servers[0].sent], [1, 0, 2]);
});

Deno.test("hedge - a second server that is reached only after the time still gets a copy", async () => {
  const networks: Record<string, ReturnType<typeof memoryNetwork>> = { a: memoryNetwork(), b: memoryNetwork() };
  const clock = new FakeClock();
  const reachable = Promise.withResolvers<void>();
  const dial = async (_signal: AbortSignal, server: string) => {
    if (server === "b") await reachable.promise;
    return networks[server].dial();
  };
  await using client = await connect({ clock, random: () => 0, servers: ["a", "b"], dial });
  await using a = await ScriptedServer.accept(networks.a);
  const call = client.call("A", {}, HEDGED);
  await a.request();
  await clock.advance(60);
  assertEquals(client.statistics().hedged, 0);
  reachable.resolve();
  await using b = await ScriptedServer.accept(networks.b);
  while (client.servers[1].state !== "open") await turn();
  await clock.advance(100);
  assertEquals((await b.request()).cmd, "A");
  await b.reply({ seq: 0, res: "second" });
  assertEquals(await call, "second");
});

Deno.test("hedge - second copies draw on the budget of retries", async () => {
  await using scene = await twoServers({ retryBudget: { perCall: 0.1, perSecond: 0 } });
  const { client, a, b, clock } = scene;
  const calls = Array.from({ length: 20 }, () => client.call("A", {}, HEDGED));
  const requests = [await a.requests(10), await b.requests(10)];
  await clock.advance(60);
  assertEquals(client.statistics().hedged, 2);
  for (const [index, server] of [a, b].entries()) {
    await server.reply(...requests[index].map(({ seq }) => ({ seq, res: 1 })));
  }
  assertEquals((await Promise.all(calls)).length, 20);
});

Deno.test("hedge - a second copy that fails decides nothing", async () => {
  for (const code of ["NO_SUCH_PLACE", "CONNECTION_LOST"]) {
    await using scene = await twoServers();
    const { client, a, b, clock } = scene;
    const call = client.call("A", {}, HEDGED);
    await a.request();
    await clock.advance(50);
    const { seq } = await b.request();
    if (code === "CONNECTION_LOST") b.cut();
    else await b.reply({ seq, err: code });
    await turn();
    await a.reply({ seq: 0, res: "a" });
    assertEquals(await call, "a");
  }
});

Deno.test("hedge - if the first copy is lost, the second one's answer is still the call's", async () => {
  await using scene = await twoServers({ retryBudget: { perCall: 0, perSecond: 0.2 } });
  const { client, a, b, clock } = scene;
  const call = client.call("A", {}, HEDGED);
  await a.request();
  await clock.advance(50);
  const { seq } = await b.request();
  a.cut();
  await clock.advance(1_000);
  assertEquals(b.waiting, 0, "the first copy is not sent a second time beside the second one");
  await b.reply({ seq, res: "second" });
  assertEquals(await call, "second");
  assertEquals(client.statistics().retried, 0);
});

Deno.test("hedge - if the first copy is refused, the second one's answer is the call's, whatever budget is left", async () => {
  for (const err of ["OVERLOADED", "SHUTTING_DOWN"]) {
    for (const answer of [{ res: "second" }, { err: "NO_SUCH_PLACE" }]) {
      await using scene = await twoServers({ retryBudget: { perCall: 0, perSecond: 0.1 } });
      const { client, a, b, clock } = scene;
      const call = client.call("A", {}, HEDGED).catch((error: RpcError) => error.code);
      await a.request();
      await clock.advance(50);
      await b.request();
      await a.reply({ seq: 0, err });
      await clock.advance(1_000);
      await b.reply({ seq: 0, ...answer });
      assertEquals(await call, answer.res ?? answer.err);
      const { begun, answered, inFlight } = client.statistics();
      assertEquals([begun, answered, inFlight], [1, answer.res === undefined ? 0 : 1, 0]);
    }
  }
});

Deno.test("hedge - if both copies are lost, the call is sent again; without a budget it fails by the loss of the first", async () => {
  for (const perSecond of [0.1, 1]) {
    const clock = new FakeClock();
    const hosts = new Hosts(clock);
    const options = { clock, random: () => 0, dial: hosts.dial, retryBudget: { perCall: 0, perSecond } };
    await using client = await connect({ ...options, servers: ["a", "b"] });
    const [a, b] = await Promise.all([hosts.accept("a"), hosts.accept("b")]);
    while (client.servers.some(({ state }) => state !== "open")) await turn();
    const call = client.call("A", {}, HEDGED).catch((error: RpcError) => error);
    await a.request();
    await clock.advance(50);
    await b.request();
    a.cut();
    await turn();
    b.cut();
    if (perSecond < 1) {
      const { code, retryable } = await call as RpcError;
      assertEquals([code, retryable], ["CONNECTION_LOST", false]);
      continue;
    }
    const again = await Promise.any([hosts.accept("a"), hosts.accept("b")]);
    const { seq } = await again.request();
    await again.reply({ seq, res: "again" });
    assertEquals(await call, "again");
  }
});

Deno.test("hedge - a call whose first copy is lost ends by its time, its signal and the end of the client", async () => {
  for (const code of ["TIMEOUT", "CANCELLED", "CLOSED"]) {
    await using scene = await twoServers();
    const { client, a, b, clock } = scene;
    const patience = new AbortController();
    const call = assertRejects(
      () => client.call("A", {}, { ...HEDGED, timeoutMs: 200, signal: patience.signal }),
      RpcError,
    );
    await a.request();
    await clock.advance(50);
    await b.request();
    a.cut();
    await turn();
    if (code === "TIMEOUT") await clock.advance(200);
    else if (code === "CANCELLED") patience.abort();
    else void client.close();
    const error = await call;
    assertEquals([error.code, error.retryable], [code, false]);
    assertEquals(await b.request(), { cmd: 0, seq: 0, cancel: true });
    assertEquals(client.statistics().inFlight, 0);
  }
});

Deno.test("hedge - the caller's signal and the call's time end both copies", async () => {
  for (const code of ["CANCELLED", "TIMEOUT"]) {
    await using scene = await twoServers();
    const { client, a, b, clock } = scene;
    const patience = new AbortController();
    const call = assertRejects(
      () => client.call("A", {}, { ...HEDGED, signal: patience.signal, timeoutMs: 200 }),
      RpcError,
    );
    await a.request();
    await clock.advance(50);
    await b.request();
    if (code === "CANCELLED") patience.abort();
    else await clock.advance(200);
    assertEquals((await call).code, code);
    for (const server of [a, b]) {
      assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
      await server.reply({ seq: 0, err: "CANCELLED" });
    }
    await turn();
  }
});

Deno.test("hedge - a second copy waits for the other server if that was quiet, and does not go to the first copy's", async () => {
  await using scene = await twoServers();
  const { client, a, b, clock } = scene;
  const call = client.call("SLOW", {}, { idempotent: true, hedgeAfterMs: 1_300 });
  const beside = client.call("BESIDE");
  const quick = client.call("QUICK");
  assertEquals((await a.requests(2)).map(({ cmd }) => cmd), ["SLOW", "QUICK"]);
  await b.request();
  await clock.advance(1_000);
  await a.reply({ seq: 1, res: "quick" }); // so that only the other server is quiet
  assertEquals(await quick, "quick");
  await clock.advance(300);
  const { cmd, seq } = await b.request();
  assertEquals([cmd, a.waiting], ["SLOW", 0]);
  await b.reply({ seq, res: "second" }, { seq: 0, res: "beside" });
  assertEquals(await Promise.all([call, beside]), ["second", "beside"]);
});

Deno.test("hedge - a second copy that was refused goes to another server when it may, and not to the first copy's", async () => {
  for (const [err, $after] of [["SHUTTING_DOWN", 0], ["OVERLOADED", 300]] as const) {
    await using scene = await twoServers();
    const { client, a, b, clock } = scene;
    const call = client.call("A", {}, HEDGED);
    await a.request();
    await clock.advance(50);
    await b.request();
    await b.reply({ seq: 0, err, ...$after > 0 ? { $after } : {} });
    await turn();
    await clock.advance(295);
    const sent = () => client.servers.map(({ sent }) => sent);
    assertEquals(sent(), [1, 1]);
    await clock.advance(10);
    assertEquals(sent(), [1, err === "OVERLOADED" ? 2 : 1]);
    if (err === "OVERLOADED") assertEquals((await b.request()).cmd, "A");
    await a.reply({ seq: 0, res: "first" });
    assertEquals(await call, "first");
    assertEquals(a.waiting, 0);
  }
});

Deno.test("hedge - a call whose copies were both refused counts as one that waits", async () => {
  await using scene = await twoServers();
  const { client, a, b, clock } = scene;
  const call = client.call("A", {}, HEDGED);
  await a.request();
  await clock.advance(50);
  await b.request();
  for (const server of [a, b]) await server.reply({ seq: 0, err: "OVERLOADED", $after: 300 });
  await turn();
  const { begun, waiting, inFlight } = client.statistics();
  assertEquals([begun, waiting, inFlight], [1, 1, 0]);
  await clock.advance(300);
  const { seq } = await b.request();
  await b.reply({ seq, res: "later" });
  assertEquals(await call, "later");
});

Deno.test("hedge - a failure is retryable only if no server has started either copy", async () => {
  const cases = [
    { second: "NO_SUCH_PLACE", retryable: false },
    { second: "lost", retryable: false },
    { second: "SHUTTING_DOWN", retryable: true },
  ];
  for (const { second, retryable } of cases) {
    await using scene = await twoServers({ retryBudget: { perCall: 0, perSecond: 0.1 } });
    const { client, a, b, clock } = scene;
    const call = assertRejects(() => client.call("A", {}, HEDGED), RpcError);
    await a.request();
    await clock.advance(50);
    await b.request();
    if (second === "lost") b.cut();
    else await b.reply({ seq: 0, err: second });
    await turn();
    await a.reply({ seq: 0, err: "OVERLOADED", msg: "busy", $after: 70, data: 7 });
    const error = await call;
    assertEquals([error.message, error.retryable], ["OVERLOADED: busy", retryable], second);
    assertEquals([error.retryAfterMs, error.data, isReceived(error)], [70, 7, true]);
  }
});

Deno.test("hedge - a call that ends before it is sent again is not retryable if its second copy runs", async () => {
  await using scene = await twoServers();
  const { client, a, b, clock } = scene;
  const patience = new AbortController();
  const call = assertRejects(() => client.call("A", {}, { ...HEDGED, signal: patience.signal }), RpcError);
  await a.request();
  await clock.advance(50);
  await b.request();
  await a.reply({ seq: 0, err: "OVERLOADED", $after: 300 });
  await turn();
  assertEquals(client.statistics().inFlight, 1);
  patience.abort();
  const { code, retryable } = await call;
  assertEquals([code, retryable], ["CANCELLED", false]);
});

/** A call that ends another one when it fails, as a hedged call ends its second copy. */
class LeadingCall extends UnaryCall {
  follower: LeadingCall | undefined;

  protected override fail(error: Error): void {
    super.fail(error);
    if (this.follower !== undefined) this.owner.giveUp(this.follower, error);
  }
}

function beginLeading(client: RpcClient, name: string): LeadingCall {
  const call = new LeadingCall(client, name, encodeCall(client, name, {}, {}), { waitForReady: false });
  call.resolve = call.reject = () => {};
  client.counts.begun++;
  client.begin(call);
  return call;
}

Deno.test("RpcClient - a call may end another one that waits as well, at the client's end or if no server can be reached", async () => {
  for (const code of ["CLOSED", "CONNECTION_LOST"]) {
    const dialed = Promise.withResolvers<never>();
    const options = { clock: new FakeClock(), random: () => 1, dial: () => dialed.promise };
    const client = new RpcClient({ ...resolveConnectOptions(options, denoNetwork), onState: undefined });
    await using _end = { [Symbol.asyncDispose]: () => client.close() };
    const [leader, follower] = ["A", "B"].map((name) => beginLeading(client, name));
    leader.follower = follower;
    await turn();
    assertEquals([client.state, client.statistics().waiting], ["connecting", 2]);
    if (code === "CLOSED") await client.close();
    else dialed.reject(new Error("it is down"));
    await turn();
    const { failed, waiting, inFlight } = client.statistics();
    assertEquals([failed, waiting, inFlight], [{ [code]: 2 }, 0, 0]);
    dialed.reject(new Error("it is closed"));
  }
});

Deno.test("RpcClient - a call may end another one that was lost with the same connection", async () => {
  const network = memoryNetwork();
  const options = { clock: new FakeClock(), random: () => 0, servers: ["a", "b"], dial: network.dial };
  const client = new RpcClient({ ...resolveConnectOptions(options, denoNetwork), onState: undefined });
  await using _end = { [Symbol.asyncDispose]: () => client.close() };
  await client.open();
  await using a = await ScriptedServer.accept(network);
  await using b = await ScriptedServer.accept(network);
  while (client.servers.some(({ state }) => state !== "open")) await turn();
  const [leader, beside, follower] = ["A", "B", "C"].map((name) => beginLeading(client, name));
  leader.follower = follower;
  assertEquals((await a.requests(2)).map(({ cmd }) => cmd), ["A", "C"]);
  await b.request();
  a.cut();
  await turn();
  const { failed, waiting, inFlight } = client.statistics();
  assertEquals([failed, waiting, inFlight], [{ CONNECTION_LOST: 2 }, 0, 1]);
  assertEquals(beside.isSettled, false);
});

Deno.test("hedge - one copy is refused and one lost with an empty budget: the call fails, and the next one is sent", async () => {
  const networks: Record<string, ReturnType<typeof memoryNetwork>> = { a: memoryNetwork(), b: memoryNetwork() };
  const clock = new FakeClock();
  const dial = (_signal: AbortSignal, server: string) => networks[server].dial();
  const retryBudget = { perCall: 0, perSecond: 0.1 };
  await using client = await connect({ clock, random: () => 0, servers: ["a", "b"], dial, retryBudget });
  await using a = await ScriptedServer.accept(networks.a);
  await using b = await ScriptedServer.accept(networks.b);
  while (client.servers.some(({ state }) => state !== "open")) await turn();
  const call = assertRejects(() => client.call("A", {}, HEDGED), RpcError);
  await a.request();
  await clock.advance(50);
  await b.reply({ seq: (await b.request()).seq, err: "SHUTTING_DOWN" });
  await clock.advance(1);
  a.cut();
  assertEquals((await call).code, "CONNECTION_LOST");
  const { waiting, inFlight } = client.statistics();
  assertEquals([waiting, inFlight], [0, 0]);
  const next = client.call("B");
  await using again = await ScriptedServer.accept(networks.a);
  const { cmd, seq } = await again.request();
  await again.reply({ seq, res: cmd });
  assertEquals(await next, "B");
});

Deno.test("hedge - if both copies wait when the client is closed, none is left", async () => {
  const scene = await twoServers();
  const { client, a, b, clock } = scene;
  const call = assertRejects(() => client.call("A", {}, HEDGED), RpcError);
  await a.request();
  await clock.advance(50);
  await b.request();
  for (const server of [a, b]) await server.reply({ seq: 0, err: "OVERLOADED", $after: 300 });
  await turn();
  await scene[Symbol.asyncDispose]();
  assertEquals((await call).code, "CLOSED");
  const { waiting, inFlight } = client.statistics();
  assertEquals([waiting, inFlight], [0, 0]);
});

Deno.test("hedge - if both copies wait and no server can be reached, none is left, with waitForReady: false", async () => {
  const networks: Record<string, ReturnType<typeof memoryNetwork>> = { a: memoryNetwork(), b: memoryNetwork() };
  const clock = new FakeClock();
  let random = 0; // until the servers are down: then the client waits before it dials again
  const unreachable = Promise.withResolvers<never>();
  const dialed = new Set<string>();
  const dial = (_signal: AbortSignal, server: string) => {
    if (dialed.has(server)) return unreachable.promise;
    dialed.add(server);
    return networks[server].dial();
  };
  await using client = await connect({ clock, random: () => random, servers: ["a", "b"], dial });
  await using a = await ScriptedServer.accept(networks.a);
  await using b = await ScriptedServer.accept(networks.b);
  while (client.servers.some(({ state }) => state !== "open")) await turn();
  const call = assertRejects(() => client.call("A", {}, { ...HEDGED, waitForReady: false }), RpcError);
  await a.request();
  await clock.advance(50);
  await b.request();
  for (const server of [a, b]) {
    await server.reply({ seq: 0, err: "OVERLOADED", $after: 300 });
    await turn();
    server.cut();
  }
  await clock.advance(300);
  random = 1;
  unreachable.reject(new Error("it is down"));
  assertEquals((await call).code, "CONNECTION_LOST");
  const { waiting, inFlight } = client.statistics();
  assertEquals([waiting, inFlight], [0, 0]);
});

Deno.test("hedge - a call that may not run twice, or a time that is none, is a mistake", async () => {
  await using scene = await twoServers();
  const { client } = scene;
  await assertRejects(() => client.call("A", {}, { hedgeAfterMs: 50 }), TypeError, "Cannot hedge A");
  for (const hedgeAfterMs of [-1, NaN, "50" as never]) {
    await assertRejects(() => client.call("A", {}, { idempotent: true, hedgeAfterMs }), RangeError, "hedgeAfterMs");
  }
  assertEquals(client.statistics().begun, 0);
});

Deno.test("hedge - over TCP, a server that stands still costs the time of the hedge and no more", async () => {
  const stuck = Promise.withResolvers<string>();
  let cancelled = 0;
  const slow = {
    WHO: command((_params: Record<never, never>, { signal }) => {
      signal.addEventListener("abort", () => cancelled++);
      return stuck.promise;
    }),
  };
  await using one = await serve({ port: 0, commands: slow });
  await using other = await serve({ port: 0, commands: { WHO: command(() => "quick") } });
  const servers = [one, other].map(({ port }) => `127.0.0.1:${port}`);
  await using client = await connect({ servers });
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => client.call("WHO", {}, { idempotent: true, hedgeAfterMs: 20 })),
  );
  assertEquals(new Set(answers), new Set(["quick"]));
  const { hedged, answered } = client.statistics();
  assert(hedged > 0 && answered === 20, `${hedged} hedged`);
  while (cancelled < hedged) await turn();
  stuck.resolve("slow");
});
