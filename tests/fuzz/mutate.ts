/**
 * Damage: every kind of it that a parser of lengths and types can get wrong, drawn from a seed.
 *
 * In: random numbers and bytes that mean something. Out: other bytes, which may still mean something.
 */

import { concat, unhex } from "../support/wire.ts";
import type { Random } from "../support/random.ts";

/** The bytes that begin a value, one of each kind, and 0xc1, which begins none. */
const TYPES = [
  ...[0x00, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x91, 0x9f, 0xa0, 0xa1, 0xbf, 0xe0, 0xff],
  ...Array.from({ length: 0x20 }, (_, index) => 0xc0 + index),
];

/** Bytes that a size follows, and how many it takes. */
const SIZED = new Map([
  ...[0xc4, 0xc7, 0xd9].map((type) => [type, 1] as const),
  ...[0xc5, 0xc8, 0xda, 0xdc, 0xde].map((type) => [type, 2] as const),
  ...[0xc6, 0xc9, 0xdb, 0xdd, 0xdf].map((type) => [type, 4] as const),
]);

/** What follows the types from float32 to int64. */
const FIXED = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8];

const EXTREMES = [0, 1, 2, 0x1f, 0x20, 0x7f, 0x80, 0xdf, 0xe0, 0xff, 0x100, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff];

/** What is hard in a text, a number or a frame. */
const TROUBLE = [
  ...["0a", "0d 0a", "00", "1f 1f", "1f 1f 00 00 df df", "1f 1f ff ff ff ff", "ff ff", "ff fe", "20 20", "20 20 0a"],
  ...["c1", "c2 80", "c0 80", "ed a0 80", "ed b0 80", "f0 9f 8d ba", "f4 90 80 80", "ef bf bd", "ef bb bf", "80", "ff"],
  ...["a9 5f 5f 70 72 6f 74 6f 5f 5f", "a3 63 6d 64 00", "a3 73 65 71 00", "a3 73 65 71 ff", "a4 6d 6f 72 65 c3"],
  ...["cb 7f f8 00 00 00 00 00 00", "cb 80 00 00 00 00 00 00 00", "ca 7f 80 00 00", "cf 00 20 00 00 00 00 00 00"],
].map(unhex);

type Mutation = (random: Random, bytes: Uint8Array, other: Uint8Array) => Uint8Array;

/** Each kind by its name, and how often it is drawn. */
const MUTATIONS: Record<string, [weight: number, mutation: Mutation]> = {
  "flip some bits": [4, (random, bytes) => {
    const changed = bytes.slice();
    const bits = random.pick([4, 8]);
    for (let count = random.between(1, 3); count > 0; count--) changed[at(random, bytes)] ^= 1 << random.below(bits);
    return changed;
  }],
  "change a byte": [3, (random, bytes) => replaced(random, bytes, Uint8Array.of(random.below(256)))],
  "swap a type": [4, (random, bytes) => replaced(random, bytes, Uint8Array.of(random.pick(TYPES)))],
  "swap a value": [10, (random, bytes, other) => {
    const [start, end] = leaf(random, bytes);
    const [from, to] = leaf(random, other);
    return concat(bytes.subarray(0, start), other.subarray(from, to), bytes.subarray(end));
  }],
  "insert bytes": [2, (random, bytes) => inserted(random, bytes, random.bytes(random.between(1, 8)))],
  "insert trouble": [3, (random, bytes) => inserted(random, bytes, random.pick(TROUBLE))],
  "put trouble in place": [3, (random, bytes) => replaced(random, bytes, random.pick(TROUBLE))],
  "delete a range": [2, (random, bytes) => {
    const [start, end] = range(random, bytes);
    return concat(bytes.subarray(0, start), bytes.subarray(end));
  }],
  "repeat a range": [2, (random, bytes) => {
    const [start, end] = range(random, bytes);
    const times = random.chance(0.1) ? random.between(2, 100) : 1;
    return inserted(random, bytes, concat(...new Array(times).fill(bytes.subarray(start, end))));
  }],
  "make a size extreme": [3, (random, bytes) => {
    const places = [...bytes.keys()].filter((index) => SIZED.has(bytes[index]));
    if (places.length === 0) return claimed(random, bytes);
    const place = random.pick(places);
    const width = SIZED.get(bytes[place]) as number;
    return concat(bytes.subarray(0, place + 1), size(random, width), bytes.subarray(place + 1 + width));
  }],
  "claim a lot": [2, claimed],
  "cut": [2, (random, bytes) => bytes.slice(0, at(random, bytes))],
  "splice with another": [
    3,
    (random, bytes, other) => concat(bytes.subarray(0, at(random, bytes)), other.subarray(at(random, other))),
  ],
  "nest": [1, (random, bytes) => {
    const depth = random.pick([1, 8, 60, 61, 62, 63, 64, 65, random.chance(0.02) ? 50_000 : 500]);
    const around = random.pick([unhex("91"), unhex("81 a1 61"), unhex("dd 00 00 00 01")]);
    const place = at(random, bytes);
    return concat(bytes.subarray(0, place), ...new Array(depth).fill(around), bytes.subarray(place));
  }],
};

