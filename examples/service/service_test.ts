/** The commands, called by a client in memory: no port, no process. */

import type { Client } from "@packline/packline/client";
import { createServer, type Server } from "@packline/packline/server";
import { connectInMemory } from "@packline/packline/testing";
import { deepStrictEqual as assertEquals, rejects as assertRejects } from "node:assert/strict";
import { createCommands } from "./commands.ts";
import { WeatherLog } from "./weather_log.ts";

type WeatherClient = Client<ReturnType<typeof createCommands>>;

const meta = { token: "sesame" };

function test(name: string, run: (client: WeatherClient, server: Server) => Promise<void>): void {
  Deno.test(name, async () => {
    const path = await Deno.makeTempFile();
    try {
      await using server = createServer({ commands: createCommands(new WeatherLog(path), "sesame") });
      await using client = await connectInMemory<ReturnType<typeof createCommands>>(server);
      await run(client, server);
    } finally {
      await Deno.remove(path);
    }
  });
}

test("what RECORD records, LIST lists", async (client) => {
  const recorded = await client.call.RECORD({ place: "Rome", degrees: 21 }, { meta });
  assertEquals([recorded.degrees, recorded.station], [21, "roof"]);
  assertEquals(await client.call.LIST({ place: "Rome" }), [recorded]);
  await assertRejects(client.call.LIST({ place: "Atlantis" }), { code: "NO_SUCH_PLACE" });
});

test("RECORD needs a token and a temperature that can be", async (client) => {
  await assertRejects(client.call.RECORD({ place: "Rome", degrees: 21 }), { code: "UNAUTHENTICATED" });
  const tooHot = client.call.RECORD({ place: "Rome", degrees: 2100 }, { meta });
  await assertRejects(tooHot, { code: "INVALID_PARAMS", message: /degrees/ });
});

test("WATCH streams the last measurement and new ones, until its reader leaves", async (client) => {
  const record = (degrees: number) => client.call.RECORD({ place: "Rome", degrees }, { meta });
  await record(20);
  const watched: number[] = [];
  for await (const { degrees } of client.stream.WATCH()) {
    watched.push(degrees);
    if (degrees === 22) break;
    await record(degrees + 1);
  }
  assertEquals(watched, [20, 21, 22]);
});

test("a shutdown ends WATCH: its reader is told to go on elsewhere", async (client, server) => {
  await client.call.RECORD({ place: "Rome", degrees: 20 }, { meta });
  const watched = client.stream.WATCH();
  assertEquals((await watched.next()).value?.degrees, 20);
  const ended = assertRejects(watched.next(), { code: "GOING_AWAY" });
  await server.shutdown();
  await ended;
});
