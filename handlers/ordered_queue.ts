/**
 * Requests without `seq`: one at a time, in the order in which they came, and answered in that order.
 *
 * In: calls, and replies to requests that were refused. Out: each when those before it are answered.
 */

import type { Reply } from "../codec/message.ts";
import { Fifo } from "../session/fifo.ts";
import type { Call } from "./call.ts";

/** What waits for its turn: a call, or a reply to a request that was refused. */
export type Waiting = Call | Reply<Call>;

/** The queue of one connection. */
export class OrderedQueue {
  /** The call that runs. */
  running: Call | undefined;
  readonly #waiting = new Fifo<Waiting>();

  /** How many wait. */
  get length(): number {
    return this.#waiting.length;
  }

  /** Whether what comes now must wait. */
  get busy(): boolean {
    return this.running !== undefined || this.#waiting.length > 0;
  }

  push(waiting: Waiting): void {
    this.#waiting.push(waiting);
  }

  /** Takes the next one whose turn it is. */
  next(): Waiting | undefined {
    return this.running === undefined ? this.#waiting.shift() : undefined;
  }

  /** Takes all that wait. */
  takeAll(): Waiting[] {
    return this.#waiting.takeAll();
  }
}
