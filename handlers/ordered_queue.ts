/**
 * Queues requests without `seq`, so that they run and are answered one at a time, in order.
 *
 * In: calls, and replies to refused requests. Out: each, after the ones before it are answered. Refused: nothing.
 */

import type { Reply } from "../codec/message.ts";
import { Fifo } from "../session/fifo.ts";
import type { Call } from "./call.ts";

/** A waiting call, or a waiting reply to a refused request. */
export type Waiting = Call | Reply<Call>;

/** The queue of one connection. */
export class OrderedQueue {
  /** The running call. */
  running: Call | undefined;
  readonly #waiting = new Fifo<Waiting>();

  /** The number of waiting entries. */
  get length(): number {
    return this.#waiting.length;
  }

  /** Whether a new request must wait. */
  get busy(): boolean {
    return this.running !== undefined || this.#waiting.length > 0;
  }

  push(waiting: Waiting): void {
    this.#waiting.push(waiting);
  }

  /** Removes the next entry if no call runs. */
  next(): Waiting | undefined {
    return this.running === undefined ? this.#waiting.shift() : undefined;
  }

  /** Removes all entries. */
  takeAll(): Waiting[] {
    return this.#waiting.takeAll();
  }
}
