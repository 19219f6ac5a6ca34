/**
 * A ledger of many calls over connections that break: each settles, with its own value or with a code that is true.
 *
 * What is true can be checked at the other end: what was sent once ran at most once, and what may be sent again never
 * ran. Time is the test's own; the seed is printed.
 */

import { assert, assertEquals } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command, unchecked } from "../../handlers/command.ts";
import { serveOne } from "../support/serve_one.ts";
import { sleep } from "../../transport/clock.ts";
import { memoryPair } from "../../transport/memory.ts";
import { fromStreams, type Transport } from "../../transport/transport.ts";
import { streamsOf } from "../support/streams.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";

const CALLS = 20_000;
const CLIENTS = 4;
const BROKEN = "the source has broken";

/** A connection that can be broken off, in the middle of whatever is on it. */
function breakable(transport: Transport): [Transport, breakOff: () => void] {
  const controllers: TransformStreamDefaultController<Uint8Array>[] = [];
  const pass = () => new TransformStream<Uint8Array, Uint8Array>({ start: (it) => void controllers.push(it) });
  const [back, there] = [pass(), pass()];
  const { readable, writable } = streamsOf(transport);
  readable.pipeTo(back.writable).catch(() => {});
  there.readable.pipeTo(writable).catch(() => {});
  const breakOff = () => controllers.forEach((controller) => controller.error(new Error("broken off")));
  return [fromStreams({ readable: back.readable, writable: there.writable, peer: "memory" }), breakOff];
}

Deno.test("client - a ledger of calls, cancels, timeouts and broken connections balances", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const clock = new FakeClock();
  const runs = new Uint8Array(CALLS);
  /** Uploads that a handler took for whole, and whose source came to its end; sources that are open. */
  const wholes = new Uint8Array(CALLS);
  const saidEnd = new Uint8Array(CALLS);
  let open = 0;
  const commands = {
    WORK: command({
      number: 16,
      async handler({ id, workMs }: { id: number; workMs: number }, context) {
        runs[id]++;
        if (workMs > 0) await sleep(context.clock, workMs, context.signal);
        return id * 7;
      },
    }),
    UPLOAD: command({
      number: 17,
      items: unchecked<number>(),
      async handler({ id }: { id: number }, { items }) {
        runs[id]++;
        let taken = 0;
        for await (const item of items) assertEquals(item, taken++);
        wholes[id]++;
        return id * 7;
      },
    }),
  };
  /** The items of an upload, with pauses between them. Some break in the middle. */
  async function* source(id: number, count: number, breaks: boolean): AsyncGenerator<number> {
    open++;
    try {
      for (let index = 0; index < count; index++) {
        if (index % 3 === 2) await new Promise<void>((resolve) => clock.setTimer(resolve, 1, true));
        yield index;
      }
      if (breaks) throw new Error(BROKEN);
      saidEnd[id] = 1;
    } finally {
      open--;
    }
  }
  const served: Promise<void>[] = [];
  const breakers = new Set<() => void>();
  const dial = () => {
    if (random.chance(0.1)) return Promise.reject(new Error("no line"));
    const [here, there] = memoryPair();
    const [transport, breakOff] = breakable(here);
    breakers.add(breakOff);
    served.push(serveOne(there, { commands, clock, onError() {} }).then(() => void breakers.delete(breakOff)));
    return Promise.resolve(transport);
  };
  const clients: Client<typeof commands>[] = [];
  while (clients.length < CLIENTS) {
    const client = await connect({ commands, clock, dial, maxInFlight: 100, random: () => random.next() }).catch(
      () => {},
    );
    if (client) clients.push(client);
  }

  const outcomes: Record<string, number> = {};
  let settled = 0;
  const makeCall = async (id: number): Promise<void> => {
    const patience = random.chance(0.2) ? new AbortController() : undefined;
    const idempotent = random.chance(0.3);
    const options = { timeoutMs: random.pick([Infinity, 10, 30, 200]), signal: patience?.signal };
    const client = random.pick(clients);
    const isUpload = random.chance(0.25);
    const breaks = isUpload && random.chance(0.2);
    const call = isUpload
      ? client.reply.UPLOAD({ id }, { ...options, items: source(id, random.below(8), breaks) })
      : client.reply("WORK", { id, workMs: random.below(21) }, { ...options, idempotent });
    if (patience) clock.setTimer(() => patience.abort(), random.below(30), true);
    let outcome = "value";
    try {
      assertEquals((await call).res, id * 7);
    } catch (error) {
      const isBroken = breaks && (error as Error).message === BROKEN;
      if (!(error instanceof RpcError) && !isBroken) throw error;
      outcome = error instanceof RpcError ? error.code : "broken";
      const isRetryable = error instanceof RpcError && error.retryable;
      assert(!isRetryable || runs[id] === 0, `call ${id} ran, yet ${error} says it may be sent again`);
    }
    assert(runs[id] <= (idempotent && !isUpload ? 3 : 1), `call ${id} ran ${runs[id]} times`);
    if (isUpload && outcome === "value") assertEquals(wholes[id], 1, `call ${id} has a value`);
    settled++;
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  };

  const calls: Promise<void>[] = [];
  while (calls.length < CALLS) {
    for (let burst = random.below(200); burst > 0 && calls.length < CALLS; burst--) calls.push(makeCall(calls.length));
    if (random.chance(0.15) && breakers.size > 0) random.pick([...breakers])();
    await clock.advance(random.below(4));
  }
  for (let rounds = 0; settled < CALLS && rounds < 10_000; rounds++) await clock.advance(20);
  await Promise.all(calls);
  assertEquals(settled, CALLS);
  console.log(outcomes);
  for (const code of ["value", "CANCELLED", "TIMEOUT", "CONNECTION_LOST", "broken"]) {
    assert(outcomes[code] > 0, `no ${code}`);
  }
  assertEquals(Object.keys(outcomes).length, 5);

  await Promise.all(clients.map((client) => client.close()));
  for (const breakOff of breakers) breakOff();
  await Promise.all(served);
  await clock.advance(10);
  await turn();
  assertEquals(open, 0, "sources that are open");
  for (let id = 0; id < CALLS; id++) {
    assert(wholes[id] <= saidEnd[id], `call ${id} was broken off, and yet was whole at the server`);
  }
});
