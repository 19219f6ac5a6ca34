/** Several streams from a caller on one connection, mixed at random: each comes to its own end, and nothing is left. */

import { assert, assertEquals } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { command, unchecked } from "../../handlers/command.ts";
import { ServedCalls } from "../support/items.ts";
import { newSeed, Random } from "../support/random.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import type { Message } from "../support/wire.ts";

const RUNS = 1_000;

/** More items than are ever granted at once. */
const FLOOD = 300;

interface Taking {
  /** How many items it takes. */
  take: number;
}

/** What handlers do with a stream: take all or some, slowly or not, answer early or late, once or with a stream. */
const commands = {
  ALL: command({
    items: unchecked<unknown>(),
    async handler(_: object, { items }) {
      const taken: unknown[] = [];
      for await (const each of items) {
        taken.push(each);
        if (taken.length % 3 === 0) await settle(1);
      }
      return taken;
    },
  }),
  SOME: command({
    items: unchecked<unknown>(),
    async handler({ take }: Taking, { items }) {
      const taken: unknown[] = [];
      if (take > 0) {
        for await (const each of items) if (taken.push(each) >= take) break;
      }
      await settle(2); // computes on
      return taken;
    },
  }),
  FAIL: command({
    items: unchecked<unknown>(),
    async handler({ take }: Taking, { items }) {
      let taken = 0;
      for await (const _ of items) if (++taken >= take) break;
      throw new RpcError("ENOUGH", undefined, { data: taken });
    },
  }),
  BACK: command({
    items: unchecked<unknown>(),
    async *handler(_: object, { items }) {
      for await (const each of items) yield each;
      return "end";
    },
  }),
};

/** One stream, as its caller sees it. */
class CallersStream {
  credit = 1;
  readonly sent: unknown[] = [];
  readonly back: unknown[] = [];
  ending: "none" | "end" | "cancel" | "too many" = "none";
  last: Message | undefined;

  constructor(readonly seq: number, readonly cmd: keyof typeof commands, readonly take: number) {}

  get request(): Message {
    return { cmd: this.cmd, seq: this.seq, $items: true, take: this.take };
  }

  /** The next messages: an item that it may send, an end, or a flood that it must not send. */
  next(random: Random): Message[] {
    const { seq } = this;
    if (this.ending !== "none" || this.last !== undefined) return [];
    if (random.chance(0.1)) {
      this.ending = "end";
      return [{ cmd: 0, seq, end: true }];
    }
    if (random.chance(0.02)) {
      this.ending = "cancel";
      return [{ cmd: 0, seq, cancel: true }];
    }
    if (random.chance(0.01)) {
      this.ending = "too many";
      const flood = Array.from({ length: FLOOD }, (_, index) => index);
      this.sent.push(...flood);
      return [...flood.map((item) => ({ cmd: 0, seq, item })), { cmd: 0, seq, end: true }];
    }
    if (this.credit === 0) return [];
    this.credit--;
    const item = random.pick([
      this.sent.length,
      "x".repeat(random.below(300)),
      random.bytes(random.below(2_000)),
      null,
    ]);
    this.sent.push(item);
    return [{ cmd: 0, seq, item }];
  }

  /** A message for it. */
  receive(message: Message): void {
    assertEquals(this.last, undefined, "nothing comes behind the last reply");
    if ("credit" in message) this.credit += message.credit as number;
    else if (message.more) this.back.push(message.res);
    else this.last = message;
  }

  /** Fails if its end is not one that what was sent can have. */
  check(): void {
    const { last, ending, sent, take } = this;
    if (last === undefined) throw new Error(`${this.cmd} has no end`);
    const mayFail =
      { "cancel": "CANCELLED", "too many": "INVALID_MESSAGE", "end": undefined, "none": undefined }[ending];
    if (last.err !== undefined && last.err === mayFail) return;
    if (this.cmd === "BACK") assertEquals([this.back, last.res], [sent, "end"]);
    else if (this.cmd === "ALL") assertEquals([last.res, ending === "cancel"], [sent, false]);
    else if (this.cmd === "SOME") assertEquals(last.res, sent.slice(0, take));
    else assertEquals([last.err, last.data], ["ENOUGH", Math.min(sent.length, Math.max(1, take))]);
  }
}

Deno.test("items - 1,000 random mixtures of several streams on one connection", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const seeds = new Random(seed);
  let ends = 0;
  for (let run = 0; run < RUNS; run++) {
    const random = new Random(seeds.below(2 ** 31));
    await using served = new ServedCalls({
      commands,
      clock: new FakeClock(), // no turn ends by time, so each message is answered within the rounds below
      maxQueuedBytes: random.pick([1_000, 20_000, 4_000_000]),
    });
    const { peer } = served;
    const streams = Array.from(
      { length: random.between(2, 5) },
      (_, seq) => new CallersStream(seq, random.pick(["ALL", "SOME", "FAIL", "BACK"]), random.below(12)),
    );
    await peer.send(...streams.map(({ request }) => request));
    for (let round = 0; streams.some(({ last }) => last === undefined); round++) {
      assert(round < 1_000, `run ${run} stands still`);
      const batch: Message[] = [];
      for (let n = random.below(40); n > 0; n--) batch.push(...random.pick(streams).next(random));
      if (batch.length > 0) await peer.send(...batch);
      await settle(random.between(1, 3));
      for (const message of peer.takeReady()) streams[message.seq as number].receive(message);
    }
    for (const stream of streams) stream.check();
    ends += streams.length;
    assertEquals(await peer.ask({ cmd: 1 }), { res: "PONG" });
    await settle(5);
    served.assertNothingHeld();
  }
  assert(ends > 2 * RUNS);
});
