/**
 * How many replies may be gathered before they must be encoded, so that the output limit is exceeded by one at the most.
 *
 * In: the room that the output has, and the replies as they come. Out: whether they are enough. What a reply takes is known
 * for certain only once it is encoded, and to encode each by itself costs more than to make it; so each counts as the
 * largest that there may be, unless it is seen at a glance that it is small. That look is taken where it matters.
 */

import { LONG_HEADER_BYTES } from "../codec/frame.ts";
import type { Fields, Reply } from "../codec/message.ts";

/** Replies that are encoded at once, however small. */
const MOST_REPLIES = 32;

/** What a value takes that is no text and holds nothing. */
const SCALAR_BYTES = 9;

/** What a text takes beside its characters, and each of them. */
const TEXT_HEADER_BYTES = 5;
const CHARACTER_BYTES = 3;

/** The replies that are encoded together. */
export class Slice {
  #roomBytes = 0;
  #replyBytes = 0;
  /** Replies that have been looked at. */
  #seen = 0;
  /** Before so many, there is room for one more for certain. */
  #end = 0;

  /**
   * Begins a slice.
   *
   * @param roomBytes What the output takes. @param payloadBytes What one reply may hold.
   */
  begin(roomBytes: number, payloadBytes: number): void {
    this.#roomBytes = roomBytes;
    this.#replyBytes = LONG_HEADER_BYTES + payloadBytes + 1;
    this.#seen = 0;
    this.#end = Math.min(Math.ceil(roomBytes / this.#replyBytes), MOST_REPLIES);
  }

  /** Whether no more may be gathered: all that have been, since it began. */
  isFull(replies: readonly Reply[]): boolean {
    const count = replies.length;
    if (count < this.#end || count === 0) return false;
    if (count >= MOST_REPLIES) return true;
    while (this.#seen < count) {
      this.#roomBytes -= Math.min(bytesAtMost(replies[this.#seen++].outcome), this.#replyBytes);
    }
    this.#end = Math.min(count + Math.ceil(this.#roomBytes / this.#replyBytes), MOST_REPLIES);
    return count >= this.#end;
  }
}

/** What a frame with these fields takes at the most; `Infinity` where that would need a closer look. */
function bytesAtMost(outcome: Fields | Error): number {
  if (outcome instanceof Error) return Infinity;
  try {
    let bytes = LONG_HEADER_BYTES + TEXT_HEADER_BYTES + 2 * (TEXT_HEADER_BYTES + SCALAR_BYTES) + 1; // with `seq` and `more`
    for (const name in outcome) {
      const value = outcome[name];
      if (typeof value === "object" && value !== null) return Infinity;
      bytes += TEXT_HEADER_BYTES + CHARACTER_BYTES * name.length;
      bytes += typeof value === "string" ? TEXT_HEADER_BYTES + CHARACTER_BYTES * value.length : SCALAR_BYTES;
    }
    return bytes;
  } catch {
    return Infinity; // a getter may do anything
  }
}
