/**
 * A stream at the client: receives items, hands them to the reader, and grants credit for more.
 *
 * In: replies with `more`, then the last reply. Out: an async generator. Nothing is sent before the first `next()`, so
 * an unread stream costs nothing. No more items wait than were granted. If the connection is lost, the reader gets the
 * received items before the error; if the caller ends the stream, it ends immediately.
 *
 * Refused: an invalid credit; more items than were granted.
 */

import type { Fields } from "../codec/message.ts";
import { ITEMS } from "../codec/message_table.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_CREDIT } from "../limits.ts";
import { DONE, ItemQueue, type ItemResult } from "../session/item_queue.ts";
import { ItemWindow } from "../session/item_window.ts";
import { type CallOptions, ClientCall, type ClientCallOwner, encodeCall } from "./client_call.ts";
import { isReceived } from "../session/received.ts";

/** Options of one stream. */
export interface StreamOptions extends Omit<CallOptions, "idempotent" | "hedgeAfterMs"> {
  /**
   * How many unread items may wait here. The server sends more as they are read. Large items are fewer: those of one stream
   * take 4 MiB at most.
   *
   * @default {64}
   */
  credit?: number;
}

/** A call that is answered with a stream. */
export class IncomingStream extends ClientCall implements AsyncGenerator<unknown, unknown, void> {
  readonly #credit: number;
  readonly #window: ItemWindow;
  /** The credit that its request says, in items. */
  readonly #firstCredit: number;
  readonly #items: ItemQueue;
  #begun = false;

  /**
   * @param owner The client.
   * @param name The command's name.
   * @param params Its parameters.
   * @param options The caller's options.
   * @throws {RangeError} If the credit or the timeout is invalid.
   */
  constructor(owner: ClientCallOwner, name: string, params: unknown, options: StreamOptions) {
    const { credit = DEFAULT_CREDIT, timeoutMs = Infinity } = options;
    if (!Number.isSafeInteger(credit) || credit < 1) {
      throw new RangeError(`Cannot use ${credit} as credit: it must be a whole number of items from 1 up`);
    }
    const given = { ...options, timeoutMs };
    const window = new ItemWindow(owner.itemBudget, credit, owner.settings.maxPayloadBytes);
    const firstCredit = window.size;
    super(owner, name, encodeCall(owner, name, params, given, firstCredit), given);
    this.#credit = credit;
    this.#window = window;
    this.#firstCredit = firstCredit;
    this.#items = new ItemQueue(window, (items) => this.connection?.grant(this, items));
  }

  /** A stream may last forever, but its start has the timeout of a call. */
  override get patienceMs(): number {
    return this.timeoutMs === Infinity ? this.owner.settings.timeoutMs : this.timeoutMs;
  }

  next(): Promise<ItemResult> {
    if (!this.#begun) {
      this.#begun = true;
      this.owner.counts.begun++;
      this.#window.open(this.#firstCredit);
      this.owner.begin(this);
    }
    return this.#items.next();
  }

  async return(value?: unknown): Promise<ItemResult> {
    this.#leave();
    return { done: true, value: await value };
  }

  throw(error: unknown): Promise<ItemResult> {
    this.#leave();
    return Promise.reject(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  override takeItem(value: unknown, weightBytes: number): void {
    if (!this.#items.push(value, weightBytes)) {
      const text = `the server sent more than the ${this.#credit} items that were granted`;
      return this.owner.giveUp(this, new RpcError("BAD_REPLY", text));
    }
    if (this.owner.itemBudget.isExceeded) {
      const text = "unread stream items take too much memory: read them sooner, or use a lower credit";
      this.owner.giveUp(this, new RpcError("OVERLOADED", text, { retryable: false }));
    }
  }

  override end(error: Error): void {
    this.#items.cut(error);
    super.end(error);
  }

  protected override succeed(fields: Fields, hasItems: boolean): void {
    const { res } = fields;
    if (hasItems || res === null || fields[ITEMS] === 0) return this.#finish({ done: true, value: res });
    this.#finish(new RpcError("BAD_REPLY", `command ${this.name} returns a single reply: use client.call()`));
  }

  protected override fail(error: Error): void {
    this.#finish(cutByServer(error) ?? error);
  }

  #finish(outcome: ItemResult | Error): void {
    if (outcome instanceof Error) this.owner.counts.failed(outcome);
    else this.owner.counts.answered++;
    this.#items.end(outcome);
  }

  /** The reader has left. */
  #leave(): void {
    this.#items.cut(DONE);
    if (this.#begun && !this.isSettled) {
      this.owner.giveUp(this, new RpcError("CANCELLED", "the reader has left the stream"));
    }
    this.#begun = true;
  }
}

/**
 * A server sends `CANCELLED` on its own if it shuts down and the stream outlasts the grace period. The reader must be
 * able to tell that from its own cancel: it may read on elsewhere.
 */
function cutByServer(error: Error): RpcError | undefined {
  if (!(error instanceof RpcError) || error.code !== "CANCELLED" || !isReceived(error)) return undefined;
  return new RpcError("GOING_AWAY", `the server is going away, read on elsewhere: ${error.message}`, { cause: error });
}
