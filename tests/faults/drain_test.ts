/**
 * The end of a server by a signal, as an operator gives it, many times under load: what is in flight is answered, new
 * connections are refused, the exit code is 0. What takes longer than the grace is cut, and told; a second signal ends all.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { newSeed } from "../support/random.ts";
import { testWith } from "../production/programs.ts";
import { overEach, TCP, TLS, WEB_SOCKET } from "../support/transports.ts";
import { connectPeer } from "../support/peers.ts";
import { TickedTime } from "../support/ticked_time.ts";
import { statisticsOf, until } from "./beside.ts";
import { ChildServer } from "./child.ts";
import { drain, type DrainReport } from "./drain.ts";

/** As many as the machine has cores, or one more drain would measure the other. */
const AT_A_TIME = 2;

const ignore = Deno.build.os === "windows";

for (const [transport, drains] of ignore ? [] : [[TCP, 20], [TLS, 6]] as const) {
  const name = `drain - SIGTERM under 8 connections x 16 in flight, ${drains} times: all are answered`;
  testWith(transport.packages, `${name} (${transport.name})`, async () => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    const reports: DrainReport[] = [];
    for (let done = 0; done < drains; done += AT_A_TIME) {
      const under = Array.from({ length: AT_A_TIME }, (_, index) => drain({ seed: seed + done + index, transport }));
      reports.push(...await Promise.all(under));
    }
    assertEquals(reports.flatMap(({ faults }) => faults), []);
    const sum = (values: number[]) => values.reduce((sum, value) => sum + value, 0);
    const longestMs = Math.max(...reports.map(({ ms }) => ms));
    console.log(
      `${sum(reports.map(({ answered }) => answered))} answered behind the signal, ` +
        `${sum(reports.map(({ refused }) => refused))} refused; at the most ${longestMs.toFixed(0)} ms`,
    );
  });
}

Deno.test({
  name: "drain - canary: a server that ends at once is caught",
  ignore,
  async fn() {
    const { faults } = await drain({ seed: newSeed(), served: { broken: "abrupt" } });
    assertMatch(faults[0], /^untrue: call \d+ ended with RpcError: CONNECTION_LOST/);
  },
});

overEach(
  "drain - a handler that takes longer than the grace is cut, its caller told, the process ends in time",
  async (transport) => {
    const graceMs = 1_000;
    await using server = await ChildServer.start({ args: ["--grace", String(graceMs / 1000)], transport });
    await using client = await connect({ ...server.address, timeoutMs: Infinity });
    const long = Array.from({ length: 16 }, () => assertRejects(() => client.reply("DELAY", { sleep: 60 }), RpcError));
    const ticks = client.stream("TICK", { interval: 60 });
    assertEquals((await ticks.next()).value, 1);
    const stream = assertRejects(() => ticks.next(), RpcError);
    await until("the long ones are in flight", async () => (await statisticsOf(server.address)).inFlight === 17);
    const short = client.reply("DELAY", { sleep: 0.7 });
    await until("they are in flight", async () => (await statisticsOf(server.address)).inFlight === 18);
    using time = new TickedTime();
    const signalMs = performance.now();
    server.kill("SIGTERM");
    for (const cut of long) assertEquals((await cut).code, "CANCELLED");
    assertEquals((await stream).code, "GOING_AWAY");
    const cutMs = performance.now() - signalMs;
    assertEquals((await short).res, "DONE");
    assertEquals((await server.end()).code, 0);
    const endMs = time.ms;
    console.log(`grace ${graceMs} ms: told after ${cutMs.toFixed(0)} ms, ended after ${endMs.toFixed(0)} ms`);
    assert(cutMs >= graceMs && endMs < graceMs + 500, `${cutMs} ms, ${endMs} ms`);
  },
  ignore ? [] : [TCP, TLS, WEB_SOCKET],
);

overEach(
  "drain - connections that wait to be accepted at SIGTERM, behind a computation, are answered",
  async (transport) => {
    await using server = await ChildServer.start({ served: {}, transport });
    await using busy = await connectPeer(server.address);
    await busy.send({ cmd: "BUSY", ms: 500 });
    await new Promise((resolve) => setTimeout(resolve, 50)); // a computation that has begun can tell nobody
    const asked = Array.from({ length: 50 }, async () => {
      await using peer = await connectPeer(server.address);
      return await peer.ask({ cmd: 1 });
    });
    server.kill("SIGTERM");
    // None is reset. A request that is read only after the port is closed is refused, and may be sent again.
    for (const reply of await Promise.all(asked)) {
      assert(reply?.res === "PONG" || reply?.err === "SHUTTING_DOWN", Deno.inspect(reply));
    }
    await busy.halfClose();
    assertEquals((await server.end()).code, 0);
  },
  ignore ? [] : [TCP, TLS, WEB_SOCKET],
);

overEach(
  "drain - an endless quiet stream ends at SIGTERM, its reader may read on elsewhere, and nothing waits for the grace",
  async (transport) => {
    await using server = await ChildServer.start({ args: ["--grace", "60"], transport });
    await using client = await connect({ ...server.address, timeoutMs: Infinity });
    const ticks = client.stream("TICK", { interval: 3600 });
    assertEquals((await ticks.next()).value, 1);
    const ended = assertRejects(() => ticks.next(), RpcError);
    await until("it waits", async () => (await statisticsOf(server.address)).inFlight === 1);
    using time = new TickedTime();
    server.kill("SIGTERM");
    const { code, retryable } = await ended;
    assertEquals([code, retryable], ["GOING_AWAY", false]);
    assertEquals((await server.end()).code, 0);
    const endMs = time.ms;
    console.log(`ended after ${endMs.toFixed(0)} ms`);
    assert(endMs < 10_000, `it took ${endMs} ms`);
  },
  ignore ? [] : [TCP, TLS, WEB_SOCKET],
);

for (const [second, code] of [["SIGTERM", 143], ["SIGINT", 130]] as const) {
  Deno.test({
    name: `drain - a second signal, ${second}, ends it within 200 ms`,
    ignore,
    async fn() {
      await using server = await ChildServer.start({ args: ["--grace", "60"] });
      await using client = await connect({ port: server.port, timeoutMs: Infinity });
      const lost = assertRejects(() => client.reply("DELAY", { sleep: 60 }), RpcError);
      await until("it is in flight", async () => (await statisticsOf(server.port)).inFlight === 1);
      server.kill("SIGTERM");
      await server.says("stopping");
      // The same signal at once is taken for a copy of the first.
      await new Promise((resolve) => setTimeout(resolve, 150));
      using time = new TickedTime();
      server.kill(second);
      assertEquals((await server.end()).code, code);
      const tookMs = time.ms;
      assertEquals((await lost).code, "CONNECTION_LOST");
      console.log(`ended after ${tookMs.toFixed(0)} ms`);
      assert(tookMs < 200, `it took ${tookMs} ms`);
    },
  });
}
