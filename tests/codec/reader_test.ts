/** What `Reader` does beyond the values themselves: messages, keys, limits, hostile bytes. */

import { decode as stdDecodeUntyped, encode as stdEncodeUntyped } from "jsr:@std/msgpack@^1.0.3";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { DecodeError } from "../../codec/errors.ts";
import { Reader } from "../../codec/reader.ts";
import {
  ARRAY_WEIGHT,
  BINARY_WEIGHT,
  ELEMENT_WEIGHT,
  FIELD_WEIGHT,
  INDEXED_FIELD_WEIGHT,
  INTEGER64_WEIGHT,
  MAP_WEIGHT,
  MESSAGE_WEIGHT,
  TEXT_BYTE_WEIGHT,
  TEXT_WEIGHT,
} from "../../codec/message.ts";

// deno-lint-ignore no-explicit-any -- std's type leaves out what it refuses, and some of what it takes.
const stdEncode: (value: any) => Uint8Array = stdEncodeUntyped;
const stdDecode: (bytes: Uint8Array) => unknown = stdDecodeUntyped;

/** As long as a key may be without a weight of its own. */
const KEY = "x".repeat(32);

const LIMITS = { maxDepth: 64, maxMessageBytes: 8 * 1024 * 1024 };

Deno.test("Reader reads a message key by key", () => {
  const bytes = stdEncode({ cmd: 2, sleep: 0.5, list: [1, { a: "b" }] });
  const reader = new Reader(LIMITS);
  reader.begin(bytes, 0, bytes.length);
  assertEquals(reader.readMapSize(), 3);
  assertEquals(reader.readKey(), "cmd");
  assertEquals(reader.readValue(), 2);
  assertEquals(reader.readKey(), "sleep");
  assertEquals(reader.readValue(), 0.5);
  assertEquals(reader.readKey(), "list");
  assertEquals(reader.readValue(), [1, { a: "b" }]);
  reader.finish();
});

Deno.test("Reader reads one payload after another, also behind one that was refused", () => {
  const bytes = stdEncode({ a: [[1]] });
  const reader = new Reader({ maxDepth: 3, maxMessageBytes: 850 });
  for (let count = 0; count < 10; count++) {
    assertEquals(readMessage(bytes, reader), { a: [[1]] });
    for (const bad of ["81 a1 61 91 91 91", "81 a1 61 91 92 01 02", "81 a1 61 91 91", "81 a1 ff 01", "c1"]) {
      assertThrows(() => readMessage(hex(bad), reader), DecodeError);
    }
  }
});

Deno.test("Reader reads every map header as the top of a message", () => {
  for (const bytes of ["81 a1 61 01", "de 00 01 a1 61 01", "df 00 00 00 01 a1 61 01"]) {
    assertEquals(readMessage(hex(bytes)), { a: 1 });
  }
});

Deno.test("Reader takes an empty array for an empty map at the top, and only there", () => {
  for (const bytes of ["80", "90", "dc 00 00", "dd 00 00 00 00"]) assertEquals(readMessage(hex(bytes)), {});
  assertEquals(readMessage(hex("81 a1 61 90")), { a: [] });
});

Deno.test("Reader keeps the key 4294967294 beside other integers, also around a map of integers", () => {
  const bytes = hex("81 a1 61 83 ce ff ff ff fe 81 00 c3 05 01 06 81 07 02");
  assertEquals(readMessage(bytes), { a: { "5": 1, "6": { "7": 2 }, "4294967294": { "0": true } } });
});

Deno.test("Reader refuses a message that is no map", () => {
  for (const bytes of ["91 01", "dc 00 01 01", "dd 00 00 00 01 01", "01", "ff", "c0", "c3", "a1 61", "c4 00"]) {
    assertThrows(() => readMessage(hex(bytes)), DecodeError, "a message must be a map");
  }
});

