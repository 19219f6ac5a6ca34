/**
 * The encode stage by itself: batches in, frames out, one chunk a batch; what becomes of a message that cannot be
 * written; and that nothing of one batch can ever show up in another.
 */

import { encode as std } from "jsr:@std/msgpack@^1.0.3";
import { assert, assertEquals, assertFalse, assertStrictEquals, assertThrows } from "@std/assert";
import { EncodeStage, type Encoding as EncodingOf } from "../../codec/encode.ts";
import { PayloadTooLargeError } from "../../codec/errors.ts";
import { decode, DecodeError, encode, EncodeError } from "../support/msgpack.ts";
import { ARRAY_WEIGHT, ELEMENT_WEIGHT, FIELD_WEIGHT, MAP_WEIGHT, MESSAGE_WEIGHT } from "../../codec/message.ts";
import { reuseSlab } from "../../codec/frame.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { concat, frame, hex, messages } from "../support/wire.ts";

type Value = Record<string, unknown>;

const stdEncode: (value: Value) => Uint8Array = std;

/** A stage for plain values, and what it has put out. */
class Encoding {
  readonly chunks: Uint8Array[] = [];
  readonly frameBytes: number[] = [];
  readonly output = { enqueue: (chunk: Uint8Array) => void this.chunks.push(chunk), terminate() {} };
  readonly refused: { value: Value; error: unknown }[] = [];
  readonly #stage: EncodeStage<Value>;

  constructor(options: Partial<EncodingOf<Value>> = {}) {
    const encoding: EncodingOf<Value> = {
      writeMessage: (writer, value) => writer.writeValue(value),
      maxPayloadBytes: () => Infinity,
      onUnwritable: (value, error) => {
        this.refused.push({ value, error });
        return { err: "REFUSED" };
      },
      ...options,
    };
    this.#stage = new EncodeStage(encoding, { add: (bytes) => void this.frameBytes.push(bytes) });
  }

  /** Writes messages that leave together. */
  write(...batch: Value[]): this {
    this.add(...batch);
    this.#stage.flush(this.output);
    return this;
  }

  /** Writes messages, and leaves it to the stage when they leave. */
  add(...batch: Value[]): this {
    for (const message of batch) this.#stage.transform(message, this.output);
    return this;
  }

  get bytes(): string {
    return hex(concat(...this.chunks));
  }
}

/** A value whose payload has exactly so many bytes. */
function sized(payloadBytes: number): Value {
  const value = { t: "x".repeat(payloadBytes - 8) };
  const surplus = encode(value).length - payloadBytes;
  return { t: "x".repeat(payloadBytes - 8 - surplus) };
}

Deno.test("EncodeStage puts out one chunk for a batch: its frames one behind another", () => {
  const encoding = new Encoding().write({ a: 1 }, { b: "\n" }, {}).write({ c: [] });
  assertEquals(encoding.chunks.map(hex), [
    "20 24 81 a1 61 01 0a 20 25 81 a1 62 a1 0a 0a 20 21 80 0a",
    "20 24 81 a1 63 90 0a",
  ]);
  assertEquals(encoding.frameBytes, [7, 8, 4, 7]);
});

Deno.test("EncodeStage lets frames leave together at the end of the turn, each as its message was when it was given", async () => {
  const reused = { n: 0, bytes: new Uint8Array(2) };
  const [here, there] = [new Encoding(), new Encoding()];
  for (let n = 1; n <= 3; n++) {
    reused.n = n;
    reused.bytes.fill(n);
    here.add(reused);
    there.add({ other: n }, reused); // so that the frames of one lie between those of the other
  }
  assertEquals([here.chunks.length, there.chunks.length], [0, 0]);
  await new Promise(setImmediate);
  assertEquals([here.chunks.length, there.chunks.length], [1, 1]);
  const given = [1, 2, 3].map((n) => ({ n, bytes: new Uint8Array([n, n]) }));
  assertEquals(messages(here.chunks[0]), given);
  assertEquals(messages(there.chunks[0]), given.flatMap((value) => [{ other: value.n }, value]));
});

