/**
 * `encode` and `decode` held against `@std/msgpack`: every row of what it does with hard input, by name. Where we differ
 * on purpose, the test says so.
 */

import { difference } from "../support/difference.ts";
import { encode as stdEncodeUntyped } from "jsr:@std/msgpack@^1.0.3";
import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { decode, DecodeError, encode, EncodeError } from "../support/msgpack.ts";
import { ARRAY_WEIGHT, BINARY_WEIGHT, ELEMENT_WEIGHT, MESSAGE_WEIGHT } from "../../codec/message.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { concat, unhex } from "../support/wire.ts";

// deno-lint-ignore no-explicit-any -- std's type leaves out what it refuses, and some of what it takes.
const stdEncode: (value: any) => Uint8Array = stdEncodeUntyped;

// What std does, row by row: decode ---------------------------------------------------------------------------------

/** What cannot be read, by name, and what the error says. */
const REFUSED: Record<string, [bytes: Uint8Array, text: string]> = {
  "no bytes": [unhex(""), "ends too early"],
  "an array without its last value": [unhex("92 01"), "ends too early"],
  "a map without its last value": [unhex("81 a1 61"), "ends too early"],
  "a text cut short": [unhex("a3 61 62"), "ends too early"],
  "a number cut short": [unhex("cd 01"), "ends too early"],
  "a size cut short": [unhex("dd 00 00 00"), "ends too early"],
  "a byte behind the value": [unhex("01 00"), "left over"],
  "two values": [unhex("81 a1 61 01 81 a1 61 01"), "left over"],
  "a newline behind the value": [unhex("81 a1 61 01 0a"), "left over"],
  "an array that claims 2^32 - 1 values": [unhex("dd ff ff ff ff 01 02 03"), "ends too early"],
  "a map that claims 2^32 - 1 keys": [unhex("df ff ff ff ff a1 61 01"), "ends too early"],
  "a text that claims 2^32 - 1 bytes": [unhex("db ff ff ff ff 61"), "ends too early"],
  "binary data that claims 2^32 - 1 bytes": [unhex("c6 ff ff ff ff"), "ends too early"],
  "a key that is nil": [unhex("81 c0 01"), "a key must be"],
  "a key that is a boolean": [unhex("81 c3 01"), "a key must be"],
  "a key that is binary": [unhex("81 c4 01 61 01"), "a key must be"],
  "a key that is an array": [unhex("81 90 01"), "a key must be"],
  "a key that is a map": [unhex("81 80 01"), "a key must be"],
  "a key that is a float32 (std: its decimal text)": [unhex("81 ca 3f c0 00 00 01"), "a key must be"],
  "a key that is a float64 (std: its decimal text)": [unhex("81 cb 7f f8 00 00 00 00 00 00 01"), "a key must be"],
  "text of invalid UTF-8 (std: U+FFFD)": [unhex("a1 ff"), "UTF-8"],
  "text of overlong UTF-8 (std: U+FFFD)": [unhex("a2 c0 80"), "UTF-8"],
  "text of truncated UTF-8 (std: U+FFFD)": [unhex("a2 e6 bc"), "UTF-8"],
  "text with a surrogate (std: U+FFFD)": [unhex("a3 ed a0 80"), "UTF-8"],
  "a key of invalid UTF-8 (std: U+FFFD)": [unhex("82 a1 ff 01 a1 fe 02"), "UTF-8"],
  "ext 8": [unhex("c7 01 05 00"), "extension"],
  "ext 16": [unhex("c8 00 01 05 00"), "extension"],
  "ext 32": [unhex("c9 00 00 00 01 05 00"), "extension"],
  "ext 32 that claims 2^32 - 1 bytes": [unhex("c9 ff ff ff ff"), "extension"],
  "ext cut short": [unhex("c7"), "extension"],
  "fixext 1": [unhex("d4 05 00"), "extension"],
  "fixext 2": [unhex("d5 05 00 00"), "extension"],
  "fixext 4": [unhex("d6 05 00 00 00 00"), "extension"],
  "fixext 8": [unhex("d7 05 00 00 00 00 00 00 00 00"), "extension"],
  "fixext 16": [unhex("d8 05 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"), "extension"],
  "timestamp 32": [unhex("d6 ff 00 00 00 00"), "extension"],
  "timestamp 64": [unhex("d7 ff 00 00 00 00 00 00 00 00"), "extension"],
  "timestamp 96": [unhex("c7 0c ff 00 00 00 00 00 00 00 00 00 00 00 00"), "extension"],
  "0xc1": [unhex("c1"), "0xc1"],
  "depth 1,000 (std: accepted)": [nested(1_000), "nested deeper than 64"],
  "depth 3,000": [nested(3_000), "nested deeper than 64"],
  "depth 10,000": [nested(10_000), "nested deeper than 64"],
  "depth 65,535": [nested(65_535), "nested deeper than 64"],
  "depth 1,000,000": [nested(1_000_000), "nested deeper than 64"],
  "maps, depth 100,000": [unhex("81 a1 61".repeat(100_000) + "80"), "nested deeper than 64"],
};

