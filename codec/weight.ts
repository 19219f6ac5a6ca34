/**
 * What a message weighs: the bytes of memory that its values take once they are read, whatever they took on the wire.
 * The reader weighs as it reads, and the writer as it writes, so that a message which the peer would refuse is not sent.
 *
 * The figures were measured as growth of the heap of Deno 2.9.6 over 20,000 values of a kind, which
 * `tests/codec/weight_test.ts` does again, and rounded up.
 */

/** A message by itself: its object, the map of its parameters, its place in the server. */
export const MESSAGE_WEIGHT = 256;

/** An array: the object, and the 17 slots that V8 makes for its first element. */
export const ARRAY_WEIGHT = 160;

/** One element of an array: its slot, the slack that an array grows with, and a number that needs an object. */
export const ELEMENT_WEIGHT = 32;

/** A map: the object with its first four slots, and with a key that no other map has, what describes it. */
export const MAP_WEIGHT = 128;

/** One field of a map: its slot, its number, and its share of the shape or of the table of keys. */
export const FIELD_WEIGHT = 64;

/** A field with a key like `"7"`, more than any other: its map is kept as a table of elements, most of them free. */
export const INDEXED_FIELD_WEIGHT = 256;

/** A text, or a key of more than {@linkcode SHORT_KEY_BYTES}, without its characters. */
export const TEXT_WEIGHT = 32;

/** A byte of a text: a text with a single character beyond Latin-1 keeps two bytes for each. */
export const TEXT_BYTE_WEIGHT = 2;

/** Up to this length, a key weighs no more than its field. */
export const SHORT_KEY_BYTES = 32;

/** Binary data without its bytes: 210 bytes in V8, for an array, a buffer and a store. They also take long to make. */
export const BINARY_WEIGHT = 512;

/** An integer of 64 bits, as a bigint. */
export const INTEGER64_WEIGHT = 32;

/** Whether a key is kept among the elements of an object, as `"7"` is, and not among its names. */
export function isIndexed(key: string): boolean {
  const first = key.charCodeAt(0);
  return first >= 0x30 && first <= 0x39;
}
