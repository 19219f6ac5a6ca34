/**
 * `encode` and `decode` held against `@std/msgpack`: every row of what it does with hard input, by name; then random
 * values, and random damage to their bytes. Where we differ on purpose, the test says so.
 */

import { decode as stdDecodeUntyped, encode as stdEncodeUntyped } from "jsr:@std/msgpack@^1.0.3";
import { assert, assertEquals, assertNotEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { decode, DecodeError, encode, EncodeError } from "../../codec/msgpack.ts";
import { ARRAY_WEIGHT, BINARY_WEIGHT, ELEMENT_WEIGHT, MESSAGE_WEIGHT } from "../../codec/message.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";

// deno-lint-ignore no-explicit-any -- std's type leaves out what it refuses, and some of what it takes.
const stdEncode: (value: any) => Uint8Array = stdEncodeUntyped;
const stdDecode: (bytes: Uint8Array) => unknown = stdDecodeUntyped;

const VALUES = 200_000;
const DAMAGED = 50_000;

/** Other each time; put the printed one here to see a failure again. */
const SEED = crypto.getRandomValues(new Uint32Array(1))[0];

// What std does, row by row: decode ---------------------------------------------------------------------------------

/** What cannot be read, by name, and what the error says. */
const REFUSED: Record<string, [bytes: Uint8Array, text: string]> = {
  "no bytes": [hex(""), "ends too early"],
  "an array without its last value": [hex("92 01"), "ends too early"],
  "a map without its last value": [hex("81 a1 61"), "ends too early"],
  "a text cut short": [hex("a3 61 62"), "ends too early"],
  "a number cut short": [hex("cd 01"), "ends too early"],
  "a size cut short": [hex("dd 00 00 00"), "ends too early"],
  "a byte behind the value": [hex("01 00"), "left over"],
  "two values": [hex("81 a1 61 01 81 a1 61 01"), "left over"],
  "a newline behind the value": [hex("81 a1 61 01 0a"), "left over"],
  "an array that claims 2^32 - 1 values": [hex("dd ff ff ff ff 01 02 03"), "ends too early"],
  "a map that claims 2^32 - 1 keys": [hex("df ff ff ff ff a1 61 01"), "ends too early"],
  "a text that claims 2^32 - 1 bytes": [hex("db ff ff ff ff 61"), "ends too early"],
  "binary data that claims 2^32 - 1 bytes": [hex("c6 ff ff ff ff"), "ends too early"],
  "a key that is nil": [hex("81 c0 01"), "a key must be"],
  "a key that is a boolean": [hex("81 c3 01"), "a key must be"],
  "a key that is binary": [hex("81 c4 01 61 01"), "a key must be"],
  "a key that is an array": [hex("81 90 01"), "a key must be"],
  "a key that is a map": [hex("81 80 01"), "a key must be"],
  "a key that is a float32 (std: its decimal text)": [hex("81 ca 3f c0 00 00 01"), "a key must be"],
  "a key that is a float64 (std: its decimal text)": [hex("81 cb 7f f8 00 00 00 00 00 00 01"), "a key must be"],
  "text of invalid UTF-8 (std: U+FFFD)": [hex("a1 ff"), "UTF-8"],
  "text of overlong UTF-8 (std: U+FFFD)": [hex("a2 c0 80"), "UTF-8"],
  "text of truncated UTF-8 (std: U+FFFD)": [hex("a2 e6 bc"), "UTF-8"],
  "text with a surrogate (std: U+FFFD)": [hex("a3 ed a0 80"), "UTF-8"],
  "a key of invalid UTF-8 (std: U+FFFD)": [hex("82 a1 ff 01 a1 fe 02"), "UTF-8"],
  "ext 8": [hex("c7 01 05 00"), "extension"],
  "ext 16": [hex("c8 00 01 05 00"), "extension"],
  "ext 32": [hex("c9 00 00 00 01 05 00"), "extension"],
  "ext 32 that claims 2^32 - 1 bytes": [hex("c9 ff ff ff ff"), "extension"],
  "ext cut short": [hex("c7"), "extension"],
  "fixext 1": [hex("d4 05 00"), "extension"],
  "fixext 2": [hex("d5 05 00 00"), "extension"],
  "fixext 4": [hex("d6 05 00 00 00 00"), "extension"],
  "fixext 8": [hex("d7 05 00 00 00 00 00 00 00 00"), "extension"],
  "fixext 16": [hex("d8 05 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"), "extension"],
  "timestamp 32": [hex("d6 ff 00 00 00 00"), "extension"],
  "timestamp 64": [hex("d7 ff 00 00 00 00 00 00 00 00"), "extension"],
  "timestamp 96": [hex("c7 0c ff 00 00 00 00 00 00 00 00 00 00 00 00"), "extension"],
  "0xc1": [hex("c1"), "0xc1"],
  "depth 1,000 (std: accepted)": [nested(1_000), "nested deeper than 64"],
  "depth 3,000": [nested(3_000), "nested deeper than 64"],
  "depth 10,000": [nested(10_000), "nested deeper than 64"],
  "depth 65,535": [nested(65_535), "nested deeper than 64"],
  "depth 1,000,000": [nested(1_000_000), "nested deeper than 64"],
  "maps, depth 100,000": [hex("81 a1 61".repeat(100_000) + "80"), "nested deeper than 64"],
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
  "a key that comes twice as its last value": [hex("82 a1 61 01 a1 61 02"), { a: 2 }],
  'the keys 1 and "1" as one': [hex("82 01 01 a1 31 02"), { 1: 2 }],
  "integer keys as their decimal text": [hex("83 07 01 ff 02 d1 80 00 03"), { "7": 1, "-1": 2, "-32768": 3 }],
  "64-bit integer keys as their decimal text (std: refused)": [
    hex("82 cf 00 00 00 00 00 00 00 01 01 cf ff ff ff ff ff ff ff ff 02"),
    { "1": 1, "18446744073709551615": 2 },
  ],
  "a byte order mark as text (std: dropped)": [hex("a4 ef bb bf 61"), "\ufeffa"],
  "NUL, CR and LF as text": [hex("a3 00 0d 0a"), "\0\r\n"],
  "U+FFFD as text": [hex("a3 ef bf bd"), "\ufffd"],
  "a small uint64 as a number (std: a bigint)": [hex("cf 00 00 00 00 00 00 00 01"), 1],
  "a small int64 as a number (std: a bigint)": [hex("d3 ff ff ff ff ff ff ff ff"), -1],
  "2^53 - 1 as a number": [hex("cf 00 1f ff ff ff ff ff ff"), 2 ** 53 - 1],
  "2^53 as a bigint": [hex("cf 00 20 00 00 00 00 00 00"), 2n ** 53n],
  "-(2^53 - 1) as a number": [hex("d3 ff e0 00 00 00 00 00 01"), 1 - 2 ** 53],
  "-2^53 as a bigint": [hex("d3 ff e0 00 00 00 00 00 00"), -(2n ** 53n)],
  "a float32": [hex("ca 3d cc cc cd"), Math.fround(0.1)],
  "a float32 NaN": [hex("ca 7f c0 00 00"), NaN],
  "a signalling NaN": [hex("ca 7f a0 00 00"), NaN],
  "a float32 -Infinity": [hex("ca ff 80 00 00"), -Infinity],
  "a float64 Infinity": [hex("cb 7f f0 00 00 00 00 00 00"), Infinity],
  "a float64 -0": [hex("cb 80 00 00 00 00 00 00 00"), -0],
  "binary data": [hex("c4 02 00 ff"), new Uint8Array([0, 255])],
  "sizes that could be shorter": [hex("df 00 00 00 01 db 00 00 00 01 61 dd 00 00 00 01 d2 00 00 00 01"), { a: [1] }],
  "50,000 empty maps": [concat(hex("dc c3 50"), new Uint8Array(50_000).fill(0x80)), new Array(50_000).fill({})],
  "65,532 empty texts": [concat(hex("dc ff fc"), new Uint8Array(65_532).fill(0xa0)), new Array(65_532).fill("")],
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
    assertThrows(() => decode(hex("01"), { maxDepth: limit }), RangeError, "maxDepth");
    assertThrows(() => decode(hex("01"), { maxMessageBytes: limit }), RangeError, "maxMessageBytes");
  }
});