Deno.test("EncodeStage lets the items of a stream leave together, however many microtasks lie between them", async () => {
  async function* items() {
    for (let n = 0; n < 100; n++) yield { n };
  }
  const encoding = new Encoding();
  for await (const item of items()) encoding.add(item);
  assertEquals(encoding.chunks.length, 0);
  await new Promise(setImmediate);
  assertEquals(encoding.chunks.map((chunk) => messages(chunk).length), [100]);
});

Deno.test("EncodeStage writes long and short frames in any order, byte for byte", () => {
  const sizes = [10, 57_310, 57_311, 57_312, 20, 200_000, 57_311, 57_310, 65_530, 3, 3];
  for (const size of sizes) {
    for (const next of sizes) {
      const values = [size, next].map((bytes) => ({ b: new Uint8Array(bytes).fill(bytes) }));
      const { bytes } = new Encoding().write(...values);
      assertEquals(bytes, hex(concat(...values.map((value) => frame(stdEncode(value))))), `${size}, then ${next}`);
    }
  }
});

Deno.test("EncodeStage uses the slab of a large frame again once it is given back, and no other", () => {
  const large = (fill: number, bytes = 100_000) => ({ b: new Uint8Array(bytes).fill(fill) });
  const chunkOf = (value: Value) => new Encoding().write(value).chunks[0];
  const first = chunkOf(large(1));
  assertFalse(chunkOf(large(2)).buffer === first.buffer, "nobody has given it back");
  assertEquals(messages(first), [large(1)]);
  reuseSlab(first);
  assertFalse(chunkOf({ small: 1 }).buffer === first.buffer, "small frames share another");
  assertFalse(chunkOf(large(3, 300_000)).buffer === first.buffer, "it is too small");
  const second = chunkOf(large(4));
  assertStrictEquals(second.buffer, first.buffer);
  assertEquals(messages(second), [large(4)]);
  assertFalse(chunkOf(large(5)).buffer === first.buffer, "it was given back once");
  const shared = chunkOf({ small: 1 });
  reuseSlab(shared);
  for (const bytes of [65_536, 60_000, 10, 60_000]) chunkOf(large(6, bytes));
  assertEquals(messages(shared), [{ small: 1 }], "others may be in it, and it is not written again");
});

/** Values of which six fill a slab that frames share. */
const TENTHS = Array.from({ length: 30 }, (_, index) => ({ b: new Uint8Array(10_000).fill(index) }));

Deno.test("EncodeStage uses a shared slab again once all of it is given back", () => {
  const buffers = new Set<ArrayBufferLike>();
  for (const value of TENTHS) {
    const { chunks } = new Encoding().write(value, { after: 1 });
    assertEquals(messages(concat(...chunks)), [value, { after: 1 }]);
    for (const chunk of chunks) buffers.add(chunk.buffer);
    chunks.forEach(reuseSlab);
  }
  assert(buffers.size <= 4, `${buffers.size} slabs for five`); // two in turns, and what other tests have left
});

Deno.test("EncodeStage writes nothing into a slab of which one frame is still to be sent", () => {
  const kept: { chunk: Uint8Array; value: Value }[] = [];
  for (const [index, value] of TENTHS.entries()) {
    const { chunks } = new Encoding().write(value);
    if (index % 7 === 3) kept.push({ chunk: chunks[0], value });
    else chunks.forEach(reuseSlab);
    for (const { chunk, value } of kept) assertEquals(messages(chunk), [value]);
  }
});

