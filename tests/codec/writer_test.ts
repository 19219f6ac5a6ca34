/** What `Writer` does beyond the values themselves: batches, growth, going back, limits. */

import { decode as std } from "jsr:@std/msgpack@^1.0.3";
import { assert, assertEquals, assertFalse, assertStrictEquals, assertThrows } from "@std/assert";
import { EncodeError } from "../../codec/errors.ts";
import { Writer } from "../../codec/writer.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { takeBatch } from "../support/batch.ts";

const stdDecode: (bytes: Uint8Array) => unknown = std;

Deno.test("Writer allocates nothing before the first byte", () => {
  assertEquals(new Writer().bytes.length, 0);
});

Deno.test("Writer writes headers, text and values one behind another into one batch", () => {
  const writer = new Writer();
  writer.beginMap(5);
  writer.writeText("a");
  writer.writeNumber(1.5);
  writer.writeText("b");
  writer.writeBoolean(true);
  writer.writeText("c");
  writer.writeBoolean(false);
  writer.writeText("d");
  writer.writeNil();
  writer.writeText("e");
  writer.writeArrayHeader(2);
  writer.writeValue({ f: "g" });
  writer.writeValue(7n);
  assertEquals(stdDecode(takeBatch(writer)), { a: 1.5, b: true, c: false, d: null, e: [{ f: "g" }, 7n] });
});

const HEADERS: [size: number, map: string, array: string][] = [
  [0, "80", "90"],
  [15, "8f", "9f"],
  [16, "de 00 10", "dc 00 10"],
  [65_535, "de ff ff", "dc ff ff"],
  [65_536, "df 00 01 00 00", "dd 00 01 00 00"],
  [2 ** 32 - 1, "df ff ff ff ff", "dd ff ff ff ff"],
];

Deno.test("Writer writes the shortest header for a size", () => {
  const writer = new Writer();
  for (const [size, map, array] of HEADERS) {
    writer.beginMap(size);
    assertEquals(toHex(takeBatch(writer)), map);
    writer.writeArrayHeader(size);
    assertEquals(toHex(takeBatch(writer)), array);
  }
});

Deno.test("Writer moves a map for another header when other keys follow than were planned, wherever the slab ends", () => {
  for (const slabBytes of [1, 40, 65_536]) {
    for (const planned of [0, 1, 15, 16, 70_000]) {
      for (const size of [0, 1, 15, 16, 70_000]) {
        const writer = new Writer({ slabBytes });
        writer.writeArrayHeader(3);
        writer.writeText("before");
        const start = writer.beginMap(planned);
        for (let key = 0; key < size; key++) {
          writer.writeText(`${key}`);
          writer.writeNumber(key);
        }
        writer.endMap(start, planned, size);
        writer.writeText("behind");
        const batch = takeBatch(writer);
        const map = Object.fromEntries(Array.from({ length: size }, (_, key) => [`${key}`, key]));
        assertEquals(stdDecode(batch), ["before", map, "behind"], `${planned} planned, ${size} written`);
        assertEquals(batch[8] >> 4 === 8 ? 15 : batch[8] === 0xde ? 65_535 : Infinity, largestOf(size));
      }
    }
  }
});

Deno.test("Writer refuses a size that is none", () => {
  const writer = new Writer();
  for (const size of [-1, 1.5, NaN, 2 ** 32]) {
    assertThrows(() => writer.beginMap(size), EncodeError, "size");
    assertThrows(() => writer.writeArrayHeader(size), EncodeError, "size");
    assertThrows(() => writer.writeValue(lengthOf(size)), EncodeError, "size");
  }
});

Deno.test("Writer writes text in the shortest form, whatever its characters take", () => {
  const writer = new Writer({ slabBytes: 1 });
  for (const unit of ["x", "é", "漢", "🍺", "\ud800"]) {
    for (const length of [0, 1, 10, 11, 15, 16, 31, 32, 63, 64, 85, 86, 127, 128, 255, 256, 21_846, 32_768, 65_536]) {
      for (const text of [unit.repeat(length), "x" + unit.repeat(length), unit.repeat(length) + "x"]) {
        writer.writeText(text);
        const bytes = new TextEncoder().encode(text);
        const batch = takeBatch(writer);
        assertEquals(toHex(batch.subarray(0, batch.length - bytes.length)), textHeader(bytes.length));
        assertEquals(new TextDecoder().decode(batch.subarray(batch.length - bytes.length)), text.toWellFormed());
      }
    }
  }
});