Deno.test("Reader refuses bytes behind the message, and a payload without any", () => {
  for (const bytes of ["80 0a", "90 80", "81 a1 61 01 81 a1 61 01"]) {
    assertThrows(() => readMessage(hex(bytes)), DecodeError, "bytes are left over");
  }
  assertThrows(() => readMessage(hex("")), DecodeError, "ends too early");
});

Deno.test("Reader stays inside its payload, whatever stands around it", () => {
  const valid = stdEncode({ a: [1, "text", new Uint8Array(5), 2.5, { b: 70_000 }] });
  const buffer = new Uint8Array(valid.length + 20).fill(0xc0);
  buffer.set(valid, 10);
  const reader = new Reader(LIMITS);
  assertEquals(readMessage(buffer, reader, 10, 10 + valid.length), stdDecode(valid));
  for (let end = 10; end < 10 + valid.length; end++) {
    assertThrows(() => readMessage(buffer, reader, 10, end), DecodeError, "ends too early");
  }
});

/** Messages that between them hold every form there is, for the tests that spoil them. */
const MESSAGES: Uint8Array[] = [
  stdEncode({ cmd: 1 }),
  stdEncode({ res: "DONE", slept: 3.003000020980835 }),
  stdEncode({ seq: 2 ** 53, meta: { traceparent: "x".repeat(55) }, data: [null, true, false, -1, -33, -200, -40_000] }),
  stdEncode({ numbers: [127, 128, 256, 65_536, 2 ** 31, 2 ** 32, -(2 ** 31), 1n, -1n, 2n ** 64n - 1n] }),
  stdEncode({ text: ["é", "漢".repeat(20), "x".repeat(300), "\ufeff"], bytes: new Uint8Array(300) }),
  stdEncode(Object.fromEntries(Array.from({ length: 20 }, (_, key) => [`key number ${key}`, [key, { key }]]))),
  hex("df 00 00 00 01 db 00 00 00 01 61 dd 00 00 00 03 ca 3f 80 00 00 c6 00 00 00 01 00 d3 00 00 00 00 00 00 00 01"),
  hex("83 07 01 d1 80 00 02 cf 00 00 00 00 00 00 00 09 03"),
];

Deno.test("Reader refuses every prefix of a message as one that ends too early", () => {
  for (const bytes of MESSAGES) {
    readMessage(bytes);
    for (let length = 0; length < bytes.length; length++) {
      assertThrows(() => readMessage(bytes.slice(0, length)), DecodeError, "ends too early");
    }
  }
});

Deno.test("Reader reads a value exactly as long as its first byte says, for all 256", () => {
  let values = 0;
  for (let first = 0; first < 256; first++) {
    const exact = withFirstByte(first);
    const name = `first byte ${first.toString(16)}`;
    if (first === 0xc1 || first >= 0xc7 && first <= 0xc9 || first >= 0xd4 && first <= 0xd8) {
      for (const bytes of [exact.slice(0, 1), exact, new Uint8Array([...exact, 0])]) {
        assertThrows(() => readValue(bytes), DecodeError, first === 0xc1 ? "0xc1" : "extension", name);
      }
      continue;
    }
    const value = stdDecode(exact);
    assertEquals(readValue(exact), typeof value === "bigint" ? Number(value) : value, name);
    assertThrows(() => readValue(new Uint8Array([...exact, 0])), DecodeError, "left over", name);
    assertThrows(() => readValue(exact.slice(0, -1)), DecodeError, "ends too early", name);
    if (exact.length > 1) assertThrows(() => readValue(exact.slice(0, 1)), DecodeError, "ends too early", name);
    values++;
  }
  assertEquals(values, 256 - 1 - 8);
});

// Keys --------------------------------------------------------------------------------------------------------------

Deno.test("Reader reads a key that is text, in every form", () => {
  for (const length of [0, 1, 15, 16, 31, 32, 33, 40, 41, 255, 256, 65_536]) {
    const key = "k".repeat(length);
    assertEquals(readMessage(stdEncode({ [key]: 1 })), { [key]: 1 });
  }
  for (const bytes of ["81 a1 61 01", "81 d9 01 61 01", "81 da 00 01 61 01", "81 db 00 00 00 01 61 01"]) {
    assertEquals(readMessage(hex(bytes)), { a: 1 });
  }
});

