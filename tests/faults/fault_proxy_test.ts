/** The fault proxy itself: each fault is what it says, and a seed says them all. */

import { assert, assertEquals } from "@std/assert";
import { connectResettable } from "../support/peers.ts";
import { concat } from "../support/wire.ts";
import { newSeed, Random } from "../support/random.ts";
import { type End, FaultProxy, type Faults } from "./fault_proxy.ts";

/** What a socket has brought, and how it ended. */
interface Received {
  bytes: Uint8Array;
  reads: number;
  end: End;
}

async function readAll(conn: Deno.Conn): Promise<Received> {
  const buffer = new Uint8Array(64 * 1024);
  const chunks: Uint8Array[] = [];
  let end: End = "FIN";
  try {
    for (let size = await conn.read(buffer); size !== null; size = await conn.read(buffer)) {
      chunks.push(buffer.slice(0, size));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
    end = "RST";
  }
  return { bytes: concat(...chunks), reads: chunks.length, end };
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

/** Sends bytes up through a proxy, and as many back down; each side ends its half behind them. */
async function exchange(up: Uint8Array, down: Uint8Array, faults: Faults, seed = 0): Promise<[Received, Received]> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using proxy = await FaultProxy.start({ port: listener.addr.port, seed, faults: () => faults });
  using client = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
  using server = await listener.accept();
  const send = async (conn: Deno.TcpConn, bytes: Uint8Array) => {
    await writeAll(conn, bytes);
    await conn.closeWrite();
  };
  const [above, below] = await Promise.all([
    readAll(server),
    readAll(client),
    send(client, up).catch(ignore),
    send(server, down).catch(ignore),
  ]);
  return [above, below];
}

Deno.test("fault proxy - passes on what comes, both ways and both ends, whatever the pieces and delays", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  for (const faults of [{}, { largestPiece: 7 }, { largestPiece: 1000, longestDelayMs: 2 }]) {
    const up = random.bytes(20_000);
    const down = random.bytes(500);
    const [above, below] = await exchange(up, down, faults, seed);
    assertEquals([above.bytes, above.end], [up, "FIN"]);
    assertEquals([below.bytes, below.end], [down, "FIN"]);
  }
});

for (const end of ["FIN", "RST"] as const) {
  Deno.test(`fault proxy - cuts with ${end} at exactly the byte it was told, for both sides`, async () => {
    const random = new Random(1);
    const [up, down] = [random.bytes(300), random.bytes(300)];
    for (const afterBytes of [0, 1, 2, 150, 299]) {
      const [above] = await exchange(up, down, { largestPiece: 20, cut: { direction: "up", afterBytes, end } });
      assertEquals([above.bytes, above.end], [up.subarray(0, afterBytes), end]);
      const [, below] = await exchange(up, down, { largestPiece: 20, cut: { direction: "down", afterBytes, end } });
      assertEquals([below.bytes, below.end], [down.subarray(0, afterBytes), end]);
    }
  });
}

Deno.test("fault proxy - holds everything while it is frozen, and nothing is lost by it", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using proxy = await FaultProxy.start({ port: listener.addr.port });
  using client = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
  using server = await listener.accept();
  proxy.freeze();
  await writeAll(client, new Uint8Array(1000));
  await client.closeWrite();
  let done = false;
  const received = readAll(server).finally(() => done = true);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert(!done);
  proxy.resume();
  assertEquals((await received).bytes.length, 1000);
});

Deno.test("fault proxy - passes a reset on", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using proxy = await FaultProxy.start({ port: listener.addr.port });
  await using client = await connectResettable({ port: proxy.port });
  using server = await listener.accept();
  await client.sendBytes(new Uint8Array(1000));
  client.reset();
  assertEquals((await readAll(server)).end, "RST");
});

Deno.test("fault proxy - does the same with the same seed", async () => {
  const plan = async (seed: number) => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const plans: Faults[] = [];
    const faults = (random: Random) => {
      plans.push({ largestPiece: random.between(1, 100), longestDelayMs: random.between(1, 9) });
      return plans[plans.length - 1];
    };
    await using proxy = await FaultProxy.start({ port: listener.addr.port, seed, faults });
    for (let count = 0; count < 5; count++) {
      using _client = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
      using _server = await listener.accept();
    }
    return plans;
  };
  const seed = newSeed();
  console.log(`seed ${seed}`);
  assertEquals(await plan(seed), await plan(seed));
});

function ignore(): void {}