Deno.test("decode() shares no memory with its input, of whatever class it is", () => {
  class Bytes extends Uint8Array {
    override slice(start?: number, end?: number) {
      return this.subarray(start, end); // as Node's Buffer does
    }
  }
  for (const bytes of [hex("92 c4 02 01 02 a1 61"), new Bytes(hex("92 c4 02 01 02 a1 61"))]) {
    const value = decode(bytes) as [Uint8Array, string];
    bytes.fill(0xee);
    assertEquals(value, [new Uint8Array([1, 2]), "a"]);
    assertEquals(value[0].buffer.byteLength, 2);
  }
});

// What std does, row by row: encode ---------------------------------------------------------------------------------

Deno.test("encode() writes undefined as nil, and leaves such a field out (std: TypeError)", () => {
  assertEquals(encode(undefined), hex("c0"));
  assertEquals(encode([undefined, 1]), hex("92 c0 01"));
  // deno-lint-ignore no-sparse-arrays -- a hole is what this is about
  assertEquals(encode([, 1]), hex("92 c0 01"));
  assertEquals(encode({ a: undefined }), hex("80"));
  assertEquals(encode({ a: 1, b: undefined, c: null }), hex("82 a1 61 01 a1 63 c0"));
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
  assertEquals(encode({ a: 1 }), hex("81 a1 61 01"));
});

