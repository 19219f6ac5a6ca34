/**
 * Shares the output of one connection between the callers' streams on it: calls go first, and what waits stays little.
 *
 * In: items; after each write, that the calls of this turn were dealt. Out: items to encode; who may send more. Refused:
 * nothing.
 */

import type { RequestEnd, RequestItem } from "../codec/message.ts";
import type { EncodedItem } from "../codec/write_message.ts";

/**
 * How many bytes of items are written at once; the last item may go beyond. Calls that come meanwhile wait for these alone.
 */
export const AHEAD_BYTES = 64 * 1024;

/** What the caller's streams send. */
export type ItemMessage = Pick<RequestItem, "kind" | "seq" | "item"> | EncodedItem | Pick<RequestEnd, "kind" | "seq">;

/** A stream that waits for its turn. */
export interface WaitingItems {
  /** Looks again. */
  wake(): void;
}

/** The items of one connection. */
export class ItemOutput {
  readonly #output: { readonly queuedBytes: number };
  readonly #send: (message: ItemMessage) => void;
  #leftBytes = 0;
  #waiting = new Set<WaitingItems>();

  /**
   * @param output Counts what waits to be written.
   * @param send Encodes a message before it returns.
   */
  constructor(output: { readonly queuedBytes: number }, send: (message: ItemMessage) => void) {
    this.#output = output;
    this.#send = send;
  }

  /** Whether items may be sent now. */
  get hasRoom(): boolean {
    return this.#leftBytes > 0;
  }

  /** A stream is woken when items may be sent again. Each is woken in its order, so that streams share fairly. */
  wait(items: WaitingItems): void {
    this.#waiting.add(items);
  }

  /** Sends an item, or the end of a stream. */
  send(message: ItemMessage): void {
    const before = this.#output.queuedBytes;
    this.#send(message);
    this.#leftBytes -= this.#output.queuedBytes - before;
  }

  /** All is written. The streams go on in microtasks, and so after the calls of this turn. */
  resume(): void {
    this.#leftBytes = AHEAD_BYTES;
    if (this.#waiting.size === 0) return;
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const items of waiting) items.wake();
  }
}