Deno.test("EncodeStage writes nothing into a slab of another writer: a getter that sends something has its own", () => {
  const send = (...values: Value[]) => new Encoding().write(...values).chunks.forEach(reuseSlab);
  for (let message = 0; message < 10; message++) {
    const { chunks } = new Encoding().write({
      before: "outer",
      get first() {
        send({ inner: "first" });
        return new Uint8Array(5_000).fill(message);
      },
      get second() {
        send(...TENTHS.slice(0, 13)); // two slabs, so wherever the message is, this would be written over it
        return message;
      },
    });
    assertEquals(messages(concat(...chunks)), [
      { before: "outer", first: new Uint8Array(5_000).fill(message), second: message },
    ]);
    chunks.forEach(reuseSlab);
  }
});

Deno.test("EncodeStage copies nothing of much that lies apart: it leaves in several chunks, in its order", () => {
  const encoding = new Encoding();
  const values = Array.from({ length: 40 }, (_, index) => ({ t: `${index}`.repeat(2_000) }));
  encoding.write(...values);
  assertEquals(messages(concat(...encoding.chunks)), values);
  assert(encoding.chunks.length > 1 && encoding.chunks.length < 10, `${encoding.chunks.length} chunks`);
});

Deno.test("EncodeStage puts out nothing for nothing", () => {
  const encoding = new Encoding({ onUnwritable: () => undefined }).write().write({ a: Symbol() });
  assertEquals(encoding.chunks, []);
  assertEquals(encoding.frameBytes, []);
});

Deno.test("EncodeStage takes a long frame exactly where a short one does not do", () => {
  for (const size of [57_309, 57_310, 57_311, 57_312, 65_535, 65_536, 1_000_000]) {
    const value = sized(size);
    assertEquals(encode(value).length, size);
    const encoding = new Encoding().write({ before: 1 }, value, { behind: 2 });
    const expected = concat(frame(encode({ before: 1 })), frame(encode(value)), frame(encode({ behind: 2 })));
    assert(encoding.bytes === hex(expected), `a payload of ${size} bytes`);
  }
});

Deno.test("EncodeStage leaves no byte of a message that cannot be written, and writes what stands in for it", () => {
  const bad = { a: "written before the mistake shows", b: () => {} };
  const encoding = new Encoding().write({ a: 1 }, bad, { a: 2 });
  assertEquals(messages(concat(...encoding.chunks)), [{ a: 1 }, { err: "REFUSED" }, { a: 2 }]);
  assertEquals(encoding.chunks.length, 1);
  assertEquals(encoding.refused.map(({ value }) => value), [bad]);
  assert(encoding.refused[0].error instanceof EncodeError);
});

Deno.test("EncodeStage lets a message go for which nothing stands in", () => {
  const encoding = new Encoding({ onUnwritable: () => undefined }).write({ a: 1 }, { b: Symbol() }, { a: 2 });
  assertEquals(messages(concat(...encoding.chunks)), [{ a: 1 }, { a: 2 }]);
});

Deno.test("EncodeStage takes a payload at the limit, refuses one beyond it, and asks for the limit each time", () => {
  const limits = [100, 100, 99, 1_000_000, 999_999];
  const encoding = new Encoding({ maxPayloadBytes: (value) => "err" in value ? Infinity : limits.shift()! });
  encoding.write(sized(100), sized(101), sized(100), sized(1_000_000), sized(1_000_000));
  assertEquals(messages(concat(...encoding.chunks)), [
    sized(100),
    { err: "REFUSED" },
    { err: "REFUSED" },
    sized(1_000_000),
    { err: "REFUSED" },
  ]);
  const errors = encoding.refused.map(({ error }) => error as PayloadTooLargeError);
  assert(errors.every((error) => error instanceof PayloadTooLargeError));
  assertEquals(errors.map(({ payloadBytes, limitBytes }) => [payloadBytes, limitBytes]), [
    [101, 100],
    [100, 99],
    [1_000_000, 999_999],
  ]);
});

