/**
 * The weight of a message: the memory that its decoded values take, in bytes, whatever their size on the wire. The
 * reader and the writer both count it, so that no message is sent that the peer would reject.
 *
 * The figures are heap growth in Deno 2.9.6 for 20,000 values of each kind, rounded up. `tests/codec/weight_test.ts`
 * repeats the measurement.
 */

/** An empty message: its object, its map of parameters, its place in the server. */
export const MESSAGE_WEIGHT = 256;

/** An array: the object, and the 17 slots that V8 makes for its first element. */
export const ARRAY_WEIGHT = 160;

/** An element of an array: its slot, the spare slots of a growing array, and a number that needs an object. */
export const ELEMENT_WEIGHT = 32;

/** A map: the object with its first four slots, and its shape, if it has a key that no other map has. */
export const MAP_WEIGHT = 128;

/** A field of a map: its slot, its number, and its share of the shape or of the table of keys. */
export const FIELD_WEIGHT = 64;

/** A field with a key like `"7"`: its map becomes a sparse table of elements, which takes more memory. */
export const INDEXED_FIELD_WEIGHT = 256;

/** A text without its characters, or a key of more than {@linkcode SHORT_KEY_BYTES}. */
export const TEXT_WEIGHT = 32;

/** A byte of a text: one character above Latin-1 makes V8 use two bytes for each character. */
export const TEXT_BYTE_WEIGHT = 2;

/** Up to this length, the weight of the field includes the key. */
export const SHORT_KEY_BYTES = 32;

/** Binary data without its bytes: 210 bytes in V8 for an array, a buffer and a store, which are also slow to make. */
export const BINARY_WEIGHT = 512;

/** A 64-bit integer, as a bigint. */
export const INTEGER64_WEIGHT = 32;

/** Whether V8 stores a key such as `"7"` among the elements of an object and not among its names. */
export function isIndexed(key: string): boolean {
  const first = key.charCodeAt(0);
  return first >= 0x30 && first <= 0x39;
}
