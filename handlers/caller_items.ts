/**
 * The stream of items that a caller sends with a call. Keeps items until the handler takes them, and then grants more.
 *
 * In: items and their end. Out: an async iterable for the handler, whose items have passed the command's schema;
 * credit. Refused: items that were not granted, that come after the end, or that have no room, by a failure of the
 * call; items that do not fit the schema, by an error for the handler.
 */

import { RpcError } from "../errors.ts";
import { DEFAULT_CREDIT } from "../limits.ts";
import { DONE, ItemQueue, type ItemResult, ItemWindow } from "../session/item_queue.ts";
import type { HeldItems } from "./held_items.ts";
import type { StandardSchema } from "./standard_schema.ts";
import { validated } from "./validation.ts";

/** What a caller may send before it is granted more (PROTOCOL.md, "Streams from the caller"). */
const FIRST_ITEMS = 1;

/**
 * The size of an item before the first one shows it, at least: the caller is granted one more, which always has room.
 * As objects, items can take many times their bytes.
 */
const UNKNOWN_ITEM_BYTES = 2 * 1024 * 1024;

/** For an item, or the end of a stream, if the call has no stream or its stream has ended. */
export const NOT_WANTED = new RpcError("INVALID_MESSAGE", "the call has no open stream for this message");

const NOT_GRANTED = new RpcError("INVALID_MESSAGE", "an item came that was not granted: send items as credit comes");
/** Not `OVERLOADED`, which means that the call was not started. Not a strike: the caller did not exceed its credit. */
export const NO_ROOM = new RpcError(
  "INVALID_MESSAGE",
  "the items that wait for their handlers take too much memory: they have grown since they were granted, or the " +
    "server has no memory for more",
);

/** For a handler that continues to read after its call was answered. */
const ANSWERED = new RpcError("CANCELLED", "the call was answered before all of its items were taken");

/** The options of {@linkcode CallerItems}. */
interface ItemsOptions {
  /** The memory of all items of the connection. */
  readonly held: HeldItems;
  /** The largest item, in bytes. */
  readonly maxItemBytes: number;
  /** Checks each item. */
  readonly schema: StandardSchema | undefined;
  /** Grants the caller more items. */
  grant(items: number): void;
  /** A promise if others must be served first. */
  rest(): Promise<void> | undefined;
}

/** The caller's stream of one call. */
export class CallerItems {
  /** What the handler reads. */
  readonly reader: ItemReader;
  /** Whether the caller has sent the whole stream. */
  isComplete = false;
  /** The bytes of the frames of its items. */
  receivedBytes = 0;
  readonly #held: HeldItems;
  readonly #queue: ItemQueue;

  constructor({ held, maxItemBytes, schema, grant, rest }: ItemsOptions) {
    const window = new ItemWindow(held, DEFAULT_CREDIT, Math.max(maxItemBytes, UNKNOWN_ITEM_BYTES));
    this.#held = held;
    this.#queue = new ItemQueue(window, grant);
    this.reader = new ItemReader(this.#queue, schema, rest);
    window.open(FIRST_ITEMS);
  }

  /** Whether an item may be kept, or is taken at once. If no other waits, it needs no room on its connection. */
  mayKeep(weightBytes: number): boolean {
    if (this.reader.asked > 0) return true;
    return this.#queue.length === 0 ? !this.#held.isServerFull : this.#held.mayKeep(weightBytes);
  }

  /** Adds an item. Returns the reason if the call must fail. */
  add(item: unknown, weightBytes: number, frameBytes = 0): RpcError | undefined {
    this.receivedBytes += frameBytes;
    if (this.isComplete) return NOT_WANTED;
    if (!this.mayKeep(weightBytes)) return NO_ROOM;
    return this.#queue.push(item, weightBytes) ? undefined : NOT_GRANTED;
  }

  /** The caller has sent all items. Returns the reason if the call must fail. */
  end(): RpcError | undefined {
    if (this.isComplete) return NOT_WANTED;
    this.isComplete = true;
    this.#queue.end(DONE);
  }

  /** Ends the stream: the handler gets the reason in place of further items. */
  cut(reason = ANSWERED): void {
    this.#queue.cut(reason);
  }
}

/**
 * Reads the items, once. After an error every `next()` throws, and a second loop throws at its beginning: it would get no
 * items, and a partial stream never looks complete.
 */
class ItemReader implements AsyncIterableIterator<unknown> {
  /** How many items the handler waits for. */
  asked = 0;
  readonly #queue: ItemQueue;
  readonly #schema: StandardSchema | undefined;
  readonly #rest: ItemsOptions["rest"];
  #taken = 0;
  #failure: { reason: unknown } | undefined;
  /** Whether a loop has ended or left. */
  #isRead = false;

  constructor(queue: ItemQueue, schema: StandardSchema | undefined, rest: ItemsOptions["rest"]) {
    this.#queue = queue;
    this.#schema = schema;
    this.#rest = rest;
  }

  async next(): Promise<ItemResult> {
    this.asked++;
    try {
      const result = await this.#queue.next();
      this.asked--;
      const rest = this.#rest(); // a loop would take all items that wait before anything else is done
      if (rest !== undefined) await rest;
      if (this.#failure !== undefined) throw this.#failure.reason;
      this.#isRead ||= result.done === true;
      if (result.done || this.#schema === undefined) return result;
      return { done: false, value: await validated(this.#schema, result.value, this.#taken++) };
    } catch (reason) {
      this.#failure ??= { reason };
      this.#queue.leave();
      throw reason;
    }
  }

  return(): Promise<ItemResult> {
    this.#isRead = true;
    this.#queue.leave();
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    if (this.#isRead) {
      throw new TypeError(
        "Cannot read the items again: a loop has ended or left, and dropped the rest; take single items by next()",
      );
    }
    return this;
  }
}
