/** `encode` and `decode` held against `@std/msgpack` by random values, and random damage to their bytes. */

import { difference } from "../support/difference.ts";
import { decode as stdDecodeUntyped, encode as stdEncodeUntyped } from "jsr:@std/msgpack@^1.0.3";
import { assert, assertNotEquals, assertStrictEquals } from "@std/assert";
import { decode, encode } from "../support/msgpack.ts";
import { concat } from "../support/wire.ts";

// deno-lint-ignore no-explicit-any -- std's type leaves out what it refuses, and some of what it takes.
const stdEncode: (value: any) => Uint8Array = stdEncodeUntyped;
const stdDecode: (bytes: Uint8Array) => unknown = stdDecodeUntyped;

const VALUES = 200_000;
const DAMAGED = 50_000;

/** Other each time; put the printed one here to see a failure again. */
const SEED = crypto.getRandomValues(new Uint32Array(1))[0];

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

function toHex(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, 100), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return bytes.length > 100 ? `${shown} ... (${bytes.length} bytes)` : shown;
}
