/**
 * Keys of maps, each made once: nearly all were met before.
 *
 * In: a range of a buffer. Out: the key.
 */

import { FIELD_NAMES } from "./message.ts";
import { textAt } from "./text.ts";

/** Places in the table of known keys; a power of two. */
const INTERNED_KEYS = 1024;

/**
 * Keys that were met before. A key is looked up by a hash of its bytes and compared byte by byte; one that is not
 * there takes the place. So a peer that sends ever new keys gains nothing but that they are made anew each time.
 */
const interned: string[] = new Array(INTERNED_KEYS).fill("");

// The protocol's own names, and those of DELAY, are there from the start, so that a `switch` on them compares references.
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

/** The key in a range of a buffer. */
export function keyAt(bytes: Uint8Array, start: number, length: number): string {
  const place = placeOf(bytes, start, length);
  const known = interned[place];
  if (known.length === length && isText(known, bytes, start)) return known;
  const key = textAt(bytes, start, length);
  // As many characters as bytes is ASCII; only there is a byte a character, as the comparison takes it.
  if (key.length !== length) return key;
  // As V8 keeps the names of properties: a text of any other kind is looked up at each use.
  return interned[place] = Object.keys({ [key]: 0 })[0];
}
