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
  /** How many of these are settled already. They are skipped. */
  #settled = 0;

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

  /** Adds a call with `seq`. */
  pushBeside(call: Call): void {
    this.#beside.push(call);
  }

  /**
   * A call with `seq` was settled while it waited. Now and then this removes all such calls, because the handlers that
   * run may never end.
   */
  forget(): void {
    if (2 * ++this.#settled <= this.#beside.length) return;
    const open = this.#beside.takeAll().filter((call) => !call.isSettled);
    for (const call of open) this.#beside.push(call);
    this.#settled = 0;
  }

  /** Removes the next entry that may begin. */
  next(): Waiting | undefined {
    if (this.isPaused || this.handlers >= this.#maxRunning) return undefined;
    const next = this.running === undefined ? this.#inOrder.shift() : undefined;
    return next ?? this.#nextBeside();
  }

  #nextBeside(): Call | undefined {
    let call = this.#beside.shift();
    for (; call?.isSettled; call = this.#beside.shift()) this.#settled--;
    return call;
  }

  /** Removes all entries. */
  takeAll(): Waiting[] {
    this.#settled = 0;
    return [...this.#inOrder.takeAll(), ...this.#beside.takeAll()];
  }
}
