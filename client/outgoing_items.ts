/**
 * The callers' streams: sends the items of a call as the server takes them, ends their source after the call has ended,
 * and shares the output of one connection between all streams. Calls go first, and little output waits.
 *
 * In: any iterable, or a `ReadableStream`; grants; a signal after each write, when the calls of the turn were sent.
 * Out: items, then the end of the stream. Until the first grant, the call may be resent, so the one item that was sent
 * is kept, encoded. Refused: a value that is not a source of items; an item that cannot be sent, which ends the call.
 */

import { EncodeError, kindOf, PayloadTooLargeError } from "../codec/errors.ts";
import type { RequestEnd, RequestItem } from "../codec/message.ts";
import type { EncodedItem } from "../codec/write_message.ts";
import type { Span } from "../codec/frame.ts";
import { CreditWindow, type ItemReceiver, type Items, iteratorOf, sendEach } from "../session/item_sender.ts";
import { messageOf } from "../transport/runtime.ts";
import type { ItemSource } from "./call_options.ts";

/** How many items may be sent before the first grant (PROTOCOL.md, "Streams from the caller"). */
export const UNGRANTED_ITEMS = 1;

/**
 * How many bytes of items are written at once; the last item may exceed this. Calls made meanwhile wait only for these
 * bytes.
 */
export const AHEAD_BYTES = 64 * 1024;

/** The call that the items belong to. */
export interface ItemsCall {
  readonly name: string;
  /** Identifies it on its connection. */
  readonly id: number;
  readonly isSettled: boolean;
  /** The connection that the call was sent on, unless the call waits to be resent. */
  readonly connection: { readonly items: ItemOutput } | undefined;
  /** Encodes an item that may have to be sent again. */
  encodeItem(item: unknown): Span;
  /** Ends the call, because its stream cannot continue. */
  giveUp(error: Error): void;
}

/** The items of one call. */
export class OutgoingItems implements ItemReceiver {
  readonly #call: ItemsCall;
  readonly #source: ItemSource;
  readonly #credit = new CreditWindow(UNGRANTED_ITEMS);
  /** `complete`: all items were sent; `over`: no more will be sent, and the source has ended or was told to end. */
  #state: "new" | "open" | "complete" | "over" = "new";
  /** The iterator of the source. */
  #items: Items | undefined;
  #sentItems = 0;
  /** The item that the source gave while other streams filled the output. */
  #held: { readonly item: unknown } | undefined;
  /** The item that was sent without a grant, kept until the first grant. */
  #first: Span | undefined;
  #isGranted = false;

  /**
   * @param source See `checkItems()`.
   */
  constructor(call: ItemsCall, source: ItemSource) {
    this.#call = call;
    this.#source = source;
  }

  /** Whether a handler has taken items. Then the call cannot be sent again. */
  get isGranted(): boolean {
    return this.#isGranted;
  }

  get isSettled(): boolean {
    return this.#call.isSettled;
  }

