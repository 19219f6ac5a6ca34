/**
 * Reads map keys and reuses known key strings, because nearly all keys repeat.
 *
 * In: a range of a buffer. Out: the key. Refused, by a `DecodeError`: invalid UTF-8.
 */

import { FIELD_NAMES } from "./message.ts";
import { textAt } from "./text.ts";

/** Slots in the table of known keys; a power of two. */
const INTERNED_KEYS = 1024;

/**
 * Known keys, found by a hash of their bytes and compared byte by byte. An unknown key replaces the one in its slot. So
 * a peer that sends ever new keys only loses the benefit of the table.
 */
const interned: string[] = new Array(INTERNED_KEYS).fill("");

// The protocol's own names, and those of DELAY, are present from the start, so that a `switch` on them compares references.
for (const name of [...FIELD_NAMES, "sleep", "slept"]) {
  interned[placeOf(new TextEncoder().encode(name), 0, name.length)] = name;
}

function placeOf(bytes: Uint8Array, start: number, length: number): number {
  let hash = length;
  for (let index = start; index < start + length; index++) hash = Math.imul(hash, 31) + bytes[index] | 0;
  return hash & (INTERNED_KEYS - 1);
}

function isText(text: string, bytes: Uint8Array, start: number): boolean {
  for (let index = 0; index < text.length; index++) {
    if (text.charCodeAt(index) !== bytes[start + index]) return false;
  }
  return true;
}

/** The place of the last key, and of the key that followed each one the last time: maps repeat whole, and a guess needs no hash. */
let lastPlace = 0;
const followers = new Uint16Array(INTERNED_KEYS);

/** The key in a range of a buffer. */
export function keyAt(bytes: Uint8Array, start: number, length: number): string {
  const guess = followers[lastPlace];
  const likely = interned[guess];
  if (likely.length === length && isText(likely, bytes, start)) {
    lastPlace = guess;
    return likely;
  }
  const place = placeOf(bytes, start, length);
  lastPlace = followers[lastPlace] = place;
  const known = interned[place];
  if (known.length === length && isText(known, bytes, start)) return known;
  const key = textAt(bytes, start, length);
  // Only ASCII has as many characters as bytes, which the comparison above requires.
  if (key.length !== length) return key;
  // A property name, as V8 stores it: other strings are looked up again at each use.
  return interned[place] = Object.keys({ [key]: 0 })[0];
}