for (const [name, [bytes, text]] of Object.entries(REFUSED)) {
  Deno.test(`decode() refuses ${name}`, () => {
    assertThrows(() => decode(bytes), DecodeError, text);
  });
}

/** What is read, by name, and as what. */
const READ: Record<string, [bytes: Uint8Array, value: unknown]> = {
  "the keys toString, constructor and then as keys like any other": [
    stdEncode({ toString: 1, constructor: 2, then: 3 }),
    { toString: 1, constructor: 2, then: 3 },
  ],
  "a key that comes twice as its last value": [unhex("82 a1 61 01 a1 61 02"), { a: 2 }],
  'the keys 1 and "1" as one': [unhex("82 01 01 a1 31 02"), { 1: 2 }],
  "integer keys as their decimal text": [unhex("83 07 01 ff 02 d1 80 00 03"), { "7": 1, "-1": 2, "-32768": 3 }],
  "64-bit integer keys as their decimal text (std: refused)": [
    unhex("82 cf 00 00 00 00 00 00 00 01 01 cf ff ff ff ff ff ff ff ff 02"),
    { "1": 1, "18446744073709551615": 2 },
  ],
  "a byte order mark as text (std: dropped)": [unhex("a4 ef bb bf 61"), "\ufeffa"],
  "NUL, CR and LF as text": [unhex("a3 00 0d 0a"), "\0\r\n"],
  "U+FFFD as text": [unhex("a3 ef bf bd"), "\ufffd"],
  "a small uint64 as a number (std: a bigint)": [unhex("cf 00 00 00 00 00 00 00 01"), 1],
  "a small int64 as a number (std: a bigint)": [unhex("d3 ff ff ff ff ff ff ff ff"), -1],
  "2^53 - 1 as a number": [unhex("cf 00 1f ff ff ff ff ff ff"), 2 ** 53 - 1],
  "2^53 as a bigint": [unhex("cf 00 20 00 00 00 00 00 00"), 2n ** 53n],
  "-(2^53 - 1) as a number": [unhex("d3 ff e0 00 00 00 00 00 01"), 1 - 2 ** 53],
  "-2^53 as a bigint": [unhex("d3 ff e0 00 00 00 00 00 00"), -(2n ** 53n)],
  "a float32": [unhex("ca 3d cc cc cd"), Math.fround(0.1)],
  "a float32 NaN": [unhex("ca 7f c0 00 00"), NaN],
  "a signalling NaN": [unhex("ca 7f a0 00 00"), NaN],
  "a float32 -Infinity": [unhex("ca ff 80 00 00"), -Infinity],
  "a float64 Infinity": [unhex("cb 7f f0 00 00 00 00 00 00"), Infinity],
  "a float64 -0": [unhex("cb 80 00 00 00 00 00 00 00"), -0],
  "binary data": [unhex("c4 02 00 ff"), new Uint8Array([0, 255])],
  "sizes that could be shorter": [unhex("df 00 00 00 01 db 00 00 00 01 61 dd 00 00 00 01 d2 00 00 00 01"), { a: [1] }],
  "50,000 empty maps": [concat(unhex("dc c3 50"), new Uint8Array(50_000).fill(0x80)), new Array(50_000).fill({})],
  "65,532 empty texts": [concat(unhex("dc ff fc"), new Uint8Array(65_532).fill(0xa0)), new Array(65_532).fill("")],
};

for (const [name, [bytes, value]] of Object.entries(READ)) {
  Deno.test(`decode() reads ${name}`, () => {
    assertStrictEquals(difference(decode(bytes), value), undefined);
  });
}