Deno.test("encode() writes valid bytes for an array that grows or shrinks meanwhile (std: invalid bytes)", () => {
  const growing: unknown[] = [{
    get a() {
      growing.push(2);
      return 1;
    },
  }];
  assertEquals(encode(growing), hex("91 81 a1 61 01"));
  const shrinking: unknown[] = [{
    get a() {
      shrinking.length = 1;
      return 1;
    },
  }, 2];
  assertEquals(encode(shrinking), hex("92 81 a1 61 01 c0"));
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
  assertEquals(bytes, hex("81 a1 61 01"));
});

// Random values -----------------------------------------------------------------------------------------------------

Deno.test(`encode() and decode() agree with std on ${VALUES} random values, seed ${SEED}`, () => {
  const random = generator(SEED);
  let bytes = 0;
  for (let count = 0; count < VALUES; count++) {
    const value = anyValue(random, 0);
    assertStrictEquals(disagreement(value, encode, decodeMany), undefined, `value ${count} of seed ${SEED}`);
    bytes += encode(value).length;
  }
  assert(bytes > 10 * VALUES, `only ${bytes} bytes: these values are too simple to show anything`);
});

Deno.test("the comparison notices an encoder that drops a byte, and a decoder that changes a value", () => {
  const random = generator(SEED);
  for (let count = 0; count < 1_000; count++) {
    const value = { a: anyValue(random, 1) };
    const dropping = (value: unknown) => encode(value).subarray(0, -1);
    assertNotEquals(disagreement(value, dropping, decode), undefined);
    const changing = (bytes: Uint8Array) => ({ ...decode(bytes) as { a: unknown }, a: Symbol("other") });
    assertNotEquals(disagreement(value, encode, changing), undefined);
  }
  assertNotEquals(difference(0, -0), undefined);
  assertNotEquals(difference({ a: 1, b: undefined }, { a: 1 }), undefined);
  assertNotEquals(difference([1], [1, 2]), undefined);
  assertNotEquals(difference("\ufeffa", "a"), undefined);
  assertNotEquals(difference(new Uint8Array([1]), [1]), undefined);
  assertNotEquals(difference(Object.create({ a: 1 }), {}), undefined);
});

/** The differences from std in which we refuse what std accepts. */
const STRICTER = /^(text is not valid UTF-8|a key must be text or an integer|nested deeper than 64)$/;

/** All that a refusal may say: nothing of what the peer sent. */
const REFUSALS =
  /^(the message ends too early|bytes are left over|extension types are not accepted|0xc1 is not a value|text is not valid UTF-8|a key must be text or an integer|nested deeper than 64|more than 1000000 values)$/;

Deno.test(`decode() agrees with std on ${DAMAGED} random values with damage, seed ${SEED}`, () => {
  const random = generator(SEED);
  let survived = 0;
  for (let count = 0; count < DAMAGED; count++) {
    const value = anyValue(random, 0);
    const bytes = damaged(random, encode(value));
    const ours = attempt(() => decodeMany(bytes));
    const theirs = attempt(() => stdDecode(bytes));
    const where = `value ${count} of seed ${SEED}, ${toHex(bytes)}`;
    if ("error" in ours) {
      const { name, message } = ours.error as Error;
      const allowed = "value" in theirs ? STRICTER : REFUSALS;
      assert(name === "DecodeError" && allowed.test(message), `${ours.error}: ${where}`);
    } else if ("error" in theirs) {
      // Only a 64-bit integer for a key is accepted here and not there.
      assert(String(theirs.error).includes("The type of key is invalid"), where);
    } else {
      assertStrictEquals(difference(comparable(ours.value), comparable(theirs.value)), undefined, where);
      survived++;
    }
  }
  assert(survived > DAMAGED / 10, `only ${survived} of ${DAMAGED} could be read`);
});

