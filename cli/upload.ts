/**
 * Sends the caller's stream of one call.
 *
 * In: items, and the credit that the server grants. Out: frames: as many items as are granted, each read only then; the
 * end, or a cancel in its place. Refused, kept as the error of the call: an item that cannot be read or sent.
 */

import { CreditWindow, endItems, type ItemReceiver, type Items, sendEach } from "../session/item_sender.ts";
import type { OutputBuffer } from "../session/connection.ts";
import { type CallItems, cancelFrame, endFrame, itemFrame } from "./call.ts";

/** How many items may be sent before the server takes any (PROTOCOL.md, "Streams from the caller"). */
const FIRST_CREDIT = 1;

/** How much may wait to be sent. More would only be read ahead. */
const AHEAD_BYTES = 64 * 1024;

/** The stream of one call. */
export class Upload implements ItemReceiver {
  isSettled = false;
  /** Why the stream broke off, if it is not the server's doing. */
  error: unknown;
  readonly #call: CallItems;
  readonly #items: Items;
  readonly #output: OutputBuffer;
  readonly #send: (frame: Uint8Array) => void;
  readonly #credit = new CreditWindow(FIRST_CREDIT);

  /**
   * @param call The call.
   * @param items Its items.
   * @param output What waits to be sent.
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

  /** The server takes more. */
  grant(seq: number, items: number): void {
    if (seq === this.#call.seq) this.#credit.grant(items);
  }

  /** Breaks the stream off: the server ends the call. */
  cancel(): void {
    this.stop();
    this.#send(cancelFrame(this.#call.seq));
  }

  /** Ends the stream at once: the server wants no more of it. */
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
