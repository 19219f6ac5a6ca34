/**
 * Sends the items of a stream as fast as its receiver and the output take them. Both ends use it.
 *
 * In: an async or sync iterable, or a `ReadableStream`; grants. Out: items, each sent before the next is asked for, and none is
 * asked for that may not be sent; what the iterable returns. If the stream is over before its end, the iterator is ended at once by
 * its `return()`, without waiting for its next item. Refused: nothing.
 */

/** The largest piece of a chunk of a `ReadableStream`: what a file gives at once. */
const PIECE_BYTES = 64 * 1024;

/** Where the items go. */
export interface ItemReceiver {
  /** Whether the stream is over: no more items are wanted. */
  readonly isSettled: boolean;
  /** A promise while no item may be sent, for want of credit, of room or of a turn: then look again. */
  hold(): Promise<void> | undefined;
  /** Sends an item, and encodes it before returning. */
  sendItem(item: unknown): void;
}

/** An iterator of items. */
export type Items = AsyncIterator<unknown, unknown, void> | Iterator<unknown, unknown, void>;

/** What a stream has come to: its return value, and whether there were no items. */
export interface SentItems {
  readonly value: unknown;
  readonly isEmpty: boolean;
}

/**
 * Sends all items.
 *
 * @returns What the iterator returns; `undefined` if the stream was over before. Rejects with what the iterator throws.
 */
export async function sendEach(receiver: ItemReceiver, items: Items): Promise<SentItems | undefined> {
  let isEmpty = true;
  while (!receiver.isSettled) {
    const hold = receiver.hold();
    if (hold !== undefined) {
      await hold;
      continue;
    }
    const { value, done } = await items.next();
    if (receiver.isSettled) return undefined;
    if (done) return { value: value ?? null, isEmpty };
    isEmpty = false;
    receiver.sendItem(value ?? null);
  }
}

/** Ends an iterator: its `finally` blocks run. In an async function, because a hand-written `return()` may throw. */
export async function endItems(items: Items): Promise<void> {
  await items.return?.();
}

/** The iterator of a stream; for a `ReadableStream` its reader, which can be cancelled while it waits for an item. */
export function iteratorOf(stream: AsyncIterable<unknown> | Iterable<unknown>): Items {
  if (stream instanceof ReadableStream) return readerOf(stream);
  if (Symbol.asyncIterator in stream) return stream[Symbol.asyncIterator]();
  return stream[Symbol.iterator]();
}

/** Large chunks of bytes are cut into pieces: one of a whole file would be larger than a payload. */
function readerOf(stream: ReadableStream): Items {
  const reader = stream.getReader();
  let rest: Uint8Array | undefined;
  const piece = (bytes: Uint8Array): IteratorResult<unknown> => {
    rest = bytes.length > PIECE_BYTES ? bytes.subarray(PIECE_BYTES) : undefined;
    return { done: false, value: bytes.subarray(0, PIECE_BYTES) };
  };
  return {
    async next() {
      if (rest !== undefined) return piece(rest);
      const result = await reader.read();
      if (result.done) return { done: true, value: undefined };
      return result.value instanceof Uint8Array ? piece(result.value) : { done: false, value: result.value };
    },
    return: async () => {
      await reader.cancel();
      return { done: true, value: undefined };
    },
  };
}

/** Counts how many items of a stream its receiver still takes. */
export class CreditWindow {
  /** Items that may still be sent. */
  left: number;
  #wake: (() => void) | undefined;

  /** @param items The initial credit. */
  constructor(items: number) {
    this.left = items;
  }

  /** Uses one credit. */
  use(): void {
    this.left--;
  }

  /** The receiver takes more. */
  grant(items: number): void {
    this.left += items;
    this.wake();
  }

  /** Resolves when there is more, or by {@linkcode CreditWindow.wake}. */
  granted(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  /** Lets the sender look again: its stream may be over. */
  wake(): void {
    this.#wake?.();
  }
}
