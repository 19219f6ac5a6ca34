/**
 * Counts the memory of requests that wait or whose handlers run, for one connection and for the whole server.
 *
 * In: requests, when they are added and deleted. Out: whether there is memory for more. Refused: nothing.
 */

import type { Request } from "../codec/message.ts";
import type { Clock } from "../transport/clock.ts";
import type { ServerState } from "./server_state.ts";

/** How long a connection over its limit is not read; if no call has ended by then, further requests are refused. */
const PATIENCE_MS = 1_000;

/** The requests of one connection. */
export class HeldRequests {
  readonly #server: ServerState;
  readonly #maxBytes: number;
  readonly #maxTotalBytes: number;
  #bytes = 0;
  /** Whether the limit is reached. Stored, because every request asks for it and few change it. */
  #isFull = false;
  /** No call ended within the patience. */
  #patienceOver = false;

  constructor(server: ServerState) {
    this.#server = server;
    this.#maxBytes = server.limits.maxHeldBytes;
    this.#maxTotalBytes = server.limits.maxTotalHeldBytes;
  }

  /** Whether the connection is over its limit and should wait for a call to end. */
  get mustWait(): boolean {
    return this.#isFull && !this.#patienceOver;
  }

  add({ weightBytes }: Request): void {
    this.#bytes += weightBytes;
    this.#isFull = this.#bytes >= this.#maxBytes;
    this.#server.load.bytes += weightBytes;
  }

  delete({ weightBytes }: Request): void {
    this.#bytes -= weightBytes;
    this.#isFull = this.#bytes >= this.#maxBytes;
    this.#server.load.bytes -= weightBytes;
    if (!this.#isFull) this.#patienceOver = false;
  }

  /** Whether there is no memory for another request. */
  get full(): boolean {
    return this.#isFull || this.#server.load.bytes >= this.#maxTotalBytes;
  }

  /** Waits until a call ends, with a limit: the calls may need messages that are not read meanwhile. */
  async untilOneEnds(clock: Clock, onEnd: (resume: () => void) => void): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    onEnd(resolve);
    const giveUp = () => {
      this.#patienceOver = true;
      resolve();
    };
    const timer = clock.setTimer(giveUp, PATIENCE_MS, false);
    await promise;
    clock.clearTimer(timer);
  }
}
