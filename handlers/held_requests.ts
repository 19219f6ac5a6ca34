/**
 * Counts the memory of requests that wait or whose handlers run, and of refusals that wait for earlier replies, for one
 * connection and for the whole server.
 *
 * In: requests and refusals, when they are added and deleted. Out: whether there is memory for more. Refused: nothing.
 */

import { Patience } from "./patience.ts";
import type { ServerState } from "./server_state.ts";

/** The requests of one connection. */
export class HeldRequests {
  /** For a connection over its limit. If no call ends in time, further requests are refused. */
  readonly patience = new Patience();
  readonly #server: ServerState;
  readonly #maxBytes: number;
  readonly #maxTotalBytes: number;
  #bytes = 0;
  /** Whether the limit is reached. Stored, because every request asks for it and few change it. */
  #isFull = false;

  constructor(server: ServerState) {
    this.#server = server;
    this.#maxBytes = server.limits.maxHeldBytes;
    this.#maxTotalBytes = server.limits.maxTotalHeldBytes;
  }

  /** Whether the connection is over its limit and should wait for a call to end. */
  get mustWait(): boolean {
    return this.#isFull && !this.patience.isOver;
  }

  add(weightBytes: number): void {
    this.#bytes += weightBytes;
    this.#isFull = this.#bytes >= this.#maxBytes;
    this.#server.load.bytes += weightBytes;
  }

  delete(weightBytes: number): void {
    this.#bytes -= weightBytes;
    this.#isFull = this.#bytes >= this.#maxBytes;
    this.#server.load.bytes -= weightBytes;
    if (!this.#isFull) this.patience.renew();
  }

  /** Whether there is no memory for another request. */
  get full(): boolean {
    return this.#isFull || this.#server.load.bytes >= this.#maxTotalBytes;
  }
}
