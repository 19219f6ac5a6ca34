/**
 * The masks of WebSocket frames (RFC 6455, section 5.3).
 *
 * In: bytes and a mask. Out: the bytes, masked or unmasked in place. Refused: nothing.
 */

/** The length of a mask. */
export const MASK_BYTES = 4;

/** Random bytes for masks, generated many at a time. */
const random = new Uint8Array(4096);
let randomStart = random.length;

/** Makes an unpredictable mask, so that no page can make a client send bytes of its choice to a proxy. */
export function randomMask(): Uint8Array {
  if (randomStart === random.length) {
    crypto.getRandomValues(random);
    randomStart = 0;
  }
  return random.subarray(randomStart, randomStart += MASK_BYTES);
}

/** The mask as it applies to a word, in the order of this machine's bytes. */
const turned = new Uint8Array(MASK_BYTES);
const turnedWord = new Int32Array(turned.buffer);

/** From this many bytes up, words are faster. */
const WORDS_FROM_BYTES = 64;

/**
 * Masks or unmasks bytes in place.
 *
 * @param offset How many bytes of the payload come before these bytes.
 */
export function applyMask(bytes: Uint8Array, start: number, end: number, mask: Uint8Array, offset: number): void {
  let at = start;
  if (end - start >= WORDS_FROM_BYTES) {
    for (; ((bytes.byteOffset + at) & 3) !== 0; at++) bytes[at] ^= mask[(offset + at - start) & 3];
    for (let each = 0; each < MASK_BYTES; each++) turned[each] = mask[(offset + at - start + each) & 3];
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, (end - at) >> 2);
    const word = turnedWord[0];
    for (let each = 0; each < words.length; each++) words[each] ^= word;
    at += 4 * words.length;
  }
  for (; at < end; at++) bytes[at] ^= mask[(offset + at - start) & 3];
}