Deno.test("decode() reads depth 1,000 where the limit says so", () => {
  let depth = 0;
  for (let value = decode(nested(1_000), { maxDepth: 1_000 }); Array.isArray(value); value = value[0]) depth++;
  assertEquals(depth, 1_000);
});

Deno.test("decode() holds to maxDepth, to the container", () => {
  for (const maxDepth of [1, 2, DEFAULT_LIMITS.maxDepth]) {
    decode(nested(maxDepth), { maxDepth });
    assertThrows(() => decode(nested(maxDepth + 1), { maxDepth }), DecodeError, `nested deeper than ${maxDepth}`);
  }
});

Deno.test("decode() holds to maxMessageBytes, to the byte", () => {
  const bytes = stdEncode([1, new Uint8Array(7)]);
  const weight = MESSAGE_WEIGHT + ARRAY_WEIGHT + 2 * ELEMENT_WEIGHT + BINARY_WEIGHT + 7;
  assertEquals(decode(bytes, { maxMessageBytes: weight }), [1, new Uint8Array(7)]);
  assertThrows(() => decode(bytes, { maxMessageBytes: weight - 1 }), DecodeError, `more than ${weight - 1} bytes`);
});

Deno.test("decode() refuses limits that are none", () => {
  for (const limit of [0, -1, 1.5, NaN, Infinity]) {
    assertThrows(() => decode(unhex("01"), { maxDepth: limit }), RangeError, "maxDepth");
    assertThrows(() => decode(unhex("01"), { maxMessageBytes: limit }), RangeError, "maxMessageBytes");
  }
});

Deno.test("decode() shares no memory with its input, of whatever class it is", () => {
  class Bytes extends Uint8Array {
    override slice(start?: number, end?: number) {
      return this.subarray(start, end); // as Node's Buffer does
    }
  }
  for (const bytes of [unhex("92 c4 02 01 02 a1 61"), new Bytes(unhex("92 c4 02 01 02 a1 61"))]) {
    const value = decode(bytes) as [Uint8Array, string];
    bytes.fill(0xee);
    assertEquals(value, [new Uint8Array([1, 2]), "a"]);
    assertEquals(value[0].buffer.byteLength, 2);
  }
});

// What std does, row by row: encode ---------------------------------------------------------------------------------

Deno.test("encode() writes undefined as nil, and leaves such a field out (std: TypeError)", () => {
  assertEquals(encode(undefined), unhex("c0"));
  assertEquals(encode([undefined, 1]), unhex("92 c0 01"));
  // deno-lint-ignore no-sparse-arrays -- a hole is what this is about
  assertEquals(encode([, 1]), unhex("92 c0 01"));
  assertEquals(encode({ a: undefined }), unhex("80"));
  assertEquals(encode({ a: 1, b: undefined, c: null }), unhex("82 a1 61 01 a1 63 c0"));
});

const UNENCODABLE: Record<string, [value: unknown, text: string]> = {
  "a Date": [new Date(0), "a Date"],
  "a Map": [new Map(), "a Map"],
  "a Set": [new Set(), "a Set"],
  "a class instance": [new (class Account {})(), "an Account"],
  "a function": [() => 1, "a function"],
  "a symbol": [Symbol("s"), "a symbol"],
  "a RegExp": [/a/, "a RegExp"],
  "an Error": [new TypeError("x"), "a TypeError"],
  "a Promise": [Promise.resolve(), "a Promise"],
  "a boxed number": [Object(1), "a Number"],
  "an ArrayBuffer": [new ArrayBuffer(1), "an ArrayBuffer"],
  "a DataView": [new DataView(new ArrayBuffer(1)), "a DataView"],
  "an Int8Array": [new Int8Array(1), "an Int8Array"],
  "a Uint16Array": [new Uint16Array(1), "a Uint16Array"],
  "a method among the fields": [{ toJSON: () => 1 }, "a function"],
  "an instance of a class without a name": [new (class {})(), "an object with a custom prototype"],
  "an object made from another": [Object.create({ a: 1 }), "an object with a custom prototype"],
  "an object that only claims to be a Uint8Array": [Object.create(Uint8Array.prototype), ""],
  "a bigint of 65 bits": [2n ** 64n, "64 bits"],
  "a negative bigint of 65 bits": [-(2n ** 63n) - 1n, "64 bits"],
  "one of these deep inside": [{ a: [{ b: new Date(0) }] }, "a Date"],
};

