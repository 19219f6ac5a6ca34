/**
 * A client whose server, or the way to it, goes away or stands still: every call settles, with its value or with an error
 * that says why, and the next call finds a new connection.
 */

import { assert, assertEquals, AssertionError, assertRejects } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { startProxy } from "../support/peers.ts";
import { withServer } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";
import { type Address, overEach } from "../support/transports.ts";
import { TickedTime } from "../support/ticked_time.ts";
import { statisticsOf, until, untilAtRest } from "./beside.ts";
import { ChildServer } from "./child.ts";
import type { Direction, End } from "./fault_proxy.ts";

/** How a call ended: its reply, or its code. */
function outcomeOf(call: Promise<unknown>): Promise<unknown> {
  return call.catch((error) => error instanceof RpcError ? error.code : error);
}

/** Reads a stream to its end, or to the error it ends with. */
async function itemsOf(client: Client, count: number): Promise<unknown[]> {
  const items: unknown[] = [];
  try {
    for await (const item of client.stream("TICK", { count, interval: 0 })) items.push(item);
    items.push("end");
  } catch (error) {
    items.push(error instanceof RpcError ? error.code : error);
  }
  return items;
}

const ITEMS = 3;

/** A handshake comes first, of some two kilobytes over TLS and 200 bytes of a WebSocket, in which a cut is like any other. */
const STEP_BYTES: Record<string, number> = { TCP: 1, TLS: 37, "WebSocket over TCP": 3 };

for (const direction of ["up", "down"] as const) {
  for (const end of ["FIN", "RST"] as const) {
    overEach(
      `server faults - ${end} at any byte, ${direction}: calls and a stream settle, and go on elsewhere`,
      async (transport) => {
        await using server = await withServer({}, transport);
        const stepBytes = STEP_BYTES[transport.name];
        let afterBytes = 1;
        let whole = false;
        for (; !whole; afterBytes += stepBytes) {
          whole = await cutAt(server.address, { direction, afterBytes, end });
          assert(afterBytes < 500 * stepBytes, "it never ends");
        }
        console.log(`${afterBytes - stepBytes} bytes`);
        await untilAtRest(server.address);
        assertEquals(server.errors.take(), []);
      },
    );
  }
}

/** Makes two calls and reads a stream over a connection that is cut; true if that was after all of them. */
async function cutAt(
  address: Address,
  cut: { direction: Direction; afterBytes: number; end: End },
  connectClient: typeof connect = connect,
): Promise<boolean> {
  // Only the first connection is cut.
  let connections = 0;
  await using proxy = await startProxy(address, { faults: () => connections++ === 0 ? { cut } : {} });
  const options = { ...proxy.through, timeoutMs: Infinity, random: () => 0 };
  const lost = "CONNECTION_LOST";
  let client: Client;
  try {
    client = await connectClient(options);
  } catch (error) {
    // Cut in the handshake.
    assertEquals([(error as RpcError).code, proxy.cuts], [lost, 1]);
    return false;
  }
  await using _closed = client;
  const [first, second, items] = await Promise.all([
    outcomeOf(client.reply("PING")),
    outcomeOf(client.reply("DELAY", { sleep: 0.001 })),
    itemsOf(client, ITEMS),
  ]);
  if (first !== lost) assertEquals(first, { res: "PONG" });
  if (second !== lost) assertEquals((second as Message).res, "DONE");
  // Items come without a gap, and then the truth.
  const ticks = items.slice(0, -1);
  assertEquals(ticks, ticks.map((_, index) => index + 1));
  assert(
    items.at(-1) === lost || items.at(-1) === "end" && ticks.length === ITEMS,
    `a stream ended with ${items.at(-1)}`,
  );
  // The cut may come as late as here.
  assertEquals(await client.reply("PING", {}, { idempotent: true }), { res: "PONG" });
  assertEquals(client.statistics().lateReplies, 0);
  return proxy.cuts === 0;
}

/** A client that takes the end of a connection for the end of a stream. */
const connectCredulous = async (options: Parameters<typeof connect>[0]) => {
  const client = await connect(options);
  const { stream } = client;
  const credulous = async function* (...args: Parameters<typeof stream>) {
    try {
      yield* stream(...args);
    } catch {
      // That will have been all.
    }
  };
  return Object.assign(client, { stream: credulous as unknown as typeof stream });
};

Deno.test("server faults - canary: a client that takes a cut stream for a whole one is caught", async () => {
  await using server = await withServer();
  const cut = { direction: "down", afterBytes: 5, end: "FIN" } as const;
  await cutAt(server.address, cut);
  await assertRejects(
    () => cutAt(server.address, cut, connectCredulous as unknown as typeof connect),
    AssertionError,
    "a stream ended with end",
  );
});

overEach(
  "server faults - a server that stands still: the call times out, then the connection is given up",
  async (transport) => {
    const clock = new FakeClock();
    await using server = await withServer({}, transport);
    await using proxy = await startProxy(server.address);
    const client = await connect({ ...proxy.through, clock, random: () => 0 });
    assertEquals(await client.reply("PING"), { res: "PONG" });
    proxy.freeze();
    const waiting = outcomeOf(client.reply("DELAY", { sleep: 0 }, { timeoutMs: 100 }));
    const patient = outcomeOf(client.reply("DELAY", { sleep: 0 }, { timeoutMs: 60_000 }));
    await clock.advance(110);
    assertEquals(await waiting, "TIMEOUT");
    assertEquals(client.state, "open");
    await clock.advance(10_100); // it has not even answered the cancel
    assertEquals([await patient, client.state], ["CONNECTION_LOST", "idle"]);
    proxy.resume();
    assertEquals(await client.reply("PING"), { res: "PONG" });
    assertEquals(proxy.connections, 2);
    await client.close();
    assertEquals(clock.timers, 0);
  },
);

overEach("server faults - a server that is killed: everything in flight is lost within a second", async (transport) => {
  await using server = await ChildServer.start({ transport });
  const clients = await Promise.all(
    Array.from({ length: 4 }, () => connect({ ...server.address, timeoutMs: Infinity })),
  );
  const calls = clients.flatMap((client) => [
    ...Array.from({ length: 200 }, () => outcomeOf(client.reply("DELAY", { sleep: 60 }))),
    itemsOf(client, Infinity).then((items) => items.at(-1)),
  ]);
  await until("they are in flight", async () => (await statisticsOf(server.address)).inFlight >= 4 * 200);
  using time = new TickedTime();
  server.kill("SIGKILL");
  assertEquals(new Set(await Promise.all(calls)), new Set(["CONNECTION_LOST"]));
  const tookMs = time.ms;
  console.log(`${calls.length} calls lost within ${tookMs.toFixed(0)} ms`);
  assert(tookMs < 1_000, `it took ${tookMs} ms`);
  await Promise.all(clients.map((client) => client.close()));
});

overEach("server faults - a server that comes back is found again, by the same client", async (transport) => {
  await using first = await ChildServer.start({ transport });
  const { port } = first;
  await using client = await connect({ ...first.address, random: () => 0 });
  assertEquals(await client.reply("PING"), { res: "PONG" });
  first.kill("SIGKILL");
  await first.end();
  await until("the client knows", () => client.state === "idle");
  const failed = await assertRejects(() => client.reply("PING", {}, { timeoutMs: 100 }), RpcError);
  assertEquals([failed.code, failed.retryable], ["TIMEOUT", true]);
  await using _second = await ChildServer.start({ port, transport });
  assertEquals(await client.reply("PING"), { res: "PONG" });
});
