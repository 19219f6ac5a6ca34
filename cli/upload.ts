/**
 * Sends the caller's stream of one call.
 *
 * In: items, and the credit that the server grants. Out: frames: as many items as the credit allows, each read only
 * when it may be sent; the end of the stream, or a cancel instead. Refused, and kept as the error of the call: an item
 * that cannot be read or sent.
 */

import { AHEAD_BYTES, UNGRANTED_ITEMS } from "../client/outgoing_items.ts";
import { CreditWindow, endItems, type ItemReceiver, type Items, sendEach } from "../session/item_sender.ts";
import type { OutputBuffer } from "../session/connection.ts";
import { type CallItems, cancelFrame, endFrame, itemFrame } from "./call.ts";

/** The stream of one call. */
export class Upload implements ItemReceiver {
  isSettled = false;
  /** Why the stream broke off, if the server did not end it. */
  error: unknown;
  readonly #call: CallItems;
  readonly #items: Items;
  readonly #output: OutputBuffer;
  readonly #send: (frame: Uint8Array) => void;
  readonly #credit = new CreditWindow(UNGRANTED_ITEMS);

  /**
   * @param call The call.
   * @param items Its items.
   * @param output The bytes that wait to be sent.
   * @param send Sends a frame.
   */
  constructor(call: CallItems, items: Items, output: OutputBuffer, send: (frame: Uint8Array) => void) {
    this.#call = call;
    this.#items = items;
    this.#output = output;
    this.#send = send;
  }

  /** Sends all items and the end. Never rejects. */
  async run(): Promise<void> {
    try {
      if (await sendEach(this, this.#items) !== undefined) this.#send(endFrame(this.#call.seq));
    } catch (error) {
      if (this.isSettled) return;
      this.error = error;
      this.cancel();
    }
  }

  /** The server allows more items. */
  grant(seq: number, items: number): void {
    if (seq === this.#call.seq) this.#credit.grant(items);
  }

  /** Breaks off the stream, and asks the server to end the call. */
  cancel(): void {
    this.stop();
    this.#send(cancelFrame(this.#call.seq));
  }

  /** Ends the stream at once: the server does not need the rest. */
  stop(): void {
    if (this.isSettled) return;
    this.isSettled = true;
    this.#credit.wake();
    void endItems(this.#items);
  }

  // ---- the receiver

  hold(): Promise<void> | undefined {
    if (this.#credit.left === 0) return this.#credit.granted();
    return this.#output.queuedBytes < AHEAD_BYTES ? undefined : this.#output.drained(AHEAD_BYTES);
  }

  sendItem(item: unknown): void {
    this.#credit.use();
    this.#send(itemFrame(this.#call, item));
  }
}