for (const [name, [value, text]] of Object.entries(UNENCODABLE)) {
  Deno.test(`encode() refuses ${name}, as std does`, () => {
    assertThrows(() => stdEncode(value));
    assertThrows(() => encode(value), EncodeError, text);
  });
}

const hidden = Object.defineProperty({ a: 1, [Symbol("s")]: 2 }, "b", { value: 3, enumerable: false });

const ENCODED: Record<string, unknown> = {
  "symbol keys and fields that are not enumerable: left out": hidden,
  "an array with more properties: left out": Object.assign([1], { more: 2 }),
  "a Map with another prototype: an empty map": Object.setPrototypeOf(new Map([[1, 2]]), Object.prototype),
  "-0: 0": -0,
  "NaN": NaN,
  "Infinity": Infinity,
  "-Infinity": -Infinity,
  "2^32 - 1": 2 ** 32 - 1,
  "2^32: a float64": 2 ** 32,
  "-2^31": -(2 ** 31),
  "-2^31 - 1: a float64": -(2 ** 31) - 1,
  "a small bigint: 9 bytes": 1n,
  "2^64 - 1": 2n ** 64n - 1n,
  "-2^63": -(2n ** 63n),
  "half a surrogate pair: U+FFFD": "\ud800a",
  "two keys of half a surrogate pair: the same key twice": Object.fromEntries([["\ud800", 1], ["\udc00", 2]]),
  "a subclass of Uint8Array": new (class extends Uint8Array {})([1, 2]),
  "a frozen object": Object.freeze({ a: [1] }),
  "an object without a prototype": Object.assign(Object.create(null), { a: 1 }),
  "a proxy of an array": new Proxy([1, 2], {}),
  "a proxy of an object": new Proxy({ a: 1 }, {}),
  "a subclass of Array": new (class extends Array<number> {})(3).fill(1),
  "more than 65,535 bytes": "x".repeat(70_000),
};

for (const [name, value] of Object.entries(ENCODED)) {
  Deno.test(`encode() writes what std writes for ${name}`, () => {
    assertEquals(encode(value), stdEncode(value));
  });
}

Deno.test("encode() refuses a cycle, and too deep a value", () => {
  const map: Record<string, unknown> = {};
  map.self = [map];
  assertThrows(() => encode(map), EncodeError, "nested deeper than 64, or in a cycle");
  const deep = decode(nested(64));
  encode(deep);
  assertThrows(() => encode([deep]), EncodeError, "nested deeper than 64");
});

Deno.test("encode() lets an error of a getter through, and works on", () => {
  const error = new Error("mine");
  const value = {
    a: "x".repeat(100_000),
    get b(): never {
      throw error;
    },
  };
  assertStrictEquals(assertThrows(() => encode(value)), error);
  assertEquals(encode({ a: 1 }), unhex("81 a1 61 01"));
});

Deno.test("encode() writes valid bytes for an array that grows or shrinks meanwhile (std: invalid bytes)", () => {
  const growing: unknown[] = [{
    get a() {
      growing.push(2);
      return 1;
    },
  }];
  assertEquals(encode(growing), unhex("91 81 a1 61 01"));
  const shrinking: unknown[] = [{
    get a() {
      shrinking.length = 1;
      return 1;
    },
  }, 2];
  assertEquals(encode(shrinking), unhex("92 81 a1 61 01 c0"));
});

Deno.test("encode() may be called by a getter of what it encodes", () => {
  const inner = { c: "x".repeat(100_000) };
  const outer = {
    a: 1,
    get b() {
      return encode(inner);
    },
  };
  assertEquals(encode(outer), stdEncode({ a: 1, b: stdEncode(inner) }));
});

Deno.test("encode() returns bytes of their own", () => {
  const bytes = encode({ a: 1 });
  assertEquals(bytes.buffer.byteLength, bytes.length);
  encode({ b: 2 });
  assertEquals(bytes, unhex("81 a1 61 01"));
});

function nested(depth: number): Uint8Array {
  const bytes = new Uint8Array(depth).fill(0x91);
  bytes[depth - 1] = 0x90;
  return bytes;
}
