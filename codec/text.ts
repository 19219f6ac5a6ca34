/**
 * Decodes strict UTF-8 from the buffer that the socket filled: texts, and the keys of maps. The strings of keys are
 * reused, because nearly all keys repeat. Sets fields with such keys. Shortens texts.
 *
 * In: a range of a buffer; a map and a key; a text. Out: text, with its byte order mark; a key; the map with its field;
 * the beginning of a text.
 * Refused, by a {@linkcode DecodeError}: invalid UTF-8.
 */

import { DecodeError } from "./errors.ts";
import { FIELD_NAMES } from "./message.ts";

/** Up to this length a loop is faster than a call of the runtime's decoder. */
const SHORT_TEXT = 40;

/** The first code point that needs one, two, three, four bytes. A lower code point is an overlong sequence. */
const LEAST_POINT = [0, 0x80, 0x800, 0x1_0000];

/** Buffers for the characters of a short text, one for each length, because `apply` uses the whole array. */
const UNITS = Array.from({ length: SHORT_TEXT + 1 }, (_, length) => new Array<number>(length).fill(0));

/** The buffer while the length is unknown: concatenating characters would take ten times the memory. */
const shortUnits = new Uint16Array(SHORT_TEXT);

const replacingDecoder = new TextDecoder("utf-8", { ignoreBOM: true });
const refusingDecoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

// Made once, because making an error takes 2 µs. One read from a peer can contain twenty thousand invalid payloads.
const NO_TEXT = new DecodeError("text is not valid UTF-8");

/** The text in a range of a buffer. */
export function textAt(bytes: Uint8Array, start: number, length: number): string {
  const end = start + length;
  if (length <= SHORT_TEXT) {
    const units = UNITS[length];
    let bits = 0;
    for (let index = 0; index < length; index++) {
      const byte = bytes[start + index];
      bits |= byte;
      units[index] = byte;
    }
    return bits < 0x80 ? String.fromCharCode.apply(null, units) : shortText(bytes, start, end);
  }
  // The replacing decoder is several times faster than the fatal one. A result without U+FFFD was valid. With it the
  // text may still be valid, because U+FFFD is a character too.
  const text = replacingDecoder.decode(bytes.subarray(start, end));
  if (!text.includes("\ufffd")) return text;
  try {
    return refusingDecoder.decode(bytes.subarray(start, end));
  } catch {
    throw NO_TEXT;
  }
}

/** Strict UTF-8, by character. For short text it is faster than the runtime's decoder, and much faster for errors. */
function shortText(bytes: Uint8Array, start: number, end: number): string {
  let count = 0;
  for (let at = start; at < end;) {
    const lead = bytes[at++];
    if (lead >= 0x80 && lead < 0xc2 || lead > 0xf4) throw NO_TEXT;
    const more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    let point = more === 0 ? lead : lead & (0x3f >> more);
    for (let left = more; left > 0; left--) {
      const byte = at < end ? bytes[at++] : 0;
      if (byte >> 6 !== 0b10) throw NO_TEXT;
      point = point << 6 | byte & 0x3f;
    }
    const isSurrogate = point >> 11 === 0xd800 >> 11;
    if (point < LEAST_POINT[more] || point > 0x10ffff || isSurrogate) throw NO_TEXT;
    if (point > 0xffff) {
      point -= 0x1_0000;
      shortUnits[count++] = 0xd800 | point >> 10;
      point = 0xdc00 | point & 0x3ff;
    }
    shortUnits[count++] = point;
  }
  const units = UNITS[count];
  for (let index = 0; index < count; index++) units[index] = shortUnits[index];
  return String.fromCharCode.apply(null, units);
}

/** Slots in the table of known keys; a power of two. */
const INTERNED_KEYS = 1024;

/**
 * Known keys, found by a hash of their bytes and compared byte by byte. An unknown key replaces the key in its slot. So
 * new keys from a peer cost no memory; only the benefit of the table is lost.
 */
const interned: string[] = new Array(INTERNED_KEYS).fill("");

// The names of the protocol and of DELAY are present from the start, so that a `switch` on them compares references.
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
  // Only ASCII has as many characters as bytes, which the comparison above requires.
  if (key.length !== length) return key;
  // A property name, as V8 stores it: other strings are looked up again at each use.
  return interned[place] = Object.keys({ [key]: 0 })[0];
}

/** An index so large that V8 stores the object's elements in a hash table. */
const FAR_INDEX = 2 ** 32 - 2;

/**
 * Stores an object's elements in a hash table from now on. Otherwise V8 allocates an array with 3,800 slots for two
 * keys such as 1023 and 2572.
 */
export function keepAsTable(object: Record<string, unknown>): void {
  if (Object.hasOwn(object, FAR_INDEX)) return; // it is one already
  object[FAR_INDEX] = 0;
  delete object[FAR_INDEX];
}

/**
 * Sets an own field with any name. A plain assignment may change the prototype for `__proto__`, and fails for
 * `toString` in a program that has frozen `Object.prototype`.
 */
export function setField(fields: Record<string, unknown>, name: string, value: unknown): void {
  if (name === "__proto__") return defineField(fields, name, value);
  try {
    fields[name] = value;
  } catch {
    defineField(fields, name, value);
  }
}

function defineField(fields: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(fields, name, { value, writable: true, enumerable: true, configurable: true });
}

/** The first characters of a text, of UTF-16. Half of a pair of them is no text: it is left out. */
export function beginningOf(text: string, maxChars: number): string {
  const isPairCut = (text.codePointAt(maxChars - 1) ?? 0) > 0xffff;
  return text.slice(0, isPairCut ? maxChars - 1 : maxChars);
}

/** A text, shortened if it is longer: it may come from a peer and have any length. */
export function shortened(text: string, maxChars: number): string {
  return text.length > maxChars ? `${beginningOf(text, maxChars)}…` : text;
}