const DRAWN = Object.values(MUTATIONS).flatMap(([weight, mutation]) => new Array<Mutation>(weight).fill(mutation));

/**
 * @param random Where the choices come from.
 * @param bytes What to damage; it stays as it is.
 * @param other Something else that is valid, for a splice.
 * @returns The bytes with one mutation, or a few.
 */
export function mutated(random: Random, bytes: Uint8Array, other: Uint8Array): Uint8Array {
  let result = bytes;
  const rounds = random.chance(0.6) ? 1 : random.between(2, 4);
  for (let round = 0; round < rounds; round++) result = random.pick(DRAWN)(random, result, other);
  return result;
}

/** A place: more often where a value begins than anywhere, since most bytes are inside of texts. */
function at(random: Random, bytes: Uint8Array): number {
  return random.chance(0.6) ? random.pick(placesIn(bytes)) : random.below(Math.max(1, bytes.length));
}

function range(random: Random, bytes: Uint8Array): [start: number, end: number] {
  const start = at(random, bytes);
  return [start, Math.min(bytes.length, start + random.between(1, random.pick([1, 4, 16, 64])))];
}

/** A whole value that holds no others, if there is one. */
function leaf(random: Random, bytes: Uint8Array): [start: number, end: number] {
  const places = placesIn(bytes);
  const leaves = [...places.keys()].filter((index) => !isContainer(bytes[places[index]]));
  const index = random.pick(leaves) ?? 0;
  return [places[index], places[index + 1] ?? bytes.length];
}

function isContainer(type: number): boolean {
  return type >= 0x80 && type < 0xa0 || type >= 0xdc && type <= 0xdf;
}

/** Where values begin. A frame's header and newline pass for small numbers, so that streams can be walked as well. */
function placesIn(bytes: Uint8Array): number[] {
  const places = [0];
  for (let place = 0; place < bytes.length && places.length < 1_000;) {
    const type = bytes[place];
    const width = SIZED.get(type) ?? 0;
    let length = width === 0
      ? 0
      : bytes.subarray(place + 1, place + 1 + width).reduce((sum, byte) => sum * 256 + byte, 0);
    if (isContainer(type)) length = 0; // what is in it are values again
    if (type >= 0xa0 && type < 0xc0) length = type & 31;
    if (type >= 0xca && type <= 0xd3) length = FIXED[type - 0xca];
    place += 1 + width + length;
    if (place < bytes.length) places.push(place);
  }
  if (places.length > 1) places.shift(); // all would be lost with the first, too often
  return places;
}

function inserted(random: Random, bytes: Uint8Array, piece: Uint8Array): Uint8Array {
  const place = at(random, bytes);
  return concat(bytes.subarray(0, place), piece, bytes.subarray(place));
}

function replaced(random: Random, bytes: Uint8Array, piece: Uint8Array): Uint8Array {
  const place = at(random, bytes);
  return concat(bytes.subarray(0, place), piece, bytes.subarray(place + piece.length));
}

/** Puts a type with a size where there was something else. */
function claimed(random: Random, bytes: Uint8Array): Uint8Array {
  const [type, width] = random.pick([...SIZED]);
  return replaced(random, bytes, concat(Uint8Array.of(type), size(random, width)));
}

/** An extreme size, big-endian. */
function size(random: Random, width: number): Uint8Array {
  const value = random.pick(EXTREMES);
  return Uint8Array.from({ length: width }, (_, index) => value >>> (8 * (width - 1 - index)));
}
