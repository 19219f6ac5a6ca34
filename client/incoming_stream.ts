/**
 * A stream at its caller: items as they come, handed out one by one, and more granted as they are taken.
 *
 * In: replies with `more`, then the last one. Out: an async generator. Nothing is sent before the first item is asked
 * for, so a stream that nobody reads costs nothing; and never more items wait than were granted. What came before the
 * connection was lost is handed out before the error is; what the caller ended itself ends at once.
 *
 * Refused: a credit that is none; more items than were granted.
 */

import { type Fields, ITEMS } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_CREDIT } from "../limits.ts";
import { CreditWindow } from "../session/credit.ts";
import { Fifo } from "../session/fifo.ts";
import { type CallOptions, ClientCall, type ClientCallOwner } from "./client_call.ts";
import { isReceived } from "../session/received.ts";

/** What a caller can say about one stream. */
export interface StreamOptions extends Omit<CallOptions, "idempotent"> {
  /**
   * How many items may wait here; the server goes on as they are taken.
   *
   * @default {64}
   */
  credit?: number;
}

type Result = IteratorResult<unknown, unknown>;

/** What items that wait for their readers may take of memory, at one client. */
const MAX_HELD_BYTES = 256 * 1024 * 1024;

/** What stands behind the end. */
const DONE: Result = Object.freeze({ done: true, value: undefined });

/** A call that is answered with a stream. */
export class IncomingStream extends ClientCall implements AsyncGenerator<unknown, unknown, void> {
  readonly #window: CreditWindow;
  readonly #credit: number;
  #begun = false;
  readonly #items = new Fifo<{ value: unknown; weightBytes: number }>();
  /** Those who have asked for an item that has not come. */
  #waiting: PromiseWithResolvers<Result>[] = [];
  /** What the items end with. */
  #outcome: Result | Error | undefined;

  /**
   * @param owner The client.
   * @param name The command's name.
   * @param params Its parameters.
   * @param options What the caller said about it.
   * @throws {RangeError} If the credit or the timeout is none.
   */
  constructor(owner: ClientCallOwner, name: string, params: unknown, options: StreamOptions) {
    const { credit = DEFAULT_CREDIT, timeoutMs = Infinity } = options;
    if (!Number.isSafeInteger(credit) || credit < 1) {
      throw new RangeError(`Cannot use ${credit} as credit: it must be a whole number of items from 1 up`);
    }
    super(owner, name, params, { ...options, timeoutMs }, credit);
    this.#credit = credit;
    this.#window = new CreditWindow(credit);
  }

  /** A stream may last for ever, but it does not wait for ever to begin: then as long as a call. */
  protected override get patienceMs(): number {
    return this.timeoutMs === Infinity ? this.owner.settings.timeoutMs : this.timeoutMs;
  }

  // Not async, so that several that ask at once are served in their order.
  next(): Promise<Result> {
    if (!this.#begun) {
      this.#begun = true;
      this.owner.begin(this);
    }
    if (this.#items.length > 0) {
      const { value, weightBytes } = this.#items.shift() as { value: unknown; weightBytes: number };
      this.owner.received.heldBytes -= weightBytes;
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
      const text = `more than the ${this.#credit} items came that were granted`;
      return this.owner.giveUp(this, new RpcError("BAD_REPLY", text));
    }
    const waiting = this.#waiting.shift();
    if (waiting) {
      waiting.resolve({ done: false, value });
      this.#grant();
    } else if (this.owner.received.heldBytes + weightBytes > MAX_HELD_BYTES) {
      const text =
        "items wait here for their readers and take too much memory: read them sooner, or ask for less credit";
      this.owner.giveUp(this, new RpcError("OVERLOADED", text, { retryable: false }));
    } else {
      this.owner.received.heldBytes += weightBytes;
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
      : new RpcError("BAD_REPLY", `command ${this.name} answers once: read it with client.call()`);
    this.#handOutcome();
  }

  protected override fail(error: Error): void {
    this.#outcome ??= cutByServer(error) ?? error;
    this.#handOutcome();
  }

  #grant(): void {
    const items = this.#window.take();
    if (items > 0 && !this.isSettled) this.connection?.grant(this, items);
  }

  /** To the first that waits; the others, and all that come later, find the end. */
  #handOutcome(): void {
    for (const waiting of this.#waiting) {
      if (this.#outcome instanceof Error) waiting.reject(this.#outcome);
      else waiting.resolve(this.#outcome as Result);
      this.#outcome = DONE;
    }
    this.#waiting = [];
  }

  /** Whoever read it reads no more. */
  #leave(): void {
    this.#outcome = DONE;
    this.#handOutcome();
    if (this.#begun && !this.isSettled) this.owner.giveUp(this, new RpcError("CANCELLED", "its reader has left"));
    this.#begun = true;
    this.#drop();
  }

  #drop(): void {
    for (const { weightBytes } of this.#items.takeAll()) this.owner.received.heldBytes -= weightBytes;
  }
}

/**
 * A server says `CANCELLED` unasked where it shuts down and the stream has lasted longer than the grace. Its reader must be
 * able to tell that from an end of its own choice.
 */
function cutByServer(error: Error): RpcError | undefined {
  if (!(error instanceof RpcError) || error.code !== "CANCELLED" || !isReceived(error)) return undefined;
  return new RpcError("CONNECTION_LOST", `the server ended the stream: ${error.message}`, { cause: error });
}
