/**
 * A stream at the client: receives items, hands them to the reader, and grants credit for more.
 *
 * In: replies with `more`, then the last reply. Out: an async generator. Nothing is sent before the first `next()`, so
 * an unread stream costs nothing. No more items wait than were granted. If the connection is lost, the reader gets the
 * received items before the error; if the caller ends the stream, it ends immediately.
 *
 * Refused: an invalid credit; more items than were granted.
 */

import { type Fields, ITEMS } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_CREDIT } from "../limits.ts";
import { CreditWindow } from "../session/credit.ts";
import { Fifo } from "../session/fifo.ts";
import { type CallOptions, ClientCall, type ClientCallOwner, encodeCall } from "./client_call.ts";
import { isReceived } from "../session/received.ts";

/** Options of one stream. */
export interface StreamOptions extends Omit<CallOptions, "idempotent" | "hedgeAfterMs"> {
  /**
   * How many unread items may wait here. The server sends more as they are read.
   *
   * @default {64}
   */
  credit?: number;
}

type Result = IteratorResult<unknown, unknown>;

/** The memory that unread items of one client may take. */
const MAX_HELD_BYTES = 256 * 1024 * 1024;

/** The result of every `next()` after the end. */
const DONE: Result = Object.freeze({ done: true, value: undefined });

/** A call that is answered with a stream. */
export class IncomingStream extends ClientCall implements AsyncGenerator<unknown, unknown, void> {
  readonly #window: CreditWindow;
  readonly #credit: number;
  #begun = false;
  readonly #items = new Fifo<{ value: unknown; weightBytes: number }>();
  /** Calls of `next()` that wait for an item. */
  #waiting: PromiseWithResolvers<Result>[] = [];
  /** The final result or error. */
  #outcome: Result | Error | undefined;

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
    super(owner, name, encodeCall(owner, name, params, given, credit), given);
    this.#credit = credit;
    this.#window = new CreditWindow(credit);
  }

  /** A stream may last forever, but its start has the timeout of a call. */
  override get patienceMs(): number {
    return this.timeoutMs === Infinity ? this.owner.settings.timeoutMs : this.timeoutMs;
  }

  // Not async, so that concurrent calls are served in order.
  next(): Promise<Result> {
    if (!this.#begun) {
      this.#begun = true;
      this.owner.counts.begun++;
      this.owner.begin(this);
    }
    if (this.#items.length > 0) {
      const { value, weightBytes } = this.#items.shift() as { value: unknown; weightBytes: number };
      this.owner.counts.heldBytes -= weightBytes;
      this.#grant();
      return Promise.resolve({ done: false, value });
    }
    const waiting = Promise.withResolvers<Result>();
    this.#waiting.push(waiting);
    if (this.#outcome) this.#handOutcome();
    return waiting.promise;
  }

  async return(value?: unknown): Promise<Result> {
    this.#leave();
    return { done: true, value: await value };
  }

  throw(error: unknown): Promise<Result> {
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
    if (!this.#window.use()) {
      const text = `the server sent more than the ${this.#credit} items that were granted`;
      return this.owner.giveUp(this, new RpcError("BAD_REPLY", text));
    }
    const waiting = this.#waiting.shift();
    if (waiting) {
      waiting.resolve({ done: false, value });
      this.#grant();
    } else if (this.owner.counts.heldBytes + weightBytes > MAX_HELD_BYTES) {
      const text = "unread stream items take too much memory: read them sooner, or use a lower credit";
      this.owner.giveUp(this, new RpcError("OVERLOADED", text, { retryable: false }));
    } else {
      this.owner.counts.heldBytes += weightBytes;
      this.#items.push({ value, weightBytes });
    }
  }

  override end(error: Error): void {
    this.#drop();
    super.end(error);
  }

  protected override succeed(fields: Fields, hasItems: boolean): void {
    const { res } = fields;
    this.#outcome = hasItems || res === null || fields[ITEMS] === 0
      ? { done: true, value: res }
      : new RpcError("BAD_REPLY", `command ${this.name} returns a single reply: use client.call()`);
    this.#count(this.#outcome);
    this.#handOutcome();
  }

  protected override fail(error: Error): void {
    this.#outcome ??= cutByServer(error) ?? error;
    this.#count(this.#outcome);
    this.#handOutcome();
  }

  #count(outcome: Result | Error): void {
    if (outcome instanceof Error) this.owner.counts.failed(outcome);
    else this.owner.counts.answered++;
  }

  #grant(): void {
    const items = this.#window.take();
    if (items > 0 && !this.isSettled) this.connection?.grant(this, items);
  }

  /** Gives the outcome to the first waiting `next()`; all others get "done". */
  #handOutcome(): void {
    for (const waiting of this.#waiting) {
      if (this.#outcome instanceof Error) waiting.reject(this.#outcome);
      else waiting.resolve(this.#outcome as Result);
      this.#outcome = DONE;
    }
    this.#waiting = [];
  }

  /** The reader has left. */
  #leave(): void {
    this.#outcome = DONE;
    this.#handOutcome();
    if (this.#begun && !this.isSettled) {
      this.owner.giveUp(this, new RpcError("CANCELLED", "the reader has left the stream"));
    }
    this.#begun = true;
    this.#drop();
  }

  #drop(): void {
    for (const { weightBytes } of this.#items.takeAll()) this.owner.counts.heldBytes -= weightBytes;
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
