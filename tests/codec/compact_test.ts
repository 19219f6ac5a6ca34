/** The small codec of browsers against the whole one and std: the same bytes, the same values, the same refusals. */

import { assertEquals, assertThrows } from "@std/assert";
import { decode as stdDecode, encode as stdEncode } from "jsr:@std/msgpack@^1.0.3";
import { decodeCompact, encodeCompact, frameAt, framed } from "../../codec/compact.ts";
import { DecodeError, EncodeError, PayloadTooLargeError } from "../../codec/errors.ts";
import { FrameScanner } from "../../codec/frame.ts";
import { MESSAGES } from "../../codec/message_table.ts";
import { decode, encode } from "../support/msgpack.ts";
import { RESERVED } from "../../client/compact_calls.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { newSeed, Random } from "../support/random.ts";

const EDGES = [0, 1, 31, 32, 127, 128, 255, 256, 65_535, 65_536, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53];

/** Any value that can be sent. */
function anyValue(random: Random, depth = 0): unknown {
  const size = () => [0, 1, 2, 15, 16, 31, 32, 40][random.below(8)];
  switch (random.below(depth < 3 ? 10 : 8)) {
    case 0:
      return [null, true, false][random.below(3)];
    case 1:
      return EDGES[random.below(EDGES.length)] * (random.below(2) === 0 ? 1 : -1);
    case 2:
      return random.next() * 1e6;
    case 3:
      return [NaN, Infinity, -Infinity, -0, 0.5, Number.MIN_VALUE][random.below(6)];
    case 4:
      return "aé✓𝄞".repeat(size()).slice(random.below(2));
    case 5:
      return new Uint8Array(size() * (random.below(20) === 0 ? 2_000 : 1)).fill(random.below(256));
    case 6:
      return [2n ** 64n - 1n, 2n ** 53n, -(2n ** 63n), -(2n ** 53n)][random.below(4)];
    case 7:
      return "x".repeat(EDGES[random.below(10)]);
    case 8:
      return Array.from({ length: size() }, () => anyValue(random, depth + 1));
    default: {
      const keys = Array.from({ length: size() }, (_, index) => index === 0 ? "__proto__" : `key ${index}`);
      const map = {};
      for (const key of keys) {
        Object.defineProperty(map, key, { value: anyValue(random, depth + 1), enumerable: true });
      }
      return map;
    }
  }
}

/** What a reader gets of a value: an integer of a bigint that a number holds exactly is one. */
Deno.test("compact - any value has the bytes of the whole codec, and is read as it reads them", () => {
  const seed = newSeed();
  const random = new Random(seed);
  for (let round = 0; round < 500; round++) {
    const value = anyValue(random);
    const bytes = encodeCompact(value);
    assertEquals(bytes.toHex(), encode(value).toHex(), `seed ${seed}`);
    assertEquals(decodeCompact(bytes), decode(bytes), `seed ${seed}`);
    assertEquals(bytes.toHex(), stdEncode(value).toHex(), `seed ${seed}`);
  }
});

Deno.test("compact - every type byte, alone and with what may follow, is read or refused as by the whole codec", () => {
  const seed = newSeed();
  const random = new Random(seed);
  const outcome = (read: (bytes: Uint8Array) => unknown, bytes: Uint8Array) => {
    try {
      return { value: read(bytes) };
    } catch (error) {
      assertEquals((error as Error).name, "DecodeError", `${bytes.toHex()}, seed ${seed}`);
      return "refused";
    }
  };
  for (let type = 0; type < 256; type++) {
    for (let length = 0; length < 40; length++) {
      const bytes = Uint8Array.from(
        { length: 1 + length },
        (_, at) => at === 0 ? type : random.below(at < 5 ? 4 : 256),
      );
      assertEquals(outcome(decodeCompact, bytes), outcome(decode, bytes), `${bytes.toHex()}, seed ${seed}`);
    }
  }
});

Deno.test("compact - a hole of an array is nil", () => {
  const holes = new Array(3);
  holes[2] = 1;
  assertEquals(encodeCompact({ holes }).toHex(), encode({ holes }).toHex());
  assertEquals(decodeCompact(encodeCompact({ holes })), { holes: [null, null, 1] });
  holes[2 ** 32 - 2] = 1;
  assertThrows(() => encodeCompact(holes, "params", 1_000), PayloadTooLargeError, "far above the limit, which is 1000");
});