const INTEGER_KEYS: Record<string, string> = {
  "00": "0",
  "7f": "127",
  "ff": "-1",
  "e0": "-32",
  "cc ff": "255",
  "cd ff ff": "65535",
  "ce ff ff ff ff": "4294967295",
  "cf 00 00 00 00 00 00 00 01": "1",
  "cf ff ff ff ff ff ff ff ff": "18446744073709551615",
  "d0 80": "-128",
  "d1 80 00": "-32768",
  "d2 80 00 00 00": "-2147483648",
  "d3 80 00 00 00 00 00 00 00": "-9223372036854775808",
};

Deno.test("Reader reads an integer key of every width as its decimal text, at the top and below", () => {
  for (const [bytes, key] of Object.entries(INTEGER_KEYS)) {
    assertEquals(readMessage(hex(`81 ${bytes} 01`)), { [key]: 1 });
    assertEquals(readMessage(hex(`81 a1 61 81 ${bytes} 01`)), { a: { [key]: 1 } });
  }
});

Deno.test("Reader refuses a key that is neither text nor an integer, at the top and below", () => {
  const keys = [
    "c0",
    "c1",
    "c2",
    "c3",
    "c4 00",
    "c7 00 01",
    "ca 3f 80 00 00",
    "cb 3f f0 00 00 00 00 00 00",
    "d4 01 00",
  ];
  for (const key of [...keys, "80", "90", "dc 00 00", "de 00 00"]) {
    assertThrows(() => readMessage(hex(`81 ${key} 01`)), DecodeError, "a key must be text or an integer");
    assertThrows(() => readMessage(hex(`81 a1 61 81 ${key} 01`)), DecodeError, "a key must be text or an integer");
  }
});

Deno.test("Reader reads each of very many keys as itself, again and again", () => {
  const reader = new Reader(LIMITS);
  for (let round = 0; round < 2; round++) {
    for (let count = 0; count < 20_000; count++) {
      const key = count % 3 === 0 ? "cmd" : `${count.toString(36)}é`.slice(0, 3 + count % 2);
      const bytes = stdEncode({ [key]: 1 });
      reader.begin(bytes, 0, bytes.length);
      reader.readMapSize();
      assertStrictEquals(reader.readKey(), key);
    }
  }
});

Deno.test("Reader refuses a key of invalid UTF-8 that has the characters of one it knows", () => {
  // E9 alone is é in Latin-1, as which a key would be taken that was compared with the characters of "é".
  const reader = new Reader(LIMITS);
  for (let first = 0x20; first < 0x7f; first++) {
    for (let second = 0x20; second < 0x7f; second++) {
      assertEquals(readMessage(new Uint8Array([0x81, 0xa4, first, second, 0xc3, 0xa9, 1]), reader), {
        [String.fromCharCode(first, second, 0xe9)]: 1,
      });
      const invalid = new Uint8Array([0x81, 0xa3, first, second, 0xe9, 1]);
      assertThrows(() => readMessage(invalid, reader), DecodeError, "UTF-8");
    }
  }
});

/** The tests named so also run under --unstable-unsafe-proto, below. */
const PROTO = "Reader: __proto__";

Deno.test(`${PROTO} is a key like any other`, () => {
  const bytes = hex("81 a1 61 82 a9 5f 5f 70 72 6f 74 6f 5f 5f 81 a7 69 73 41 64 6d 69 6e c3 a1 62 01");
  const { a } = readMessage(bytes) as { a: Record<string, unknown> };
  assertStrictEquals(Object.getPrototypeOf(a), Object.prototype);
  assertEquals(Object.keys(a), ["__proto__", "b"]);
  assertEquals("isAdmin" in a, false);
  assertEquals(Object.getOwnPropertyDescriptor(a, "__proto__"), {
    value: { isAdmin: true },
    writable: true,
    enumerable: true,
    configurable: true,
  });
});

