/**
 * Decodes strict UTF-8 from the buffer that the socket filled.
 *
 * In: a range of a buffer. Out: text, with its byte order mark. Refused, by a {@linkcode DecodeError}: invalid UTF-8.
 */

import { DecodeError } from "./errors.ts";

/** Up to this length a loop is faster than a call of the runtime's decoder. */
const SHORT_TEXT = 40;

/** The first code point that needs one, two, three, four bytes; a lower one is an overlong sequence. */
const LEAST_POINT = [0, 0x80, 0x800, 0x1_0000];

/** Buffers for the characters of a short text, one for each length, because `apply` uses the whole array. */
const UNITS = Array.from({ length: SHORT_TEXT + 1 }, (_, length) => new Array<number>(length).fill(0));

/** The buffer while the length is unknown: concatenating characters would take ten times the memory. */
const shortUnits = new Uint16Array(SHORT_TEXT);

const replacingDecoder = new TextDecoder("utf-8", { ignoreBOM: true });
const refusingDecoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

// Made once, because making an error takes 2 µs. One read from a peer can hold twenty thousand invalid payloads.
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
