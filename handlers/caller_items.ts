/**
 * The stream of items that a caller sends with its call: keeps them until the handler takes them, and grants more as it does.
 *
 * In: items and their end. Out: an async iterable for the handler, whose items have passed the command's schema; credit.
 * Refused: items that were not granted, that come after the end, or that have no room, by a failure of the call; items that do
 * not fit the schema, by an error for the handler.
 */

import { RpcError } from "../errors.ts";
import { DEFAULT_CREDIT } from "../limits.ts";
import { DONE, ItemQueue, type ItemResult, ItemWindow } from "../session/item_queue.ts";
import type { HeldItems } from "./held_items.ts";
import type { StandardSchema } from "./standard_schema.ts";
import { validatedItem } from "./validation.ts";

/** What a caller may send before it is granted more (PROTOCOL.md, "Streams from the caller"). */
const FIRST_ITEMS = 1;

/** For an item or an end of a call that has no stream, or of one that has ended. */
export const NOT_WANTED = new RpcError("INVALID_MESSAGE", "the call has no stream that such a message belongs to");

const NOT_GRANTED = new RpcError("INVALID_MESSAGE", "an item came that was not granted: send items as credit comes");
/** Not `OVERLOADED`, which says that a call was not started. No strike: the caller has kept to its credit. */
export const NO_ROOM = new RpcError(
  "INVALID_MESSAGE",
  "the items that wait for their handlers take too much memory: they have grown since they were granted",
);

/** For a handler that reads on after its call was answered. */
const ANSWERED = new RpcError("CANCELLED", "the call was answered before all of its items were taken");

/** How a call is seen from here. */
export interface ItemsOptions {
  /** The memory of all items of the connection. */
  readonly held: HeldItems;
  /** The largest item, in bytes. */
  readonly maxItemBytes: number;
  /** Checks each item. */
  readonly schema: StandardSchema | undefined;
  /** Grants the caller more items. */
  grant(items: number): void;
}

/** The caller's stream of one call. */
export class CallerItems {
  /** What the handler reads. */
  readonly reader: AsyncIterableIterator<unknown>;
  /** Whether the caller has sent all of it. */
  isComplete = false;
  /** The frames of its items. */
  receivedBytes = 0;
  readonly #held: HeldItems;
  readonly #queue: ItemQueue;

  constructor({ held, maxItemBytes, schema, grant }: ItemsOptions) {
    const window = new ItemWindow(held, DEFAULT_CREDIT, maxItemBytes);
    this.#held = held;
    this.#queue = new ItemQueue(window, grant);
    this.reader = new ItemReader(this.#queue, schema);
    window.open(FIRST_ITEMS);
  }

  /** Whether no item waits: one more is kept then, however large it is. */
  get isEmpty(): boolean {
    return this.#queue.length === 0;
  }

  /** Adds an item. Returns the reason if the call must fail. */
  add(item: unknown, weightBytes: number, frameBytes = 0): RpcError | undefined {
    this.receivedBytes += frameBytes;
    if (this.isComplete) return NOT_WANTED;
    if (!this.isEmpty && !this.#held.mayKeep(weightBytes)) return NO_ROOM;
    return this.#queue.push(item, weightBytes) ? undefined : NOT_GRANTED;
  }

  /** The caller has sent all items. Returns the reason if the call must fail. */
  end(): RpcError | undefined {
    if (this.isComplete) return NOT_WANTED;
    this.isComplete = true;
    this.#queue.end(DONE);
  }

  /** The call is over: the handler gets no more items, but the reason. */
  cut(reason = ANSWERED): void {
    this.#queue.cut(reason);
  }
}

/** The items, as a handler reads them, once. After an error it is never done: half a stream must not be taken for a whole one. */
class ItemReader implements AsyncIterableIterator<unknown> {
  readonly #queue: ItemQueue;
  readonly #schema: StandardSchema | undefined;
  #taken = 0;
  #failure: { reason: unknown } | undefined;

  constructor(queue: ItemQueue, schema: StandardSchema | undefined) {
    this.#queue = queue;
    this.#schema = schema;
  }

  async next(): Promise<ItemResult> {
    try {
      const result = await this.#queue.next();
      if (this.#failure !== undefined) throw this.#failure.reason;
      if (result.done || this.#schema === undefined) return result;
      return { done: false, value: await validatedItem(this.#schema, result.value, this.#taken++) };
    } catch (reason) {
      this.#failure ??= { reason };
      this.#queue.leave();
      throw reason;
    }
  }

  return(): Promise<ItemResult> {
    this.#queue.leave();
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
