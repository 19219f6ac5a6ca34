/**
 * The buffers that frames are written into. New memory costs more than the copy of a large value into it, so the slab of a
 * large frame is used again once the frame has been sent.
 *
 * In: a size; a chunk that was sent. Out: a slab, with any bytes in it. Refused: nothing. One spare slab is kept for the whole
 * process.
 */

/** The size of a slab that many frames share. It is never written twice, because earlier frames may still be in it. */
export const SLAB_BYTES = 64 * 1024;

/** The slab before the first allocation. */
export const NO_SLAB = new Uint8Array(0);

/** Room behind binary data, so that the few bytes that follow it do not make the slab grow again. */
export const ROOM_BEHIND_BYTES = 64;

/** A range of a buffer. A view would cost 100 bytes of memory, and more time than writing the bytes. */
export interface Span {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** A larger slab is not kept. */
const LARGEST_SPARE_BYTES = 2 * 1024 * 1024;

/** The last slab of a large frame that has been sent. */
let spareSlab: Uint8Array<ArrayBuffer> | undefined;

/** A slab of at least this size, and not much larger. */
export function slabOf(bytes: number): Uint8Array<ArrayBuffer> {
  const slab = spareSlab;
  const isFit = slab !== undefined && bytes > SLAB_BYTES && bytes <= slab.length && slab.length <= 2 * bytes;
  if (!isFit) return new Uint8Array(bytes);
  spareSlab = undefined;
  return slab;
}

/**
 * Takes back the slab of a chunk, if a large frame had it to itself.
 *
 * @param chunk What was sent, and what nobody reads any more.
 */
export function reuseSlab({ buffer }: Uint8Array): void {
  const { byteLength } = buffer;
  if (byteLength > SLAB_BYTES && byteLength <= LARGEST_SPARE_BYTES) spareSlab = new Uint8Array(buffer as ArrayBuffer);
}