Deno.test(`${PROTO} may come twice, and its last value wins`, () => {
  const { a } = readMessage(hex("81 a1 61 82 a9 5f 5f 70 72 6f 74 6f 5f 5f 80 a9 5f 5f 70 72 6f 74 6f 5f 5f 02")) as {
    a: object;
  };
  assertEquals(Object.entries(a), [["__proto__", 2]]);
  assertStrictEquals(Object.getPrototypeOf(a), Object.prototype);
});

Deno.test({
  name: "Reader treats that key so under --unstable-unsafe-proto too",
  ignore: Deno.permissions.querySync({ name: "run" }).state !== "granted",
  async fn() {
    const flags = ["--unstable-unsafe-proto", "--no-check", "--filter", PROTO];
    const child = new Deno.Command(Deno.execPath(), { args: ["test", ...flags, import.meta.filename!] });
    const { success, stdout } = await child.output();
    assert(success, new TextDecoder().decode(stdout));
    assert(new TextDecoder().decode(stdout).includes("2 passed"));
  },
});

// Limits ------------------------------------------------------------------------------------------------------------

Deno.test("Reader counts the top-level map as depth 1", () => {
  const flat = stdEncode({ a: 1 });
  const deeper = [stdEncode({ a: [] }), stdEncode({ a: {} })];
  assertEquals(readMessage(flat, new Reader({ ...LIMITS, maxDepth: 1 })), { a: 1 });
  for (const bytes of deeper) {
    readMessage(bytes, new Reader({ ...LIMITS, maxDepth: 2 }));
    assertThrows(() => readMessage(bytes, new Reader({ ...LIMITS, maxDepth: 1 })), DecodeError, "nested deeper than 1");
  }
});

Deno.test("Reader counts containers inside one another, not beside", () => {
  const bytes = stdEncode({ a: [[], [], {}, { b: [] }], c: [{}] });
  assertEquals(readMessage(bytes, new Reader({ ...LIMITS, maxDepth: 4 })), stdDecode(bytes));
  assertThrows(() => readMessage(bytes, new Reader({ ...LIMITS, maxDepth: 3 })), DecodeError, "nested deeper than 3");
});

Deno.test("Reader weighs every value and every key of a message, and refuses what is over the limit by a byte", () => {
  const messages: [value: unknown, weight: number][] = [
    [{}, MESSAGE_WEIGHT + MAP_WEIGHT],
    [{ a: 1 }, MESSAGE_WEIGHT + MAP_WEIGHT + FIELD_WEIGHT],
    [
      { a: [1, 2, 3], b: { c: "dé" } },
      MESSAGE_WEIGHT + 2 * MAP_WEIGHT + 3 * FIELD_WEIGHT + ARRAY_WEIGHT + 3 * ELEMENT_WEIGHT + TEXT_WEIGHT +
      3 * TEXT_BYTE_WEIGHT,
    ],
    [{ a: [[], {}] }, MESSAGE_WEIGHT + 2 * MAP_WEIGHT + FIELD_WEIGHT + 2 * ARRAY_WEIGHT + 2 * ELEMENT_WEIGHT],
    [{ a: new Uint8Array(9) }, MESSAGE_WEIGHT + MAP_WEIGHT + FIELD_WEIGHT + BINARY_WEIGHT + 9],
    [{ a: 2n ** 63n }, MESSAGE_WEIGHT + MAP_WEIGHT + FIELD_WEIGHT + INTEGER64_WEIGHT],
    [{ 7: 1, b: 2, "8": 3 }, MESSAGE_WEIGHT + MAP_WEIGHT + 3 * FIELD_WEIGHT + 2 * INDEXED_FIELD_WEIGHT],
    [{ [KEY]: 1 }, MESSAGE_WEIGHT + MAP_WEIGHT + FIELD_WEIGHT],
    [{ [`${KEY}y`]: 1 }, MESSAGE_WEIGHT + MAP_WEIGHT + FIELD_WEIGHT + TEXT_WEIGHT + 33 * TEXT_BYTE_WEIGHT],
  ];
  for (const [value, weight] of messages) {
    const reader = new Reader({ ...LIMITS, maxMessageBytes: weight });
    assertEquals(readMessage(stdEncode(value), reader), value);
    assertEquals(reader.weightBytes, weight);
    const lighter = new Reader({ ...LIMITS, maxMessageBytes: weight - 1 });
    const text = `the message takes more than ${weight - 1} bytes of memory`;
    assertThrows(() => readMessage(stdEncode(value), lighter), DecodeError, text);
  }
});

