/**
 * The decode stage by itself: chunks cut anywhere, messages out; what stands in the place of a broken one; and that no
 * message remembers the buffer it came in.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { DecodeStage, type ServerReading } from "../../codec/decode.ts";
import { BadFrame, type Control, type Decoded, InvalidMessage, Request, Truncated } from "../../codec/message.ts";
import { readRequest } from "../../codec/read_message.ts";
import { encode } from "../support/msgpack.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { newSeed, Random } from "../support/random.ts";
import { chunksOf, concat, frame, request, unhex } from "../support/wire.ts";

const SEED = newSeed();

/** A server, whose connections read no long payload here: what is not read into the stage's space is read at once. */
const SERVER: ServerReading = { readAhead: () => Promise.reject(new Error("a long payload was read in parts")) };

type Batch = Decoded<Request | Control>[];

/** A stage, and what it has put out. */
class Decoding {
  readonly stage: DecodeStage<Request | Control>;
  readonly batches: Batch[] = [];
  readonly #output = { enqueue: (batch: Batch) => void this.batches.push(batch), terminate() {} };

  constructor(limits = {}, server?: ServerReading) {
    this.stage = new DecodeStage(readRequest, { ...DEFAULT_LIMITS, ...limits }, server);
  }

  feed(...chunks: Uint8Array[]): this {
    for (const chunk of chunks) this.stage.transform(chunk, this.#output);
    return this;
  }

  end(): this {
    this.stage.flush(this.#output);
    return this;
  }

  get messages(): Batch {
    return this.batches.flat();
  }
}

/** Twenty messages of all kinds, with newlines wherever they can be. */
const STREAM = concat(
  ...Array.from(
    { length: 17 },
    (_, index) => request({ sleep: 10, seq: index, cmd: 2, text: "\n".repeat(index * 20) }),
  ),
  frame(unhex("90")),
  frame(unhex("")),
  request({ cmd: 0, seq: 10, cancel: true }),
);

const WHOLE = new Decoding().feed(STREAM).end().messages;

Deno.test("DecodeStage puts out one batch for a chunk, with all messages that it completed", () => {
  const decoding = new Decoding();
  const [one, two, three] = [request({ cmd: 1 }), request({ cmd: 2, sleep: 10 }), request({ cmd: "A", seq: 5 })];
  decoding.feed(concat(one, two, three.slice(0, 4)));
  assertEquals(decoding.batches.map((batch) => batch.length), [2]);
  decoding.feed(three.slice(4, 5));
  assertEquals(decoding.batches.length, 1, "no batch where nothing was completed");
  decoding.feed(concat(three.slice(5), one));
  assertEquals(decoding.batches.map((batch) => batch.length), [2, 2]);
  const [, second, third] = decoding.messages as Request[];
  assertEquals([second.cmd, second.params], [2, { sleep: 10 }]);
  assertEquals([third.cmd, third.seq], ["A", 5]);
});

Deno.test("DecodeStage reads the same messages however the bytes are cut", () => {
  assertEquals(WHOLE.length, 20);
  for (const size of [1, 2, 3, 7, 64]) {
    assertEquals(new Decoding().feed(...chunksOf(STREAM, size)).end().messages, WHOLE, `chunks of ${size}`);
  }
  for (let cut = 0; cut <= STREAM.length; cut++) {
    assertEquals(new Decoding().feed(STREAM.slice(0, cut), STREAM.slice(cut)).end().messages, WHOLE, `cut at ${cut}`);
  }
});

Deno.test(`DecodeStage reads the same messages in random chunks (seed ${SEED})`, () => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  for (let round = 0; round < 300; round++) {
    const pieces = random.pieces(STREAM, random.pick([2, 10, 100, 1_000]));
    assertEquals(new Decoding().feed(...pieces).end().messages, WHOLE, `round ${round}`);
  }
});

Deno.test("DecodeStage reads the largest short frame byte by byte in under 50 ms", () => {
  const bytes = frame(encode({ text: "x".repeat(57_310 - 9) }));
  assertEquals(bytes.length, 57_313);
  const chunks = chunksOf(bytes, 1);
  // On a machine that is busy with something else one round may take any time; ten do not.
  const times: number[] = [];
  while (times.length < 10 && !(times.at(-1)! < 50)) {
    const startMs = performance.now();
    assertEquals(new Decoding().feed(...chunks).messages.length, 1);
    times.push(performance.now() - startMs);
  }
  assert(Math.min(...times) < 50, `it took ${times} ms`);
});

Deno.test("DecodeStage reads a long frame in pieces, and then short ones", () => {
  const text = "\n".repeat(300_000);
  const bytes = concat(request({ text }), request({ cmd: 1 }));
  const messages = new Decoding().feed(...chunksOf(bytes, 1_500)).end().messages as Request[];
  assertEquals(messages.length, 2);
  assertEquals(messages[0].params, { text });
  assertEquals(messages[1].cmd, 1);
});

Deno.test(`DecodeStage reads long and short frames in any order, in random pieces (seed ${SEED})`, () => {
  const random = new Random(SEED);
  for (let round = 0; round < 20; round++) {
    const sizes = Array.from({ length: 12 }, () => random.pick([0, 1, 300, 57_290, 57_400, 65_536, 150_000]));
    const bytes = concat(...sizes.map((size, seq) => request({ cmd: 16, seq, data: new Uint8Array(size).fill(size) })));
    const decoding = new Decoding().feed(...random.pieces(bytes, random.pick([2_000, 50_000, 200_000]))).end();
    const read = decoding.messages.map((message) => (message as Request).params.data as Uint8Array);
    assertEquals(read.map(({ length }) => length), sizes, `round ${round}`);
    assert(read.every((data) => data.every((byte) => byte === (data.length & 255))), `round ${round}`);
    assertEquals(decoding.stage.midFrame, false);
  }
});

Deno.test("DecodeStage holds little for a few bytes, whatever length was declared", () => {
  const header = unhex("1f 1f 04 00 00 00 81");
  const before = Deno.memoryUsage().external;
  const stages = Array.from({ length: 64 }, () => new Decoding({ maxPayloadBytes: 64 * 1024 * 1024 }).feed(header));
  const grownBytes = Deno.memoryUsage().external - before;
  assert(stages.every(({ stage }) => stage.midFrame));
  assert(grownBytes < 1024 * 1024, `64 claims of 64 MiB took ${grownBytes} bytes`);
});

/** Reads bytes into the stage's own space, as a connection does: at most `readBytes` a read, and what fits. */
function readInto(decoding: Decoding, bytes: Uint8Array, readBytes: () => number): void {
  for (let at = 0; at < bytes.length;) {
    const space = decoding.stage.space(readBytes());
    const part = bytes.subarray(at, at + Math.min(space.length, readBytes()));
    space.set(part);
    decoding.feed(space.subarray(0, part.length));
    at += part.length;
  }
}

const LONG = 200_000;

Deno.test("DecodeStage hands out a long frame's bytes without a copy, and never writes to them again", () => {
  const decoding = new Decoding();
  const bytes = concat(
    ...[1, 2, 3].map((fill) => request({ cmd: 16, seq: fill, data: new Uint8Array(LONG).fill(fill) })),
  );
  readInto(decoding, bytes, () => 65_536);
  const datas = decoding.messages.map((message) => (message as Request).params.data as Uint8Array);
  assertEquals(datas.map((data) => data.every((byte) => byte === data[0])), [true, true, true]);
  const buffers = datas.map(({ buffer }) => buffer);
  assertEquals(new Set(buffers).size, 3, "each has a buffer of its own");
  assert(
    buffers.every(({ byteLength }) => byteLength > LONG && byteLength < LONG + 100),
    "the whole frame, and no more",
  );
  assert(!buffers.includes(decoding.stage.space(512).buffer));
});

Deno.test("DecodeStage copies what is behind or beside other messages, or less than half of its buffer", () => {
  const data = new Uint8Array(20_000).fill(7);
  const frames = { "two in one read": 2, "one, and the buffer is longer": 1 };
  for (const [name, count] of Object.entries(frames)) {
    const decoding = new Decoding();
    readInto(decoding, concat(...new Array(count).fill(request({ cmd: 16, data }))), () => 65_536);
    for (const message of decoding.messages) {
      assertEquals(((message as Request).params.data as Uint8Array).buffer.byteLength, data.length, name);
    }
  }
  const decoding = new Decoding();
  const half = request({ cmd: 16, data, text: "x".repeat(30_000) });
  readInto(decoding, half, () => half.length);
  assertEquals(((decoding.messages[0] as Request).params.data as Uint8Array).buffer.byteLength, data.length);
});

Deno.test(`DecodeStage reads the same from its own space, whatever each read brings (seed ${SEED})`, () => {
  const random = new Random(SEED);
  for (let round = 0; round < 60; round++) {
    const sizes = Array.from({ length: 10 }, () => random.pick([0, 1, 300, 9_000, 40_000, 57_400, 70_000, 300_000]));
    const bytes = concat(...sizes.map((size, seq) => request({ cmd: 16, seq, data: new Uint8Array(size).fill(size) })));
    const decoding = new Decoding();
    const largest = random.pick([[700, 30_000], [3, 65_536], [512, 5_000], [65_536]]);
    readInto(decoding, bytes, () => random.pick(largest));
    decoding.end();
    const read = decoding.messages.map((message) => (message as Request).params.data as Uint8Array);
    assertEquals(read.map(({ length }) => length), sizes, `round ${round}`);
    assert(read.every((data) => data.every((byte) => byte === (data.length & 255))), `round ${round}`);
  }
});

Deno.test("DecodeStage keeps a part of a header, however little is to be read next", () => {
  const bytes = request({ cmd: 16, data: new Uint8Array(60_000) });
  const decoding = new Decoding();
  const reads = [65_536, 5, 3, 3]; // of space, and what a read brings, in turn
  readInto(decoding, bytes, () => reads.shift() ?? 65_536);
  assertEquals(decoding.messages.length, 1);
});

Deno.test("DecodeStage believes a declared length up to sixteen times what has come", () => {
  const { stage } = new Decoding({ maxPayloadBytes: 64 * 1024 * 1024 });
  const header = unhex("1f 1f 03 00 00 00 81");
  stage.space(512).set(header);
  let comeBytes = 0;
  let readBytes = header.length;
  let most = 0;
  for (let reads = 0; reads < 200; reads++) {
    stage.transform(stage.space(512).subarray(0, readBytes), { enqueue() {}, terminate() {} });
    comeBytes += readBytes;
    const space = stage.space(512);
    most = Math.max(most, space.buffer.byteLength / Math.max(comeBytes, 512 / 16));
    readBytes = Math.min(space.length, 40_000);
  }
  assert(most > 2 && most <= 16, `${most} times`);
});

Deno.test("DecodeStage reads frames of one size in two buffers each, the second of their own size", () => {
  for (const size of [300_000, 2 ** 20, 3_000_000, 4_000_000]) {
    const { stage } = new Decoding({ maxPayloadBytes: 2 ** 23 });
    const bytes = request({ cmd: 16, data: new Uint8Array(size) });
    for (let frames = 0; frames < 3; frames++) {
      const buffers = new Set<number>();
      for (let at = 0; at < bytes.length;) {
        const space = stage.space(65_536);
        buffers.add(space.buffer.byteLength);
        const part = bytes.subarray(at, at + space.length);
        space.set(part);
        at += part.length;
        stage.transform(space.subarray(0, part.length), { enqueue() {}, terminate() {} });
      }
      if (frames > 0) assertEquals([buffers.size, Math.max(...buffers)], [2, bytes.length], `${size} bytes`);
    }
  }
});

Deno.test("DecodeStage leaves nothing in a message that the chunk's next content could change", () => {
  const bytes = request({ cmd: 16, data: new Uint8Array(500).fill(7), text: "stays", seq: 1 });
  for (const cut of [0, 1, 2, 40, bytes.length - 1]) {
    const decoding = new Decoding();
    for (const chunk of [bytes.slice(0, cut), bytes.slice(cut)]) {
      decoding.feed(chunk);
      chunk.fill(0xc1); // as the next read into the same buffer does
    }
    decoding.feed(new Uint8Array(600).fill(0xc1)); // and whatever is held meanwhile
    const [message] = decoding.messages as Request[];
    assertEquals(message.params, { data: new Uint8Array(500).fill(7), text: "stays" }, `cut at ${cut}`);
  }
});

/** Payloads in sound frames that are no message, and a word of the reason. */
const MALFORMED: Record<string, [payload: Uint8Array, reason: string]> = {
  "nothing": [unhex(""), "too early"],
  "a number": [unhex("01"), "must be a map"],
  "a text": [unhex("a3 63 6d 64"), "must be a map"],
  "an array": [unhex("91 01"), "must be a map"],
  "nil": [unhex("c0"), "must be a map"],
  "a map cut short": [unhex("81 a3 63 6d 64"), "too early"],
  "a byte behind the map": [unhex("81 a3 63 6d 64 01 00"), "left over"],
  "two maps": [unhex("80 80"), "left over"],
  "an empty array, and more": [unhex("90 00"), "left over"],
  "an extension type": [unhex("81 a1 61 d4 05 00"), "extension"],
  "0xc1": [unhex("81 a1 61 c1"), "0xc1"],
  "bad UTF-8": [unhex("81 a1 61 a1 ff"), "UTF-8"],
  "a key that is nil": [unhex("81 c0 01"), "key"],
  "65 containers": [concat(unhex("81 a1 61"), new Uint8Array(63).fill(0x91), unhex("90")), "deeper than 64"],
  "a claim of 2^32 - 1 keys": [unhex("df ff ff ff ff"), "too early"],
};

Deno.test("DecodeStage puts a InvalidMessage in the place of a payload without a message, and goes on", () => {
  for (const [name, [payload, reason]] of Object.entries(MALFORMED)) {
    const decoding = new Decoding().feed(concat(request({ cmd: 1 }), frame(payload), request({ cmd: 2 }))).end();
    const [before, malformed, after, ...rest] = decoding.messages;
    assertEquals((before as Request).cmd, 1, name);
    assert(malformed instanceof InvalidMessage, name);
    const text = (malformed as InvalidMessage).reason;
    assert(text.includes(reason), `${name}: ${text}`);
    assertEquals((after as Request).cmd, 2, name);
    assertEquals(rest, [], name);
  }
});

Deno.test("DecodeStage takes a message at the limits of depth and weight, and no more", () => {
  const deep = (levels: number) => frame(concat(unhex("81 a1 61"), new Uint8Array(levels - 2).fill(0x91), unhex("90")));
  const wide = (values: number) => request({ a: new Array(values).fill(0) });
  const of = (bytes: Uint8Array, limits = {}) => new Decoding(limits).feed(bytes).messages[0];
  const maxMessageBytes = (of(wide(50)) as Request).weightBytes;
  assert(of(deep(64)) instanceof Request);
  assert(of(deep(65)) instanceof InvalidMessage);
  assert(of(wide(50), { maxMessageBytes }) instanceof Request);
  assert(of(wide(51), { maxMessageBytes }) instanceof InvalidMessage);
});

const BAD_FRAMES: Record<string, Uint8Array> = {
  "no newline": unhex("20 21 90 0d"),
  "a header beyond the short lengths": unhex("1f 1e"),
  "a long frame that is too short": unhex("1f 1f 00 00 df de"),
  "a long frame over the limit": unhex("1f 1f 00 10 00 01"),
};

Deno.test("DecodeStage puts out a BadFrame behind what came before it, and reads nothing behind it", () => {
  for (const [name, bad] of Object.entries(BAD_FRAMES)) {
    const bytes = concat(request({ cmd: 1 }), bad, unhex("0a"), request({ cmd: 2 }), unhex("20"));
    for (const chunks of [[bytes], chunksOf(bytes, 1)]) {
      const decoding = new Decoding().feed(...chunks).feed(request({ cmd: 3 })).end();
      const [first, second, ...rest] = decoding.messages;
      assertEquals((first as Request).cmd, 1, name);
      assert(second instanceof BadFrame, name);
      assertEquals(rest, [], name);
      assertEquals(decoding.stage.midFrame, false, name);
    }
  }
});

Deno.test("DecodeStage ends with a Truncated wherever a frame is cut, and nowhere else", () => {
  const one = request({ cmd: 1 });
  const two = concat(one, one);
  for (let end = 0; end <= two.length; end++) {
    const decoding = new Decoding().feed(two.slice(0, end)).end();
    const whole = Math.floor(end / one.length);
    const left = end % one.length;
    const requests = decoding.messages.filter((message) => message instanceof Request);
    assertEquals(requests.length, whole, `${end} bytes`);
    assertEquals(decoding.messages.slice(whole), left === 0 ? [] : [new Truncated(left)], `${end} bytes`);
  }
});

Deno.test("DecodeStage knows whether it is inside a frame, and how many it has read", () => {
  const decoding = new Decoding();
  const seen = () => [decoding.stage.midFrame, decoding.stage.frames];
  assertEquals(seen(), [false, 0]);
  decoding.feed(new Uint8Array(0));
  assertEquals(seen(), [false, 0]);
  decoding.feed(unhex("20"));
  assertEquals(seen(), [true, 0]);
  decoding.feed(unhex("21 90 0a"));
  assertEquals(seen(), [false, 1]);
  decoding.feed(unhex("20 21 90 0a 20 21 c1 0a 20"));
  assertEquals(seen(), [true, 3]);
});

Deno.test("DecodeStage lets an error of its own code through", () => {
  const stage = new DecodeStage(() => {
    throw new TypeError("a mistake in here");
  }, DEFAULT_LIMITS);
  assertThrows(() => stage.transform(request({}), { enqueue() {}, terminate() {} }), TypeError, "a mistake in here");
});

Deno.test("DecodeStage finds a first message that is not a map broken at its first byte, where it is told to", () => {
  const none = ["47", "01", "91", "a1", "c0", "c1", "c4", "d9", "dc 00 01", "dd 00 00 00 01", "dd 01", "e0", "ff"];
  for (const header of ["50 4f", "20 26", "1f 1f 00 01 00 00"]) {
    for (const start of none) {
      const decoding = new Decoding({}, SERVER).feed(...chunksOf(unhex(`${header} ${start}`), 1));
      assert(decoding.messages[0] instanceof BadFrame, start);
      assertEquals(decoding.feed(request({ cmd: 1 })).messages.length, 1, start);
    }
    for (const start of ["", "80", "8f", "90", "de", "df", "dc", "dc 00 00", "dd 00 00 00 00"]) {
      assertEquals(new Decoding({}, SERVER).feed(...chunksOf(unhex(`${header} ${start}`), 1)).messages, [], start);
    }
  }
  assert(new Decoding({}, SERVER).feed(frame(new Uint8Array(0))).messages[0] instanceof BadFrame);
  const later = new Decoding({}, SERVER).feed(request({ cmd: 1 }), frame(unhex("01")), request({ cmd: 2 }));
  assertEquals(later.messages.map((message) => message instanceof InvalidMessage), [false, true, false]);
});