/** The largest of the random values hold more than the default limit allows. */
function decodeMany(bytes: Uint8Array): unknown {
  return decode(bytes, { maxMessageBytes: 2 ** 31 - 1 });
}

/** What is wrong with an encoder and a decoder, shown by one value; nothing if nothing is. */
function disagreement(
  value: unknown,
  encode: (value: unknown) => Uint8Array,
  decode: (bytes: Uint8Array) => unknown,
): string | undefined {
  const theirs = stdEncode(withoutUndefined(value));
  const ours = attempt(() => encode(value));
  if ("error" in ours) return `${ours.error} for ${toHex(theirs)}`;
  const bytes = difference(ours.value, theirs);
  if (bytes !== undefined) return `bytes ${bytes}: ${toHex(ours.value)}, std ${toHex(theirs)}`;
  const back = attempt(() => decode(ours.value));
  if ("error" in back) return `${back.error} for ${toHex(theirs)}`;
  const changed = difference(back.value, travelled(value));
  if (changed !== undefined) return `came back ${changed}: ${toHex(theirs)}`;
  const other = difference(comparable(back.value), comparable(stdDecode(theirs)));
  if (other !== undefined) return `std decodes ${other}: ${toHex(theirs)}`;
}

/** Where two values differ, in anything: the sign of 0, the order of keys, a prototype. */
function difference(one: unknown, other: unknown, path = "$"): string | undefined {
  if (Object.is(one, other)) return;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return path;
  if (Object.getPrototypeOf(one) !== Object.getPrototypeOf(other)) return `${path}, its prototype`;
  if (one instanceof Uint8Array && other instanceof Uint8Array) {
    if (one.length !== other.length) return `${path}, its length`;
    const index = one.findIndex((byte, index) => byte !== other[index]);
    return index < 0 ? undefined : `${path}, byte ${index}`;
  }
  const keys = Object.keys(one);
  const others = Object.keys(other);
  if (keys.length !== others.length) return `${path}, its size`;
  for (let index = 0; index < keys.length; index++) {
    const key = keys[index];
    if (key !== others[index]) return `${path}, its keys`;
    const found = difference(Reflect.get(one, key), Reflect.get(other, key), `${path}.${key}`);
    if (found !== undefined) return found;
  }
}

/** A value as it is given to std, which knows no `undefined`. */
function withoutUndefined(value: unknown): unknown {
  return mapped(value, (leaf) => leaf === undefined ? null : leaf, (key) => key);
}

/** A value as it comes back: -0 is 0, half a surrogate pair is U+FFFD, a small bigint is a number. */
function travelled(value: unknown): unknown {
  return mapped(value, (leaf) => {
    if (leaf === undefined) return null;
    if (typeof leaf === "string") return leaf.toWellFormed();
    if (typeof leaf === "bigint" && Number.isSafeInteger(Number(leaf))) return Number(leaf);
    return Object.is(leaf, -0) ? 0 : leaf;
  }, (key) => key.toWellFormed());
}

/** What a value that was decoded here and one that std decoded have in common: std drops a mark and keeps a bigint. */
function comparable(value: unknown): unknown {
  return mapped(value, (leaf) => {
    if (typeof leaf === "string") return leaf.replace(/^\ufeff+/, "");
    return typeof leaf === "bigint" && Number.isSafeInteger(Number(leaf)) ? Number(leaf) : leaf;
  }, (key) => key.replace(/^\ufeff+/, ""));
}

/** A copy of a value, with its leaves and keys changed and without the fields that are `undefined`. */
function mapped(value: unknown, leaf: (leaf: unknown) => unknown, key: (key: string) => string): unknown {
  if (Array.isArray(value)) return Array.from(value, (item) => mapped(item, leaf, key));
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return leaf(value);
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [key(name), mapped(field, leaf, key)]));
}

// What the random values are made of --------------------------------------------------------------------------------

/** A whole number from 0 to below `end`. */
type Random = (end: number) => number;

/** mulberry32: the same numbers for the same seed. */
function generator(seed: number): Random {
  return (end) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * end);
  };
}

const around = (number: number) => [number - 1, number, number + 1, -number - 1, -number, 1 - number];