Deno.test("Reader refuses a claim before it does anything for it", () => {
  const claims = ["db ff ff ff ff", "c6 ff ff ff ff", "dd ff ff ff ff", "df ff ff ff ff", "dd 00 01 86 00", "de 00 02"];
  const reader = new Reader({ maxDepth: 1_000, maxMessageBytes: 2 ** 31 });
  const before = Deno.memoryUsage();
  for (let count = 0; count < 500; count++) {
    for (const claim of claims) {
      for (const body of ["", "01", "01 01", "01 01 01"]) {
        assertThrows(() => readMessage(hex(`81 a1 61 ${claim} ${body}`), reader), DecodeError, "ends too early");
      }
    }
  }
  for (const claim of ["93 c1", "dc 00 03 c1", "82 a1 61 c1", "de 00 02 a1 61 c1"]) {
    assertThrows(() => readMessage(hex(`81 a1 61 ${claim}`), reader), DecodeError, "ends too early");
  }
  // Arrays that each claim as much as is left: allowed one by one, though not all together.
  const nested = new Uint8Array(600_000);
  nested.set([0x81, 0xa1, 0x61]);
  for (let at = 3; at < 3_000; at += 5) {
    const left = nested.length - at - 5;
    nested.set([0xdd, 0, left >> 16, left >> 8, left], at);
  }
  assertThrows(() => readMessage(nested, new Reader(LIMITS)), DecodeError, "more than 8388608 bytes");
  const after = Deno.memoryUsage();
  const grown = after.heapUsed + after.external - before.heapUsed - before.external;
  assert(grown < 64 * 1024 * 1024, `${grown} bytes more`);
});

// Text --------------------------------------------------------------------------------------------------------------

const INVALID_UTF8: Record<string, string> = {
  "a continuation byte alone": "80",
  "a first byte alone": "c3",
  "a first byte without its continuation": "c3 41",
  "two bytes for what takes one": "c1 bf",
  "NUL in two bytes": "c0 80",
  "three bytes for what takes two": "e0 9f bf",
  "four bytes for what takes three": "f0 8f bf bf",
  "half a surrogate pair": "ed a0 80",
  "the other half": "ed bf bf",
  "a surrogate pair, each half by itself": "ed a0 bd ed b0 80",
  "beyond U+10FFFF": "f4 90 80 80",
  "a first byte there is none of": "f5 80 80 80",
  "five bytes": "f8 88 80 80 80",
  "0xff": "ff",
  "three of four bytes": "f0 9f 8d",
};

for (const [name, bytes] of Object.entries(INVALID_UTF8)) {
  Deno.test(`Reader refuses text with ${name}: short and long, as a key and as a value`, () => {
    for (const padding of [0, 1, 20, 40, 100, 300]) {
      for (const text of [[...ascii(padding), ...hex(bytes)], [...hex(bytes), ...ascii(padding)]]) {
        const encoded = [0xda, text.length >> 8, text.length & 255, ...text];
        for (const message of [[0x81, 0xa1, 0x61, ...encoded], [0x81, ...encoded, 0x01]]) {
          assertThrows(() => readMessage(new Uint8Array(message)), DecodeError, "text is not valid UTF-8");
        }
      }
    }
  });
}

