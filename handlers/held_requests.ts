/**
 * What the requests of one connection take in memory that wait or whose handlers run, and those of the whole server.
 *
 * In: requests, as they are held and let go. Out: whether there is memory for more.
 */

import type { Request } from "../codec/message.ts";
import type { Clock } from "../transport/clock.ts";
import type { ServerState } from "./server_state.ts";

/** So long a connection that holds too many bytes is not read; if no call has ended by then, more are refused. */
const PATIENCE_MS = 1_000;

/** The requests of one connection. */
export class HeldRequests {
  readonly #server: ServerState;
  readonly #maxBytes: number;
  readonly #maxTotalBytes: number;
  #bytes = 0;
  /** Whether they take as much as they may: kept, since it is asked for each request and changes for few. */
  #isFull = false;
  /** Nothing has ended for so long that waiting is over. */
  #patienceOver = false;

  constructor(server: ServerState) {
    this.#server = server;
    this.#maxBytes = server.limits.maxHeldBytes;
    this.#maxTotalBytes = server.limits.maxTotalHeldBytes;
  }

  /** Whether the connection holds too much, and it is worth waiting for a call to end. */
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

  /** Whether there is no memory for one more request. */
  get full(): boolean {
    return this.#isFull || this.#server.load.bytes >= this.#maxTotalBytes;
  }

  /** Waits until a call ends, but not for ever: what the calls wait for may stand in messages that are not read meanwhile. */
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
