/** Restarts and deaths over real sockets: clients of two servers lose no call, and streams are told. */

import { setTimeout as delay } from "node:timers/promises";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import { serve, type Server } from "../../server.ts";
import { newSeed, Random } from "../support/random.ts";

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

const commands = {
  ADD: command(({ a, b }: { a: number; b: number }) => a + b),
  SLOW: command(async ({ ms }: { ms: number }) => {
    await pause(ms);
    return ms;
  }),
  NEWS: command(async function* (_: Record<never, never>, { draining, signal }) {
    for (let n = 0;; n++) {
      yield n;
      await delay(10, undefined, { signal: AbortSignal.any([draining, signal]) });
    }
  }),
};

for (const count of [2, 1]) {
  Deno.test(`rollout - ${count} servers are restarted in turn under clients that call now and then: nothing is lost`, async () => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    const random = new Random(seed);
    const servers: (Server & { port: number })[] = [];
    for (let n = 0; n < count; n++) servers.push(await serve({ port: 0, commands }));
    const ports = servers.map(({ port }) => port);
    const names = ports.map((port) => `127.0.0.1:${port}`);
    const clients = await Promise.all(
      Array.from({ length: 30 }, () => connect<typeof commands>({ servers: names, random: () => random.next() })),
    );
    let running = true;
    let calls = 0, streams = 0;
    const failures: string[] = [];
    const calling = clients.map(async (client) => {
      while (running) {
        const ms = random.below(20);
        const call = random.below(2) === 0 ? client.call.ADD({ a: ms, b: 0 }) : client.call.SLOW({ ms });
        await call.then((result) => {
          calls++;
          assertEquals(result, ms);
        }, (error) => failures.push(`${error}`));
        await pause(random.below(3) === 0 ? 0 : random.below(300));
      }
    });
    const reading = clients.slice(0, 10).map(async (client) => {
      while (running) {
        streams++;
        try {
          for await (const _ of client.stream.NEWS()) if (!running) break;
        } catch (error) {
          if ((error as RpcError).code !== "GOING_AWAY") failures.push(`${error}`);
        }
      }
    });
    for (let restart = 0; restart < 6; restart++) {
      await pause(200);
      const index = restart % count;
      await servers[index].shutdown({ graceMs: 2_000 });
      servers[index] = await serve({ port: ports[index], commands });
    }
    await pause(200);
    running = false;
    await Promise.all([...calling, ...reading]);
    console.log(`${calls} calls, ${streams} streams, ${failures.length} failed`);
    assertEquals(failures, []);
    assert(calls > 100 && streams > 10, `${calls} calls, ${streams} streams`);
    await Promise.all(clients.map((client) => client.close()));
    await Promise.all(servers.map((server) => server.shutdown()));
  });
}

Deno.test("a server that stands still is lost in time, and an idempotent call goes to another", async () => {
  // The system takes the connection and what is sent, as for a process that is stopped.
  using still = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepted = still.accept();
  await using server = await serve({ port: 0, commands });
  let servers = [`127.0.0.1:${still.addr.port}`];
  await using client = await connect({ servers: () => servers, aliveMs: 1_000, timeoutMs: 20_000 });
  using _conn = await accepted;
  const startMs = performance.now();
  const lost = assertRejects(() => client.call("ADD", { a: 1, b: 2 }), RpcError);
  const stream = assertRejects(() => client.stream("NEWS", {}).next(), RpcError);
  const again = client.call("ADD", { a: 1, b: 2 }, { idempotent: true });
  servers = [`127.0.0.1:${server.port}`, ...servers];
  const { code, message } = await lost;
  const lostMs = performance.now() - startMs;
  console.log(`after ${lostMs.toFixed(0)} ms: ${message}`);
  assertEquals([code, (await stream).code], ["CONNECTION_LOST", "CONNECTION_LOST"]);
  assert(lostMs >= 900 && lostMs < 5_000, `${lostMs} ms`);
  assertEquals(await again, 3);
});
