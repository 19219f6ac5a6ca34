/**
 * A client with streams both ways against servers that say anything: replies, items, grants and notices in any order, for any call,
 * sound or damaged. Whatever comes, the client sends no more than it was granted, each of its calls settles once, each source
 * is ended once, and nothing of it is left.
 *
 * A client that ignores credit, and one that forgets its sources, are the canaries.
 */

import { assert, assertEquals } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { OutgoingItems } from "../../client/outgoing_items.ts";
import { RpcError } from "../../errors.ts";
import type { Transport } from "../../transport/transport.ts";
import { WireWatch } from "../streams/wire_watch.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";
import { replaced } from "../support/replaced.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";
import { concat, type Message, message } from "../support/wire.ts";
import { mutated } from "./mutate.ts";

const CONVERSATIONS = 2_000;

/** Calls of a conversation: their `seq` are 0 to 3, and there is no other. */
const CALLS = 4;

/** What a server says. */
function anyMessage(random: Random): Message {
  const seq = random.below(CALLS + 1);
  return random.pick<Message>([
    { seq, credit: random.pick([1, 2, 10, 256, Number.MAX_SAFE_INTEGER]) },
    { seq, credit: random.pick([1, 3]) },
    { seq, res: random.below(10), more: true },
    { seq, res: random.below(10), more: true },
    { seq, res: 1, more: true, $id: random.pick<unknown>([1, "a", -1, null]) },
    { seq, res: null },
    { seq, res: 7, $items: 0 },
    { seq, err: random.pick(["OVERLOADED", "CANCELLED", "INTERNAL", "SHUTTING_DOWN"]) },
    { going: 1_000 },
    { seq, unheardOf: true },
  ]);
}

/** One conversation: what was wrong with it. */
async function converse(seed: number, outcomes: Set<string>): Promise<string[]> {
  const random = new Random(seed);
  const faults: string[] = [];
  const clock = new FakeClock();
  const network = memoryNetwork();
  const accepted = ScriptedServer.accept(network);
  const dial = async (): Promise<Transport> => {
    const transport = await network.dial();
    const watch = new WireWatch({ onGrant() {}, onFault: (fault) => void faults.push(fault) });
    return {
      ...{ closeWrite: () => transport.closeWrite(), close: () => transport.close(), broken: transport.broken },
      ...{ ref: () => transport.ref?.(), unref: () => transport.unref?.() },
      async read(into) {
        const readBytes = await transport.read(into);
        try {
          if (readBytes !== null) watch.pass("client reads", into.subarray(0, readBytes));
        } catch {
          // Damaged: from here on, the client has to notice.
        }
        return readBytes;
      },
      write(bytes) {
        watch.pass("client writes", bytes);
        return transport.write(bytes);
      },
    };
  };
  const client: Client = await connect({ dial, clock, random: () => 0, timeoutMs: 10_000, retryBudget: NO_RETRIES });
  const server = await accepted;
  let ends = 0;
  async function* source() {
    try {
      for (let index = 0; index < 50; index++) yield index;
    } finally {
      ends++;
    }
  }
  const settled: string[] = [];
  const follow = async (call: () => Promise<unknown>): Promise<void> => {
    try {
      await call();
      settled.push("value");
    } catch (error) {
      settled.push(error instanceof RpcError ? error.code : `no code: ${error}`);
    }
  };
  const read = async (stream: AsyncGenerator<unknown>, most: number) => {
    let left = most;
    for await (const _ of stream) if (--left === 0) break;
  };
  const calls = [
    follow(() => client.call("UP", {}, { items: source() })),
    follow(() => client.call("UP", {}, { items: source(), timeoutMs: 10_000 })),
    follow(() => read(client.stream("DOWN", {}, { credit: 4 }), random.pick([Infinity, 2]))),
    follow(() => read(client.stream("BOTH", {}, { items: source(), credit: 4 }), random.pick([Infinity, 2]))),
  ];
  await turn();
  for (let left = random.between(1, 40); left > 0; left--) {
    const bytes = concat(...Array.from({ length: random.between(1, 4) }, () => message(anyMessage(random))));
    const sent = random.chance(0.02) ? mutated(random, bytes, message(anyMessage(random))) : bytes;
    await server.send(sent).catch(() => {}); // the client may have left
    if (random.chance(0.5)) await turn();
    if (random.chance(0.05)) await clock.advance(300);
  }
  if (random.chance(0.3)) server.cut();
  await turn();
  await client.close();
  await clock.advance(20_000);
  await server[Symbol.asyncDispose]();
  await turn();
  const missing = CALLS - settled.length;
  if (missing > 0) faults.push(`${missing} calls have not settled`);
  else await Promise.all(calls);
  if (settled.some((outcome) => outcome.startsWith("no code"))) faults.push(settled.join());
  if (ends > 3) faults.push(`3 sources have ended ${ends} times`);
  // One that was never asked has no finally: all were sent, and so asked.
  if (ends < 3) faults.push(`${3 - ends} sources are open`);
  if (clock.timers > 0) faults.push(`${clock.timers} timers wait`);
  for (const outcome of settled) outcomes.add(outcome);
  return faults;
}

const NO_RETRIES = { perCall: 0, perSecond: 0 };

/** What was wrong in the first conversation that has such a fault. */
async function converseAll(count: number, seed: number, outcomes: Set<string>, such = /./): Promise<string[]> {
  const seeds = new Random(seed);
  for (let index = 0; index < count; index++) {
    const own = seeds.below(2 ** 32);
    const faults = await converse(own, outcomes);
    if (such.test(faults.join())) return [`conversation ${index}, seed ${own}`, ...faults];
  }
  return [];
}

Deno.test(`hostile server - ${CONVERSATIONS} conversations in which it says anything: the client keeps to the rules`, async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const outcomes = new Set<string>();
  assertEquals(await converseAll(CONVERSATIONS, seed, outcomes), []);
  const met = ["value", "BAD_REPLY", "OVERLOADED", "GOING_AWAY", "INTERNAL", "CLOSED", "CONNECTION_LOST"];
  assertEquals(met.filter((outcome) => !outcomes.has(outcome)), [], "never met");
});

const canaries: [name: string, breakIt: () => Disposable, noticed: RegExp][] = [
  ["ignores credit", () => replaced(OutgoingItems.prototype, "hold", () => () => undefined), /were granted/],
  ["leaves its sources open", () => replaced(OutgoingItems.prototype, "end", () => () => {}), /sources are open/],
];

for (const [name, breakIt, noticed] of canaries) {
  Deno.test(`hostile server - canary: a client that ${name} is caught`, async () => {
    using _ = breakIt();
    assert((await converseAll(200, newSeed(), new Set(), noticed)).length > 0);
  });
}

Deno.test("hostile server - a message that only a client may send is no cancel of the client's own", () => {
  const faults: string[] = [];
  const watch = new WireWatch({ onGrant() {}, onFault: (fault) => void faults.push(fault) });
  watch.pass("client writes", message({ cmd: "DOWN", seq: 1, credit: 4 }));
  watch.pass("client reads", message({ seq: 1, cmd: 0 }));
  watch.pass("client writes", message({ cmd: 0, seq: 1, cancel: true }));
  assertEquals(faults, []);
});
