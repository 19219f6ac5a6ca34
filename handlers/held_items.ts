/**
 * Counts the memory of items that callers have sent and no handler has taken, for one connection and for the whole server.
 *
 * In: items, when they come and when they are taken or dropped. Out: whether there is memory for more; how much each stream
 * may use. Refused: nothing.
 */

import { ItemBudget } from "../session/item_queue.ts";
import { Patience } from "./patience.ts";
import type { ServerState } from "./server_state.ts";

/**
 * The memory of the items of one stream. What is granted lies in the socket before every other message of the connection: with
 * 4 MiB a PING took 3 ms beside an upload, with this 0.3; the upload is as fast.
 */
const STREAM_BYTES = 512 * 1024;

/** The items of one connection. */
export class HeldItems extends ItemBudget {
  /** With an item that has no room; if no handler takes one in time, its call fails. */
  readonly patience = new Patience();
  readonly #server: ServerState;
  readonly #onFreed: () => void;

  /** @param onFreed Is called when an item was taken or dropped. */
  constructor(server: ServerState, onFreed: () => void) {
    super(server.limits.maxQueuedBytes, STREAM_BYTES);
    this.#server = server;
    this.#onFreed = onFreed;
  }

  override hold(bytes: number): void {
    super.hold(bytes);
    this.#server.load.bytes += bytes;
    if (bytes < 0) {
      this.patience.renew();
      this.#onFreed();
    }
  }

  /** At the server's limit each stream gets one item at a time. */
  override shareBytes(ownBytes: number): number {
    return this.#isServerFull ? 0 : super.shareBytes(ownBytes);
  }

  /** Whether one more item has room on its connection. */
  hasRoomFor(bytes: number): boolean {
    return this.unreadBytes + bytes <= this.#server.limits.maxQueuedBytes;
  }

  /** Whether one more item may be kept. */
  mayKeep(bytes: number): boolean {
    return this.hasRoomFor(bytes) && !this.#isServerFull;
  }

  get #isServerFull(): boolean {
    return this.#server.load.bytes >= this.#server.limits.maxTotalHeldBytes;
  }
}
