/**
 * Queues the requests of one connection that cannot begin yet. Requests without `seq` run one at a time, and are
 * answered in order. Requests with `seq` wait until fewer handlers run.
 *
 * In: calls, and replies to refused requests. Out: each, when it may begin or leave. Refused: nothing.
 */

import type { Reply } from "../codec/message.ts";
import { Fifo } from "../session/collections.ts";
import type { Call } from "./call.ts";

/** A waiting call, or a waiting reply to a refused request. */
export type Waiting = Call | Reply<Call>;

/** The queue of one connection. */
export class RequestQueue {
  /** The running call without `seq`. */
  running: Call | undefined;
  /** The number of running handlers. */
  handlers = 0;
  /** Calls that a middleware has answered, and whose handlers still run. */
  outlasting: Set<Call> | undefined;
  /** Whether nothing may begin for now. */
  isPaused = false;
  readonly #maxRunning: number;
  readonly #inOrder = new Fifo<Waiting>();
  readonly #beside = new Fifo<Call>();

  /** @param maxRunning The maximum number of running handlers. */
  constructor(maxRunning: number) {
    this.#maxRunning = maxRunning;
  }

  /** The number of waiting entries. */
  get length(): number {
    return this.#inOrder.length + this.#beside.length;
  }

  /** The number of waiting entries without `seq`. */
  get lineLength(): number {
    return this.#inOrder.length;
  }

  /** Whether a new request without `seq` must wait for earlier ones. */
  get busy(): boolean {
    return this.running !== undefined || this.#inOrder.length > 0;
  }

  /** Whether no handler may begin. */
  get isFull(): boolean {
    return this.handlers >= this.#maxRunning || this.#beside.length > 0;
  }

  /** Adds an entry without `seq`. */
  push(waiting: Waiting): void {
    this.#inOrder.push(waiting);
  }

  /** Adds a call with `seq`. If it is settled while it waits, it stays until its turn. */
  pushBeside(call: Call): void {
    this.#beside.push(call);
  }

  /** Removes the next entry that may begin. */
  next(): Waiting | undefined {
    if (this.isPaused || this.handlers >= this.#maxRunning) return undefined;
    const next = this.running === undefined ? this.#inOrder.shift() : undefined;
    return next ?? this.#beside.shift();
  }

  /** Removes all entries. */
  takeAll(): Waiting[] {
    return [...this.#inOrder.takeAll(), ...this.#beside.takeAll()];
  }
}