Deno.test("take() gives consecutive views of one slab, and none changes again", () => {
  const writer = new Writer({ slabBytes: 4096 });
  const batches: { batch: Uint8Array; value: number[] }[] = [];
  for (let count = 0; count < 1_000; count++) {
    const value = [count, count + 1, count + 2];
    writer.writeValue(value);
    batches.push({ batch: takeBatch(writer), value });
  }
  for (const { batch, value } of batches) assertEquals(stdDecode(batch), value);
  assertEquals(batches[1].batch.byteOffset, batches[0].batch.length);
  assert(new Set(batches.map(({ batch }) => batch.buffer)).size < 5, "a slab holds hundreds of these batches");
});

Deno.test("take() gives an empty batch where nothing was written", () => {
  const writer = new Writer();
  assertEquals(takeBatch(writer).length, 0);
  writer.writeNil();
  takeBatch(writer);
  assertEquals(takeBatch(writer).length, 0);
});

Deno.test("take() does not keep a slab that a large batch made grow", () => {
  const writer = new Writer({ slabBytes: 1024 });
  writer.writeValue("x".repeat(100_000));
  const large = takeBatch(writer);
  writer.writeValue("y");
  const small = takeBatch(writer);
  assertEquals(small.buffer.byteLength, 1024);
  assertEquals(stdDecode(large), "x".repeat(100_000));
});

Deno.test("take() goes on in the shared slab behind a batch that outgrew it", () => {
  const writer = new Writer({ slabBytes: 100 });
  writer.writeText("small");
  writer.finish();
  const { bytes: shared, start } = writer;
  writer.writeText("x".repeat(1_000));
  assert(writer.bytes !== shared);
  writer.finish();
  assert(writer.bytes === shared);
  assertEquals([writer.start, writer.position], [start, start]);
});

Deno.test("reserve() moves the batch to a new slab, and only the batch", () => {
  const writer = new Writer({ slabBytes: 16 });
  writer.writeValue("first");
  const first = takeBatch(writer);
  writer.writeValue("second");
  const slab = writer.bytes;
  writer.reserve(1_000);
  assertFalse(writer.bytes === slab);
  assertEquals([writer.start, writer.position], [0, 7]);
  assert(writer.bytes.length - writer.position >= 1_000);
  writer.bytes.fill(0xee, writer.position);
  assertEquals(stdDecode(first), "first");
  assertEquals(stdDecode(takeBatch(writer)), "second");
});

Deno.test("reserve() keeps the slab while it has room, to the byte", () => {
  const writer = new Writer({ slabBytes: 16 });
  writer.reserve(16);
  const slab = writer.bytes;
  writer.reserve(16);
  assertStrictEquals(writer.bytes, slab);
  writer.writeNil();
  writer.reserve(15);
  assertStrictEquals(writer.bytes, slab);
  writer.reserve(16);
  assertFalse(writer.bytes === slab);
});

Deno.test("Writer writes the same bytes wherever the slab has to grow", () => {
  const value = {
    numbers: [1, -1, 200, 40_000, -40_000, 70_000, -70_000, 1.5, 2 ** 40],
    texts: ["a", "é", "x".repeat(40), "漢".repeat(30), "y".repeat(300), "é".repeat(40_000)],
    others: [null, true, undefined, 3n, new Uint8Array(50)],
    left: undefined,
    many: Array.from({ length: 20 }, (_, key) => ({ key, none: undefined })),
  };
  const whole = new Writer();
  whole.writeValue(value);
  const expected = toHex(takeBatch(whole));
  for (let slabBytes = 1; slabBytes < 600; slabBytes += 7) {
    const writer = new Writer({ slabBytes });
    writer.writeNil();
    writer.writeValue(value);
    assertEquals(toHex(takeBatch(writer)), "c0 " + expected);
  }
});

