/** The caller's streams in any order of events: items, grants, replies, refusals, aborts and losses. */

import { assert, assertEquals } from "@std/assert";
import type { Fields } from "../../codec/message.ts";
import { RpcError } from "../../errors.ts";
import { turn } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";
import { scene, Source } from "../support/outgoing_items.ts";

/** A source that gives an item when the test says so, and knows how it has ended. */
class SlowSource extends Source {
  /** How it has come to its end by itself. */
  own: "done" | "thrown" | undefined;
  #wanted: PromiseWithResolvers<IteratorResult<unknown>>[] = [];

  override next(): Promise<IteratorResult<unknown>> {
    assertEquals([this.own, this.ended], [undefined, 0], "it is not asked after its end");
    assertEquals(this.#wanted.length, 0, "it is asked for one at a time");
    const wanted = Promise.withResolvers<IteratorResult<unknown>>();
    this.#wanted.push(wanted);
    return wanted.promise;
  }

  get isAsked(): boolean {
    return this.#wanted.length > 0;
  }

  step(what: "item" | "done" | "thrown"): void {
    const wanted = this.#wanted.shift();
    if (wanted === undefined) return;
    if (what !== "item" && this.ended === 0) this.own = what;
    if (what === "thrown") wanted.reject(new Error("mine"));
    else wanted.resolve({ done: what === "done", value: this.asked++ });
  }
}

/** What a server has seen of one attempt of a call: it checks each message. */
class Attempt {
  items = 0;
  granted = 1;
  end: "end" | "cancel" | undefined;
  constructor(readonly seq: number) {}

  take(message: Fields): void {
    assertEquals(message.seq, this.seq);
    if ("credit" in message) return;
    const before = message.cancel ? [undefined, "end"] : [undefined]; // the answer to a whole stream may be given up too
    assert(before.includes(this.end), `${JSON.stringify(message)} came after ${this.end}`);
    if (message.end) this.end = "end";
    else if (message.cancel) this.end = "cancel";
    else assertEquals(message.item, this.items++, "items come in order, each once");
    assert(this.items <= this.granted, "no more than were granted");
  }
}

async function interleave(random: Random): Promise<string> {
  const { client, server } = await scene();
  const source = new SlowSource();
  const patience = new AbortController();
  const isStream = random.chance(0.5);
  const options = { items: source, signal: patience.signal };
  const stream = isStream ? client.stream("UP", {}, options) : undefined;
  const call = stream === undefined ? client.call("UP", {}, options) : stream.next();
  let outcome: string | undefined;
  call.then(() => outcome = "result", (error) => outcome = error instanceof RpcError ? error.code : error.message);
  let attempt: Attempt | undefined;
  let isCut = false;
  /** The server has refused the last attempt: a call that waits for the next one needs no cancel. */
  let isRefused = false;
  const look = async () => {
    await turn();
    while (server.waiting > 0) {
      const message = await server.message();
      if (message === undefined) isCut = true;
      else if (message.cmd === "UP") [attempt, isRefused] = [new Attempt(message.seq as number), false];
      else if (message.cmd === 0 && !("notice" in message)) attempt?.take(message);
    }
  };
  // In a turn of its own: else the client ends a source that has ended, and of which it does not know that yet.
  const comeToEnd = async (how: "done" | "thrown") => {
    await look();
    source.step(how);
    await look();
  };
  const steps: [weight: number, () => unknown][] = [
    [8, () => source.step("item")],
    [1, () => comeToEnd("done")],
    [0.3, () => comeToEnd("thrown")],
    [5, () => {
      const credit = random.between(1, 4);
      if (attempt) attempt.granted += credit;
      return server.reply({ seq: attempt?.seq, credit });
    }],
    [0.5, () => server.reply({ seq: attempt?.seq, res: 1, $items: 0 })],
    [0.3, () => server.reply({ seq: attempt?.seq, err: "NO_SUCH_PLACE" })],
    [1, () => {
      isRefused = attempt !== undefined;
      return server.reply({ seq: attempt?.seq, err: "OVERLOADED" });
    }],
    [0.3, () => patience.abort()],
    [0.3, () => server.cut()],
    [0.3, () => stream?.return(undefined)],
    [0.2, () => client.close()],
  ];
  const total = steps.reduce((sum, [weight]) => sum + weight, 0);
  await look();
  while (outcome === undefined) {
    let at = random.next() * total;
    const [, step] = steps.find(([weight]) => (at -= weight) < 0) ?? steps[0];
    await Promise.resolve(step()).catch(() => {});
    if (random.chance(0.7)) await look(); // else the next step falls into the same turn
  }
  await look();
  source.step(random.pick(["item", "done", "thrown"])); // late: nobody hears of it
  await look();
  assertEquals(source.ended, source.own === undefined ? 1 : 0, `ended once: ${source.own}, ${outcome}`);
  if (outcome === "mine") assertEquals(source.own, "thrown");
  if (attempt?.end === "end") assertEquals(source.own, "done", "an end is the source's own");
  if (["mine", "CANCELLED", "CLOSED"].includes(outcome) && !isCut && !isRefused) {
    assert(attempt?.end !== undefined, outcome);
  }
  const { begun, inFlight, waiting } = client.statistics();
  assertEquals([begun, inFlight, waiting], [1, 0, 0]);
  await client.close();
  server.cut();
  return outcome;
}

Deno.test("items - 1,000 interleavings of items, grants, replies, refusals, aborts and losses", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const outcomes: Record<string, number> = {};
  for (let round = 0; round < 1_000; round++) {
    const outcome = await interleave(random);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  console.log(outcomes);
  assert(Object.keys(outcomes).length >= 7, "each kind of end has come");
});
