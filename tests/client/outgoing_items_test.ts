/** The caller's streams, against a server that does what it is told: what is sent, when the source is asked and ended. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

async function scene(options: ConnectOptions = {}) {
  const network = memoryNetwork();
  const clock = new FakeClock();
  const client: Client = await connect({ dial: network.dial, clock, random: () => 0, ...options });
  return { client, clock, network, server: await ScriptedServer.accept(network) };
}

async function failure(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, RpcError)).code;
}

Deno.test("items - one goes before any grant, the rest as they are granted, then the end", async () => {
  const { client, server } = await scene();
  const call = client.call("UP", { name: "a" }, { items: [1, "two", null] });
  assertEquals(await server.requests(2), [
    { name: "a", cmd: "UP", $items: true, seq: 0 },
    { cmd: 0, seq: 0, item: 1 },
  ]);
  await turn();
  assertEquals(server.waiting, 0);
  await server.reply({ seq: 0, credit: 1 });
  assertEquals(await server.request(), { cmd: 0, seq: 0, item: "two" });
  await server.reply({ seq: 0, credit: 2 });
  assertEquals(await server.requests(2), [{ cmd: 0, seq: 0, item: null }, { cmd: 0, seq: 0, end: true }]);
  await server.reply({ seq: 0, res: 3 });
  assertEquals(await call, 3);
  await client.close();
  assertEquals(await server.rest(), []);
});

Deno.test("items - a stream both ways", async () => {
  const { client, server } = await scene();
  const stream = client.stream("CHAT", {}, { items: ["a", "b"], credit: 1 });
  const first = stream.next();
  assertEquals(await server.requests(2), [
    { cmd: "CHAT", credit: 1, $items: true, seq: 0 },
    { cmd: 0, seq: 0, item: "a" },
  ]);
  await server.reply({ seq: 0, res: "> a", more: true }, { seq: 0, credit: 5 });
  assertEquals(await first, { done: false, value: "> a" });
  assertEquals(await server.requests(3), [
    { cmd: 0, seq: 0, credit: 1 },
    { cmd: 0, seq: 0, item: "b" },
    { cmd: 0, seq: 0, end: true },
  ]);
  await server.reply({ seq: 0, res: "> b", more: true }, { seq: 0, res: null });
  assertEquals(await stream.next(), { done: false, value: "> b" });
  assertEquals(await stream.next(), { done: true, value: null });
  await client.close();
});

void [assert, failure];