Deno.test("rewind() drops a half-written message, grown or not, and the rest of the batch stays", () => {
  for (const slabBytes of [8, 65_536]) {
    const writer = new Writer({ slabBytes });
    writer.writeValue("before");
    takeBatch(writer);
    writer.writeValue("kept");
    const position = writer.position - writer.start;
    assertThrows(() => writer.writeValue(["x".repeat(1_000), Symbol("s")]), EncodeError, "a symbol");
    writer.rewind(position);
    writer.writeValue("next");
    assertEquals(toHex(takeBatch(writer)), "a4 6b 65 70 74 a4 6e 65 78 74");
  }
});

Deno.test("Writer leaves undefined fields out, across every width of the header", () => {
  const writer = new Writer();
  for (
    const [planned, left] of [[1, 0], [15, 3], [16, 16], [16, 15], [16, 0], [17, 15], [65_536, 65_535], [65_536, 9]]
  ) {
    const value = Object.fromEntries(
      Array.from({ length: planned }, (_, key) => [`k${key}`, key < left ? key : undefined]),
    );
    writer.writeValue([value, "behind"]);
    const kept = Object.fromEntries(Array.from({ length: left }, (_, key) => [`k${key}`, key]));
    const batch = takeBatch(writer);
    assertEquals(stdDecode(batch), [kept, "behind"]);
    writer.writeValue([kept, "behind"]);
    assertEquals(toHex(batch), toHex(takeBatch(writer)));
  }
});

Deno.test("Writer holds to maxDepth, to the container, and counts those that stand around the value", () => {
  const { maxDepth } = DEFAULT_LIMITS;
  const writer = new Writer();
  writer.writeValue([[{ a: 1 }]], maxDepth - 3);
  writer.writeValue([{ a: 1 }], maxDepth - 2);
  writer.writeValue({ a: 1 }, maxDepth - 1);
  writer.writeValue(1, maxDepth);
  const deepest = JSON.parse(`${"[".repeat(maxDepth)}${"]".repeat(maxDepth)}`);
  writer.writeValue(deepest);
  takeBatch(writer);
  for (const [value, left] of [[[[{ a: {} }]], 3], [[[[[]]]], 3], [[[[]]], 2], [{ a: {} }, 1], [[], 0]] as const) {
    assertThrows(() => writer.writeValue(value, maxDepth - left), EncodeError, "nested deeper than 64");
  }
  assertThrows(() => writer.writeValue([deepest]), EncodeError, "nested deeper than 64");
});

Deno.test("Writer ends in an error on a cycle, through an array and through a map", () => {
  const array: unknown[] = [];
  array.push(array);
  const map: Record<string, unknown> = {};
  map.map = map;
  const writer = new Writer();
  assertThrows(() => writer.writeValue(array), EncodeError, "in a cycle");
  assertThrows(() => writer.writeValue(map), EncodeError, "in a cycle");
});

Deno.test("Writer writes the keys an object had, less those that went away", () => {
  const value: Record<string, unknown> = {
    get a() {
      delete value.b;
      value.d = 4;
      return 1;
    },
    b: 2,
    c: 3,
  };
  const writer = new Writer();
  writer.writeValue(value);
  assertEquals(stdDecode(takeBatch(writer)), { a: 1, c: 3 });
});

Deno.test("Writer reads every field once", () => {
  let reads = 0;
  const value = {
    get a() {
      return reads++ === 0 ? "once" : undefined;
    },
  };
  const writer = new Writer();
  writer.writeValue(value);
  assertEquals(stdDecode(takeBatch(writer)), { a: "once" });
});

/** An array that says it has this length. */
function lengthOf(length: number): unknown[] {
  return new Proxy([], { get: (target, key) => key === "length" ? length : Reflect.get(target, key) });
}

/** The largest map that has as short a header as one of this size. */
function largestOf(size: number): number {
  return size < 16 ? 15 : size < 0x10000 ? 65_535 : Infinity;
}

function textHeader(length: number): string {
  if (length < 32) return toHex([0xa0 | length]);
  if (length < 256) return toHex([0xd9, length]);
  if (length < 65_536) return toHex([0xda, length >> 8, length & 255]);
  return toHex([0xdb, length >> 24, length >> 16 & 255, length >> 8 & 255, length & 255]);
}

function toHex(bytes: ArrayLike<number>): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
