/**
 * However a stream is cut, the same messages come out of it, and the same bytes come back: in single bytes, with every
 * single cut, and in ten thousand random ways.
 */

import { assert, assertEquals } from "@std/assert";
import { readReply, readRequest } from "../../codec/read_message.ts";
import { encode } from "../support/msgpack.ts";
import { newSeed, Random } from "../support/random.ts";
import { chunksOf, concat, frame, hex, message, messages, unhex } from "../support/wire.ts";
import { readAll } from "./codec_checks.ts";
import { serveOne } from "../support/serve_one.ts";
import { converse, type Serve } from "./conversation.ts";
import { describe } from "./describe.ts";
import { fromStreams } from "../../transport/transport.ts";
import { streamsOf } from "../support/streams.ts";

const SEED = newSeed();
const RANDOM_CUTS = 10_000;

/**
 * Twenty frames of all kinds, newlines wherever they can be. What answers later than at once is either without `seq`, and
 * has its place in the order, or comes last: which of two handlers ends first may depend on when their requests came.
 */
const STREAM = concat(
  message({ cmd: 1 }),
  message({ sleep: 10, cmd: 2 }), // 0x0A in the payload, and all behind it without seq wait
  message({ cmd: "ECHO", seq: 10, value: "\n".repeat(222) }), // 0x0A in the header
  message({ cmd: "LATER", value: { "\n": [10n, new Uint8Array([10])] }, meta: { token: "\n" } }),
  frame(unhex("90")),
  frame(unhex("")),
  frame(unhex("c1")),
  message({ cmd: 0, max: 100_000 }),
  message({ cmd: "DELAY", seq: 2, sleep: 100 }),
  message({ cmd: 1, seq: 2 }), // in flight already
  message({ cmd: 0, seq: 2, cancel: true }),
  message({ cmd: 0, seq: 3, cancel: true }), // unknown
  message({ cmd: "REFUSE", seq: 3, value: [1.5, null, "é漢🍺"] }),
  message({ cmd: "NOBODY", seq: 4 }),
  message({ cmd: 1, seq: -1 }),
  message({ cmd: "CHECKED", seq: 5, ...JSON.parse('{"__proto__": 1}') }),
  message({ cmd: "DELAY", seq: 6, sleep: 20, ttl: 10_000 }),
  message({ cmd: "LATER", seq: 7, sleep: 10, value: "y" }),
  message({ cmd: "TICK", seq: 2 ** 53 - 1, count: 3, interval: 10, credit: 2 }),
  message({ cmd: 0, seq: 2 ** 53 - 1, credit: 10 }),
);

/** The same with an end that is no end. */
const BROKEN = concat(STREAM, unhex("20 21 90 0d"), message({ cmd: 1 }));
const CUT_SHORT = STREAM.subarray(0, -1);

/** All that a server and a client make of a stream in pieces. */
function read(chunks: Uint8Array[]): string {
  return `${describe(readAll(readRequest, chunks))}\n${describe(readAll(readReply, chunks))}`;
}

async function answered(chunks: Uint8Array[], serve?: Serve): Promise<string> {
  const { replies, ending, errors, rejections } = await converse(chunks, serve);
  assertEquals([ending, errors, rejections], ["closed", [], []]);
  return hex(replies);
}

const WHOLE = { messages: read([STREAM]), replies: await answered([STREAM]) };

Deno.test("the twenty frames are of all kinds, and so are their replies", () => {
  assertEquals(readAll(readRequest, [STREAM]).length, 20);
  const replies = messages(unhex(WHOLE.replies));
  assertEquals(replies.filter(({ more }) => more).length, 3);
  assertEquals(replies.length, 16 + 3);
  assertEquals(new Set(replies.map(({ err }) => err)).size, 7, "six errors, and none");
});

for (
  const [name, stream] of Object.entries({ "twenty frames": STREAM, "a broken frame": BROKEN, "a cut": CUT_SHORT })
) {
  Deno.test(`the same comes of ${name} in single bytes, and with every single cut`, async () => {
    const whole = { messages: read([stream]), replies: await answered([stream]) };
    const bytes = chunksOf(stream, 1);
    assertEquals({ messages: read(bytes), replies: await answered(bytes) }, whole);
    for (let cut = 1; cut < stream.length; cut++) {
      const chunks = [stream.slice(0, cut), stream.slice(cut)];
      assertEquals({ messages: read(chunks), replies: await answered(chunks) }, whole, `cut at ${cut}`);
    }
  });
}

/** A server that trims what it reads, as one does that takes frames for lines. */
const serveTrimmed: Serve = (transport, options) => {
  const trim = new TransformStream<Uint8Array, Uint8Array>({
    transform: (bytes, controller) => controller.enqueue(bytes[0] === 0x0a ? bytes.slice(1) : bytes.slice()),
  });
  const streams = streamsOf(transport);
  return serveOne(fromStreams({ ...streams, readable: streams.readable.pipeThrough(trim) }), options);
};

Deno.test("canary: a server that trims what it reads is right on the whole, and caught by some cut", async () => {
  const differs: number[] = [];
  assertEquals(await answered([STREAM], serveTrimmed), WHOLE.replies);
  for (let cut = 1; cut < STREAM.length; cut++) {
    const replies = await converse([STREAM.slice(0, cut), STREAM.slice(cut)], serveTrimmed);
    if (hex(replies.replies) !== WHOLE.replies) differs.push(cut);
  }
  assert(differs.length > 20, `only at ${differs}`);
});

Deno.test(`the same comes of twenty frames in ${RANDOM_CUTS} random chunkings (seed ${SEED})`, async () => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  for (let round = 0; round < RANDOM_CUTS; round++) {
    const chunks = random.pieces(STREAM, random.pick([60, 200, 500, 1_000]));
    assert(read(chunks) === WHOLE.messages, `the messages of round ${round}`);
    assert(await answered(chunks) === WHOLE.replies, `the replies of round ${round}`);
  }
});

Deno.test(`the same comes of a long frame between short ones in random chunkings (seed ${SEED})`, async () => {
  const random = new Random(SEED);
  const long = { cmd: "ECHO", seq: 5, value: "\n".repeat(70_000) };
  assert(encode(long).length > 57_310);
  const stream = concat(message({ cmd: 0, max: 100_000 }), message({ cmd: 1 }), message(long), message({ cmd: 1 }));
  const whole = { messages: read([stream]), replies: await answered([stream]) };
  for (let round = 0; round < 50; round++) {
    const chunks = random.pieces(stream, random.pick([1_000, 10_000, 100_000]));
    assertEquals({ messages: read(chunks), replies: await answered(chunks) }, whole, `round ${round}`);
  }
});