  /** The request was sent, or sent again. */
  start(): void {
    if (this.#state === "new") {
      this.#state = "open";
      return void this.#run();
    }
    if (this.#first) this.#sendFirst(this.#first);
    if (this.#state === "complete") this.#sendEnd();
    this.#credit.wake();
  }

  /** The server grants more items. */
  grant(items: number): void {
    this.#isGranted = true;
    this.#first = undefined;
    this.#credit.grant(items);
  }

  hold(): Promise<void> | undefined {
    if (this.#credit.left === 0) return this.#credit.granted();
    const output = this.#call.connection?.items;
    if (!output?.hasRoom) {
      output?.wait(this.#credit); // without a connection, `start()` wakes
      return this.#credit.granted();
    }
    if (!this.#held) return undefined;
    const { item } = this.#held;
    this.#held = undefined;
    this.#sendNow(item);
    return Promise.resolve();
  }

  /**
   * Other streams may have filled the output while the source made the item. Then the item waits, and no further item
   * is requested.
   */
  sendItem(item: unknown): void {
    if (this.#call.connection?.items.hasRoom) this.#sendNow(item);
    else this.#held = { item };
  }

  #sendNow(item: unknown): void {
    const index = this.#sentItems++;
    try {
      if (this.#isGranted) this.#send({ kind: "request item", seq: this.#call.id, item });
      else this.#sendFirst(this.#first = this.#call.encodeItem(item));
      this.#credit.use();
    } catch (error) {
      this.#call.giveUp(unsendable(this.#call.name, error, `items[${index}]${faultOf(error)}`));
    }
  }

  /** The call has ended. Ends the source too, unless all its items were sent. */
  end(): void {
    const isOpen = this.#state === "new" || this.#state === "open";
    this.#state = "over";
    this.#first = this.#held = undefined;
    this.#credit.wake();
    if (isOpen) void endLater(() => this.#open().return?.());
  }

  async #run(): Promise<void> {
    try {
      await undefined; // the source's code runs after the calls of this turn were sent
      if (this.isSettled) return;
      await sendEach(this, this.#open());
      if (this.isSettled) return; // the call may have ended meanwhile
      this.#state = "complete";
      this.#sendEnd();
    } catch (error) {
      if (this.#state === "over") return; // after the end, an error of the source does not matter
      this.#state = "over";
      this.#call.giveUp(
        error instanceof Error ? error : new Error("the items threw no Error", { cause: error }),
      );
    }
  }

  #open(): Items {
    return this.#items ??= iteratorOf(this.#source);
  }

  #sendFirst(item: Span): void {
    this.#send({ kind: "encoded item", seq: this.#call.id, item });
  }

  #sendEnd(): void {
    this.#send({ kind: "request end", seq: this.#call.id });
  }

  /** Sends, unless the call waits to be sent again: `start()` then sends it. */
  #send(message: ItemMessage): void {
    this.#call.connection?.items.send(message);
  }
}

/** Ends a source of items whose call was never made. */
export function dropItems(source: ItemSource | undefined): void {
  if (source) void endLater(() => iteratorOf(source).return?.());
}

/** Makes a call. If the call cannot be made, ends its caller's stream. The options may be none yet. */
export function orDrop<Call>(options: { readonly items?: ItemSource }, make: () => Call): Call {
  try {
    return make();
  } catch (error) {
    dropItems(options?.items);
    throw error;
  }
}

/** Ends what is a user's. Async and delayed, so that the user's code runs after the code that ended its use. */
export async function endLater(end: () => unknown): Promise<void> {
  try {
    await undefined;
    await end();
  } catch {
    // Its use is over, so an error does not matter.
  }
}

/**
 * Checks a source of items.
 *
 * @throws {TypeError} If it is not a source of items. Bytes and text are iterables, but of numbers and letters, which
 * nobody wants to send one by one.
 */
export function checkItems(name: string, source: unknown): asserts source is ItemSource {
  const fault = faultIn(source);
  if (fault) throw new TypeError(`Cannot call ${name}: items ${fault}`);
}

function faultIn(source: unknown): string | undefined {
  if (typeof source === "string") return "is text: give [text]";
  if (ArrayBuffer.isView(source)) return "is bytes: give [bytes]";
  // First, because a ReadableStream of Safari is not iterable.
  if (source instanceof ReadableStream) return source.locked ? "is a locked ReadableStream" : undefined;
  if (Object(source) !== source || !isIterable(source as object)) {
    return `must be an iterable or a ReadableStream, and is ${kindOf(source)}`;
  }
}

function isIterable(source: object): boolean {
  return Symbol.asyncIterator in source || Symbol.iterator in source;
}

/** What is wrong with an item: the path in it, if there is one, and the fault. */
function faultOf(error: unknown): string {
  const text = messageOf(error);
  return error instanceof EncodeError && /^item\b/.test(text) ? text.slice("item".length) : `: ${text}`;
}

/** The messages of the callers' streams. */
export type ItemMessage = Pick<RequestItem, "kind" | "seq" | "item"> | EncodedItem | Pick<RequestEnd, "kind" | "seq">;

/** A stream that waits for its turn. */
interface WaitingItems {
  /** Tries again to send. */
  wake(): void;
}

/** The callers' items on one connection. */
export class ItemOutput {
  readonly #output: { readonly queuedBytes: number };
  readonly #send: (message: ItemMessage) => void;
  #leftBytes = 0;
  #waiting = new Set<WaitingItems>();

  /**
   * @param output Counts the bytes that wait to be written.
   * @param send Encodes a message before it returns.
   */
  constructor(output: { readonly queuedBytes: number }, send: (message: ItemMessage) => void) {
    this.#output = output;
    this.#send = send;
  }

  /** Whether items may be sent now. */
  get hasRoom(): boolean {
    return this.#leftBytes > 0;
  }

  /** Wakes a stream when items may be sent again. Streams are woken in their order, so that they share fairly. */
  wait(items: WaitingItems): void {
    this.#waiting.add(items);
  }

  /** Sends an item, or the end of a stream. */
  send(message: ItemMessage): void {
    const before = this.#output.queuedBytes;
    this.#send(message);
    this.#leftBytes -= this.#output.queuedBytes - before;
  }

  /** All output is written. The streams continue in microtasks, and so after the calls of this turn. */
  resume(): void {
    this.#leftBytes = AHEAD_BYTES;
    if (this.#waiting.size === 0) return;
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const items of waiting) items.wake();
  }
}

/**
 * The error for a value that MessagePack cannot hold. It is a mistake in the program, so it has no code.
 *
 * @param fault What is wrong, if the cause does not say it.
 */
export function unsendable(name: string, cause: unknown, fault = messageOf(cause)): TypeError | RangeError {
  const Class = cause instanceof PayloadTooLargeError ? RangeError : TypeError;
  return new Class(`Cannot call ${name}: ${fault}`, { cause });
}
