/** How many replies are gathered: beyond what the output takes goes one at the most; and small ones go by the dozen. */

import { assert, assertEquals } from "@std/assert";
import { EncodeStage } from "../../codec/encode.ts";
import { type Fields, Reply, writeReply } from "../../codec/message.ts";
import { RpcError } from "../../errors.ts";
import { Slice } from "../../handlers/slice.ts";
import { newSeed, Random } from "../random.ts";

const SEED = newSeed();

/** What a reply takes on the wire. */
function bytesOf(reply: Reply, maxPayloadBytes: number): number {
  let bytes = 0;
  const stage = new EncodeStage<Reply>({
    writeMessage: writeReply,
    maxPayloadBytes: () => maxPayloadBytes,
    onUnwritable: () => new Reply(reply.seq, {}, false),
    onChunk: (added) => bytes += added,
  });
  stage.transform([reply], { enqueue() {}, terminate() {} });
  return bytes;
}

/** Gathers replies until they are enough. */
function gather(slice: Slice, next: () => Reply): Reply[] {
  const replies: Reply[] = [];
  do replies.push(next()); while (!slice.isFull(replies));
  return replies;
}

const ok = (fields: Fields) => new Reply(2 ** 53 - 1, fields, true);

Deno.test(`a slice exceeds the room by one reply at the most, whatever they are (seed ${SEED})`, () => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  const text = (longest: number) => random.pick(["x", "é", "漢", "🍺", "\ud800", "\n"]).repeat(random.below(longest));
  const values: (() => unknown)[] = [
    () => null,
    () => random.chance(0.5),
    () => random.pick([0, -1, 1.5, NaN, 2 ** 53, -(2 ** 40), 2n ** 64n - 1n]),
    () => text(10),
    () => text(300),
    () => random.bytes(random.below(300)),
    () => new Array(random.below(100)).fill(text(5)),
    () => ({ [text(50)]: text(50) }),
    () => undefined,
  ];
  const reply = () =>
    random.chance(0.1) ? new Reply(1, new RpcError("NO", text(50), { data: text(50) }), false) : ok(Object.fromEntries([
      ["res", random.pick(values)()],
      ...Array.from({ length: random.below(4) }, () => [text(random.pick([10, 100])), random.pick(values)()]),
    ]));
  const counts = new Set<number>();
  for (let round = 0; round < 3_000; round++) {
    const slice = new Slice();
    const payloadBytes = random.between(100, 2_000);
    const roomBytes = random.between(-100, 20_000);
    slice.begin(roomBytes, payloadBytes);
    const replies = gather(slice, reply);
    counts.add(replies.length);
    const bytes = replies.slice(0, -1).reduce((sum, reply) => sum + bytesOf(reply, payloadBytes), 0);
    assert(replies.length === 1 || bytes < roomBytes, `${bytes} of ${roomBytes} bytes, and one more reply`);
  }
  assert(counts.size > 15, `only ${[...counts]} replies`);
});

Deno.test("replies that are small are gathered by the dozen, also where four of the largest would fill the output", () => {
  const slice = new Slice();
  for (const fields of [{ res: "PONG" }, { res: "DONE", slept: 0.5 }, { res: null }]) {
    slice.begin(4 * 2 ** 20, 2 ** 20);
    assertEquals(gather(slice, () => ok(fields)).length, 32);
    slice.begin(5_000, 2 ** 20);
    assertEquals(gather(slice, () => ok(fields)).length, 32, "also where none of the largest would fit");
  }
  slice.begin(4 * 2 ** 20, 2 ** 20);
  assertEquals(gather(slice, () => ok({ res: [] })).length, 4, "what holds something may be large");
});

Deno.test("a reply that cannot be looked at counts as the largest", () => {
  const slice = new Slice();
  slice.begin(10_000, 3_000);
  const throwing = {
    get res() {
      throw new Error("not now");
    },
  };
  assertEquals(gather(slice, () => ok(throwing)).length, 4);
});