Deno.test("Reader reads valid text as it is: marks, U+FFFD, controls, the last of each width; short and long", () => {
  const texts = [
    "\ufeff",
    "\ufffd",
    "\ufeff\ufffd",
    "\0\r\n\x1b",
    "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}",
    "e\u0301",
  ];
  for (const text of texts) {
    for (const padding of ["", "x", "x".repeat(39), "x".repeat(40), "x".repeat(300)]) {
      for (const padded of [text + padding, padding + text, text + padding + text]) {
        assertEquals(readMessage(stdEncode({ [padded]: padded })), { [padded]: padded });
      }
    }
  }
});

Deno.test("Reader gives out nothing that changes with the buffer", () => {
  const bytes = stdEncode({ key: ["text", "x".repeat(100), new Uint8Array([1, 2, 3]), { inner: "é" }] });
  const message = readMessage(bytes);
  bytes.fill(0xc1);
  assertEquals(message, { key: ["text", "x".repeat(100), new Uint8Array([1, 2, 3]), { inner: "é" }] });
});

/** One message, as a decode stage reads it. */
function readMessage(
  bytes: Uint8Array,
  reader = new Reader(LIMITS),
  start = 0,
  end = bytes.length,
): Record<string, unknown> {
  reader.begin(bytes, start, end);
  const message: Record<string, unknown> = {};
  for (let keys = reader.readMapSize(); keys > 0; keys--) {
    const key = reader.readKey();
    reader.readField(message, key);
  }
  reader.finish();
  return message;
}

/** One value, of any type. */
function readValue(bytes: Uint8Array): unknown {
  const reader = new Reader(LIMITS);
  reader.begin(bytes, 0, bytes.length);
  const value = reader.readValue();
  reader.finish();
  return value;
}

/** A whole value that begins with this byte; an extension or 0xc1 too. */
function withFirstByte(first: number): Uint8Array {
  const rest = (count: number) => new Array<number>(count).fill(1);
  const fields = (count: number) => Array.from({ length: count }, (_, key) => [0xa1, 0x61 + key, key]).flat();
  if (first >> 4 === 0x8) return new Uint8Array([first, ...fields(first & 15)]);
  if (first >> 4 === 0x9) return new Uint8Array([first, ...rest(first & 15)]);
  if (first >> 5 === 0x5) return new Uint8Array([first, ...ascii(first & 31)]);
  const bodies: Record<number, number[]> = {
    0xc4: [3, ...rest(3)],
    0xc5: [0, 3, ...rest(3)],
    0xc6: [0, 0, 0, 3, ...rest(3)],
    0xc7: [3, 5, ...rest(3)],
    0xc8: [0, 3, 5, ...rest(3)],
    0xc9: [0, 0, 0, 3, 5, ...rest(3)],
    0xca: rest(4),
    0xcb: rest(8),
    0xcc: rest(1),
    0xcd: rest(2),
    0xce: rest(4),
    0xcf: [0, 0, ...rest(6)],
    0xd0: rest(1),
    0xd1: rest(2),
    0xd2: rest(4),
    0xd3: [0, 0, ...rest(6)],
    0xd4: rest(2),
    0xd5: rest(3),
    0xd6: rest(5),
    0xd7: rest(9),
    0xd8: rest(17),
    0xd9: [3, ...ascii(3)],
    0xda: [0, 3, ...ascii(3)],
    0xdb: [0, 0, 0, 3, ...ascii(3)],
    0xdc: [0, 3, ...rest(3)],
    0xdd: [0, 0, 0, 3, ...rest(3)],
    0xde: [0, 3, ...fields(3)],
    0xdf: [0, 0, 0, 3, ...fields(3)],
  };
  return new Uint8Array([first, ...bodies[first] ?? []]);
}

function ascii(length: number): number[] {
  return new Array<number>(length).fill(0x78);
}

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.replaceAll(" ", "").match(/../g) ?? [], (byte) => parseInt(byte, 16));
}