const NUMBERS = [
  ...[0, 32, 128, 256, 2 ** 15, 2 ** 16, 2 ** 31, 2 ** 32, 2 ** 53].flatMap(around),
  ...[-0, NaN, Infinity, -Infinity, 0.1, -0.5, 1e300, 5e-324, Number.MAX_VALUE],
];

const BIGINTS = [0n, 1n, -1n, 2n ** 31n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, -(2n ** 63n)]
  .concat([-1n, 0n, 1n].flatMap((n) => [2n ** 53n + n, -(2n ** 53n) + n]));

const TEXTS = [
  ...["", "a", "PONG", "\n", "\r\n", "\0", "\x7f", "\x80", "é", "漢字", "🍺", "\ufffd", "\uffff", "a\u0301"],
  ...["\ufeff", "\ufeffa", "a\ufeff", "\ud800", "\udc00", "\udc00\ud800", "a\ud800b", "__proto__", "[object Object]"],
];

/** No two of them are the same without their byte order mark, since std would make them one. */
const KEYS = [
  ...[
    "cmd",
    "seq",
    "res",
    "err",
    "id",
    "name",
    "",
    "a",
    "b",
    "c",
    "d",
    "0",
    "1",
    "01",
    "-1",
    "10",
    "4294967295",
    "1e3",
  ],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "valueOf",
    "then",
    "\n",
    "\ufeffmarked",
    "\ud800",
    "\udc01",
    "é",
    "漢",
    "🍺",
  ],
];

/** Lengths on both sides of every change of form or of method. */
const LENGTHS = [10, 15, 16, 17, 30, 31, 32, 33, 39, 40, 41, 63, 64, 65, 85, 86, 255, 256];

function anyValue(random: Random, depth: number): unknown {
  const kind = random(depth < 3 ? 14 : 10);
  if (kind < 3) return pick(random, NUMBERS);
  if (kind < 4) return random(2 ** 32) * (random(2) ? 1 : -0.37);
  if (kind < 7) return anyText(random);
  if (kind < 8) return pick(random, [null, undefined, true, false]);
  if (kind < 9) return pick(random, BIGINTS);
  if (kind < 10) return new Uint8Array(random(20) ? random(20) : length(random)).fill(random(256));
  const size = random(100) ? random(4) : pick(random, [15, 16, 17]);
  const inside = size > 4 ? 3 : depth + 1; // a large container holds leaves
  if (kind < 12) {
    if (random(8_000) === 0) return new Array(pick(random, [65_535, 65_536])).fill(random(256));
    return Array.from({ length: size }, () => anyValue(random, inside));
  }
  if (random(20_000) === 0) return Object.fromEntries(Array.from({ length: 65_537 }, (_, key) => [`k${key}`, key]));
  return Object.fromEntries(Array.from({ length: size }, () => [anyKey(random), anyValue(random, inside)]));
}

function anyText(random: Random): string {
  if (random(2)) return pick(random, TEXTS);
  const unit = pick(random, random(4) ? ["x", "y", "z"] : ["é", "漢", "🍺", "\ud800", "\ufffd", "\ufeff"]);
  return (pick(random, ["", "a", "\n", "é"]) + unit.repeat(random(8) ? random(12) : length(random)));
}

function anyKey(random: Random): string {
  return random(20) ? pick(random, KEYS) : pick(random, ["k", "é"]).repeat(pick(random, LENGTHS)) + random(1_000);
}

function length(random: Random): number {
  return random(500) ? pick(random, LENGTHS) : pick(random, [21_845, 21_846, 65_535, 65_536]);
}

/** Bytes with one to three of them changed, or cut short, or with more behind. */
function damaged(random: Random, bytes: Uint8Array): Uint8Array {
  const kind = random(8);
  if (kind === 0) return bytes.slice(0, random(bytes.length));
  if (kind === 1) return concat(bytes, new Uint8Array([random(256)]));
  const copy = bytes.slice();
  for (let count = 0; count <= random(3); count++) copy[random(copy.length)] = random(256);
  return copy;
}

function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random(choices.length)];
}

function attempt<T>(run: () => T): { value: T } | { error: unknown } {
  try {
    return { value: run() };
  } catch (error) {
    return { error };
  }
}

function nested(depth: number): Uint8Array {
  const bytes = new Uint8Array(depth).fill(0x91);
  bytes[depth - 1] = 0x90;
  return bytes;
}

function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.replaceAll(" ", "").match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

function toHex(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, 100), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return bytes.length > 100 ? `${shown} ... (${bytes.length} bytes)` : shown;
}
