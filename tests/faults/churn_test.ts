/**
 * Peers that connect again and again, beside a client that is connected: the server must not serve them alone.
 *
 * The client's wait is counted in connections that the server accepts meanwhile, not in time, so that a busy machine changes
 * little.
 */

import { assert } from "@std/assert";
import { connect } from "../../client.ts";
import { ATTACKS, startAttack } from "./attacks.ts";
import { until } from "./beside.ts";
import { ChildServer } from "./child.ts";

/** The test takes this many connections. */
const CONNECTIONS = 1_500;

/** A turn accepts 32. A client on a busy machine misses some turns, which are not the server's; without turns it is thousands. */
const MOST_MEANWHILE = 500;

/** The most that may be left open: those of the attacker's that are under way. */
const MOST_OPEN = 200;

for (const name of ["HTTP, and again, from 16 connections", "a PING and a close, from 64 connections"]) {
  Deno.test(`${name}: a connected client is answered, and closed connections are gone`, async () => {
    await using server = await ChildServer.start({ openFiles: 20_000 });
    await using client = await connect({ port: server.port, timeoutMs: 60_000, aliveMs: 0 });
    const { accepted: first } = (await client.call.STATS()).connections;
    let [before, most, open] = [first, 0, 0];
    {
      await using _attack = await startAttack(ATTACKS.find((attack) => attack.name === name)!, server.port);
      while (before - first < CONNECTIONS) {
        const { connections } = await client.call.STATS();
        most = Math.max(most, connections.accepted - before);
        open = Math.max(open, connections.open);
        before = connections.accepted;
      }
    }
    console.log(`  at most ${most} connections between two answers, and ${open} open`);
    assert(most <= MOST_MEANWHILE, `${most} connections were accepted between two answers`);
    assert(open <= MOST_OPEN, `${open} connections were open`);
    await until("only the client is connected", async () => (await client.call.STATS()).connections.open === 1);
  });
}
