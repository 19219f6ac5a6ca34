/** The commands, called by a client in memory: no port, no process. */

import { type Client, connect } from "@packline/packline/client";
import { createServer, type Server } from "@packline/packline/server";
import { connectInMemory, memoryPair } from "@packline/packline/testing";
import { deepStrictEqual as assertEquals, rejects as assertRejects } from "node:assert/strict";
import { createCommands } from "./commands.ts";
import { WeatherLog } from "./weather_log.ts";

type WeatherCommands = ReturnType<typeof createCommands>;
type WeatherClient = Client<WeatherCommands>;

const meta = { token: "sesame" };

function test(name: string, run: (client: WeatherClient, server: Server) => Promise<void>, before = ""): void {
  Deno.test(name, async () => {
    const path = await Deno.makeTempFile();
    await Deno.writeTextFile(path, before);
    try {
      await using server = createServer({ commands: createCommands(new WeatherLog(path), "sesame") });
      await using client = await connectInMemory<WeatherCommands>(server);
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

test("a line that a full disk has cut is no measurement, and does not spoil the next one", async (client) => {
  await assertRejects(client.call.LIST({ place: "Rome" }), { code: "NO_SUCH_PLACE" });
  const recorded = await client.call.RECORD({ place: "Rome", degrees: 21 }, { meta });
  assertEquals(await client.call.LIST({ place: "Rome" }), [recorded]);
}, '{"place":"Rome","degr');

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

const at = "2026-01-31T12:00:00Z";

test("IMPORT records an archive", async (client) => {
  const archive = [{ place: "Rome", degrees: 12, at }, { place: "Rome", degrees: 13, at }];
  assertEquals(await client.call.IMPORT({}, { items: archive, meta }), { recorded: 2 });
  assertEquals(await client.call.LIST({ place: "Rome" }), archive.map((each) => ({ ...each, station: "roof" })));
});

test("IMPORT records nothing of an archive with an invalid item, or that breaks off", async (client) => {
  const tooHot = [{ place: "Rome", degrees: 12, at }, { place: "Rome", degrees: 1300, at }];
  const refused = client.call.IMPORT({}, { items: tooHot, meta });
  await assertRejects(refused, { code: "INVALID_PARAMS", message: /items\.1\.degrees/ });

  const brokenOff = async function* () {
    yield { place: "Rome", degrees: 12, at };
    throw new Error("the disk is broken");
  };
  await assertRejects(client.call.IMPORT({}, { items: brokenOff(), meta }), { message: "the disk is broken" });
  await assertRejects(client.call.LIST({ place: "Rome" }), { code: "NO_SUCH_PLACE" });
});

Deno.test("WATCH goes on at the next server: nothing is missed, nothing comes twice", async () => {
  const path = await Deno.makeTempFile();
  try {
    const start = () => createServer({ commands: createCommands(new WeatherLog(path), "sesame") });
    let server = start();
    const dial = () => {
      const [here, there] = memoryPair();
      void server.accept(there);
      return Promise.resolve(here);
    };
    await using client = await connect<WeatherCommands>({ dial, meta });
    const record = (degrees: number) => client.call.RECORD({ place: "Rome", degrees });

    await record(20);
    const watched: number[] = [];
    for await (const { degrees } of client.stream.WATCH()) {
      watched.push(degrees);
      if (degrees === 22) break;
      if (degrees !== 20) continue;
      const stopped = server;
      server = start();
      await stopped.shutdown();
      await record(21); // at the next server
      await record(22);
    }
    assertEquals(watched, [20, 21, 22]);
    await server.shutdown();
  } finally {
    await Deno.remove(path);
  }
});