Deno.test("compact - a value may have as many bytes as its limit, and no more", () => {
  const bytes = encodeCompact({ text: "x".repeat(991) }, "params", 1_000);
  assertEquals(bytes.length, 1_000);
  const tooLarge = () => encodeCompact({ text: "x".repeat(992) }, "params", 1_000);
  assertThrows(tooLarge, PayloadTooLargeError, "the payload is 1001 bytes, the limit is 1000");
});

Deno.test("compact - a float is no key, also if it is a whole number", () => {
  for (const hex of ["81cb400000000000000001", "81ca4000000001", "8301020202cb69c7a238b080169a14"]) {
    const bytes = Uint8Array.fromHex(hex);
    assertThrows(() => decode(bytes), DecodeError, "a key must be text or an integer");
    assertThrows(() => decodeCompact(bytes), DecodeError, "a key must be text or an integer");
  }
});

Deno.test("compact - std reads what it writes", () => {
  assertEquals(stdDecode(encodeCompact({ a: [1, "x", null], b: { c: 1.5 } })), { a: [1, "x", null], b: { c: 1.5 } });
});

Deno.test("compact - what cannot be sent is named; a field that is undefined is left out", () => {
  const bad: [unknown, string][] = [
    [{ at: [1, new Date()] }, "params.at[1]: a Date cannot be sent"],
    [{ f() {} }, "params.f: a function cannot be sent"],
    [{ n: 2n ** 64n }, "params.n: an integer of more than 64 bits cannot be sent"],
    [new Map(), "params: a Map cannot be sent"],
  ];
  for (const [value, text] of bad) assertThrows(() => encodeCompact(value, "params"), EncodeError, text);
  const cycle: unknown[] = [];
  cycle.push(cycle);
  assertThrows(() => encodeCompact(cycle), EncodeError, "cycle");
  assertEquals(decodeCompact(encodeCompact({ a: undefined, b: [undefined] })), { b: [null] });
});

Deno.test("compact - nesting ends where that of the whole codec does", () => {
  const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  const most = JSON.parse(nested(DEFAULT_LIMITS.maxDepth));
  assertEquals(decodeCompact(encodeCompact(most)), most);
  const bytes = new Uint8Array(DEFAULT_LIMITS.maxDepth + 2).fill(0x91);
  assertThrows(() => decodeCompact(bytes), DecodeError, "nested");
  assertThrows(() => encodeCompact(JSON.parse(nested(DEFAULT_LIMITS.maxDepth + 1))), EncodeError, "nested");
});

Deno.test("compact - frames are those of the whole codec, whatever has come of them", () => {
  const scanner = new FrameScanner(DEFAULT_LIMITS.maxPayloadBytes);
  for (const size of [0, 1, 255, 256, 8_191, 57_310, 57_311, 70_000, DEFAULT_LIMITS.maxPayloadBytes]) {
    const payload = new Uint8Array(size).fill(0x0a);
    const frame = framed(payload);
    assertEquals(scanner.scan(frame, 0, frame.length), frame.length);
    assertEquals(frameAt(frame, DEFAULT_LIMITS.maxPayloadBytes), payload);
    for (const part of [0, 1, 2, 5, 6, frame.length - 1]) {
      if (part < frame.length) {
        assertEquals(frameAt(frame.subarray(0, part), DEFAULT_LIMITS.maxPayloadBytes), undefined);
      }
    }
    if (size > 0) assertThrows(() => frameAt(frame, size - 1), DecodeError);
    frame[frame.length - 1] = 0x0d;
    assertThrows(() => frameAt(frame, DEFAULT_LIMITS.maxPayloadBytes), DecodeError);
  }
  const long = framed(new Uint8Array(57_311));
  assertThrows(() => frameAt(long.with(5, 0), 1e9), DecodeError); // it belongs in a short one
  assertThrows(() => frameAt(new Uint8Array([0xff, 0xff]), 1e9), DecodeError);
});

Deno.test("compact - the names that no parameter has are those of the table", () => {
  assertEquals([...RESERVED, "$items"].toSorted(), Object.keys(MESSAGES.request.fields).toSorted());
});
