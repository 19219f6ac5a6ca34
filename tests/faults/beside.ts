/**
 * What stands beside a fault: good clients whose calls must all succeed, and a look at the server's own counts.
 *
 * In: an address, or a port of TCP. Out: how the good clients fared; or statistics. Refused: a good call that fails, by an error that says so.
 */

import { assertEquals } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import type { Address } from "../support/transports.ts";

/** The pause of a good client between two calls, in milliseconds: the fault beside it has most of the machine. */
const PAUSE_MS = 20;

/** How long something may take that takes no time: for tests that would hang. */
const PATIENCE_MS = 10_000;

/** A client of a server. */
function connectTo(at: Address | number, timeout?: number): Promise<Client> {
  return connect({ ...(typeof at === "number" ? { port: at } : at), timeoutMs: timeout });
}

/** How good clients fared. */
export interface Fared {
  calls: number;
  p50Ms: number;
  p99Ms: number;
}

/**
 * Does something while good clients call the server, one call after the other each.
 *
 * @param at Where the server listens; it needs no command of its own.
 * @param count How many clients.
 * @param body What is done beside them.
 * @returns How they fared. All their calls have succeeded, before, while and after it was done.
 */
export async function besideGoodClients(
  at: Address | number,
  count: number,
  body: () => Promise<void>,
): Promise<Fared> {
  const clients = await Promise.all(Array.from({ length: count }, () => connectTo(at, PATIENCE_MS)));
  const durationsMs: number[] = [];
  let done = false;
  const callOn = async (client: Client) => {
    for (let last = false; !last; last = done) {
      const startMs = performance.now();
      assertEquals(await client.reply("PING"), { res: "PONG" });
      durationsMs.push(performance.now() - startMs);
      if (!done) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    assertEquals(await client.reply("PING"), { res: "PONG" });
  };
  const calling = Promise.all(clients.map(callOn));
  try {
    await Promise.race([body(), calling]);
  } finally {
    done = true;
    await Promise.allSettled([calling]);
    await Promise.all(clients.map((client) => client.close()));
  }
  await calling;
  durationsMs.sort((a, b) => a - b);
  const quantile = (share: number) => durationsMs[Math.floor(share * (durationsMs.length - 1))];
  return { calls: durationsMs.length, p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
}

/** What to print of it. */
export function shown({ calls, p50Ms, p99Ms }: Fared): string {
  return `${calls} good calls beside it, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;
}

/** Waits until something is so. */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  for (const startMs = performance.now(); !await isSo();) {
    if (performance.now() - startMs > patienceMs) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** What a server says of itself. */
export async function statisticsOf(at: Address | number): Promise<ServerStatistics> {
  await using client = await connectTo(at);
  return (await client.reply("STATS")).res;
}

/** Waits until a server has nothing in flight, and no more connections than it should have, with the one that asks. */
export async function untilAtRest(at: Address | number, connections = 1): Promise<ServerStatistics> {
  await using client = await connectTo(at);
  let statistics = (await client.reply("STATS")).res;
  await until("the server comes to rest", async () => {
    statistics = (await client.reply("STATS")).res;
    const inFlight = Object.entries((statistics as ServerStatistics).commands)
      // The call of STATS itself is in flight there.
      .reduce((sum, [name, { inFlight }]) => sum + inFlight - (name === "STATS" ? 1 : 0), 0);
    return statistics.inFlight === 0 && inFlight === 0 && statistics.connections.open === connections;
  });
  return statistics;
}