Deno.test("EncodeStage puts out chunks that no later batch changes", () => {
  const encoding = new Encoding();
  const before: string[] = [];
  for (let index = 0; index < 5_000; index++) {
    encoding.write({ index, text: "x".repeat(index % 50) });
    before.push(hex(encoding.chunks[index]));
  }
  assertEquals(encoding.chunks.map(hex), before);
});

Deno.test("EncodeStage lets nothing of a message that failed into another, of this stage or another", () => {
  const failing = new Encoding({
    onUnwritable() {
      throw new Error("a mistake of whoever made the stage");
    },
  });
  assertThrows(() => failing.write({ b: Symbol(), secret: 1 }), Error, "a mistake of whoever made the stage");
  assertEquals(messages(concat(...new Encoding().write({ a: 1 }).chunks)), [{ a: 1 }]);
  assertEquals(messages(concat(...failing.write({ a: 2 }).chunks)), [{ a: 2 }]);
});

Deno.test("EncodeStage keeps its batch to itself where another stage writes in the middle of it", () => {
  // As where the hook for errors, or a getter in a reply, makes a call of its own.
  const inner = new Encoding();
  const outer = new Encoding({
    onUnwritable() {
      inner.write({ inner: 1 });
      return { err: "REFUSED" };
    },
  });
  const value = {
    get a() {
      inner.write({ inner: 2 });
      return 1;
    },
  };
  outer.write({ outer: 1 }, { b: Symbol() }, value, { outer: 2 });
  assertEquals(messages(concat(...inner.chunks)), [{ inner: 1 }, { inner: 2 }]);
  assertEquals(messages(concat(...outer.chunks)), [{ outer: 1 }, { err: "REFUSED" }, { a: 1 }, { outer: 2 }]);
});

Deno.test("encode gives up a value that would fill the memory, and goes on with the next message", () => {
  let shared: unknown = ["x".repeat(10_000)];
  for (let level = 0; level < 40; level++) shared = [shared, shared]; // 2^40 texts, in 41 arrays
  const refused: unknown[] = [];
  const chunks: Uint8Array[] = [];
  const stage = new EncodeStage<unknown>({
    writeMessage: (writer, message) => writer.writeValue(message),
    maxPayloadBytes: () => 1_000,
    onUnwritable: (_message, error) => {
      refused.push(error);
      return undefined;
    },
  });
  const output = { enqueue: (chunk: Uint8Array) => void chunks.push(chunk), terminate: () => {} };
  stage.transform(shared, output);
  stage.transform({}, output);
  stage.flush(output);
  const [error] = refused;
  assert(error instanceof PayloadTooLargeError, String(error));
  assertEquals((error as Error).message, "the payload is far above the limit, which is 1000");
  assertEquals(chunks.map((chunk) => [...chunk]), [[0x20, 0x21, 0x80, 0x0a]]);
});

Deno.test("encode refuses a message that weighs more than a reader takes, to the value, and goes on with the next", () => {
  const around = MESSAGE_WEIGHT + MAP_WEIGHT + 2 * FIELD_WEIGHT + ARRAY_WEIGHT;
  const most = Math.floor((DEFAULT_LIMITS.maxMessageBytes - around) / ELEMENT_WEIGHT);
  const largest = { a: new Array(most).fill(1), b: 2 };
  const encoding = new Encoding({ maxPayloadBytes: () => DEFAULT_LIMITS.maxPayloadBytes }).write(largest, {
    a: [...largest.a, 1],
    b: 2,
  }, { c: { a: undefined } });
  assertEquals(messages(concat(...encoding.chunks)), [largest, { err: "REFUSED" }, { c: {} }]);
  assertEquals(decode(encode(largest)), largest);
  const [{ error }] = encoding.refused;
  assert(
    error instanceof EncodeError &&
      error.message === "Cannot encode a message that takes more than 8388608 bytes of memory",
  );
  assertThrows(() => decode(encode({ a: [...largest.a, 1], b: 2 })), DecodeError, "more than 8388608 bytes");
});
