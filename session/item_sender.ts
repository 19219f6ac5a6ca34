/**
 * Sends the items of a stream as fast as its receiver and the output take them. Both ends use it.
 *
 * In: an async or sync iterable, or a `ReadableStream`; grants. Out: items, each sent before the next one is requested,
 * and requested only if it may be sent; the return value of the iterable. If the stream is over before its end, the
 * iterator is ended at once by its `return()`, without waiting for its next item. Refused: nothing.
 */

/** The largest piece of a chunk of a `ReadableStream`. A file's chunks have this size. */
export const PIECE_BYTES = 64 * 1024;

/** The receiver of the items. */
export interface ItemReceiver {
  /** Whether the stream is over, so that no more items are wanted. */
  readonly isSettled: boolean;
  /** While no item may be sent, because credit, room or a turn is missing: a promise after which to ask again. */
  hold(): Promise<void> | undefined;
  /** Sends an item, and encodes it before returning. */
  sendItem(item: unknown): void;
}

/** An iterator of items. */
export type Items = AsyncIterator<unknown, unknown, void> | Iterator<unknown, unknown, void>;

/**
 * Sends all items.
 *
 * @returns The last result of the iterator; `undefined` if the stream was over earlier. Rejects with the error of the
 * iterator.
 */
export async function sendEach(receiver: ItemReceiver, items: Items): Promise<IteratorResult<unknown> | undefined> {
  while (!receiver.isSettled) {
    const hold = receiver.hold();
    if (hold) {
      await hold;
      continue;
    }
    const result = await items.next();
    const isDone = "done" in result && result.done; // `in` throws for one that is no object, as `for await` does
    if (receiver.isSettled) return undefined;
    if (isDone) return result;
    receiver.sendItem(result.value ?? null);
  }
}

/** Ends an iterator, so that its `finally` blocks run. Async, because a hand-written `return()` may throw. */
export async function endItems(items: Items): Promise<void> {
  await items.return?.();
}

/** The iterator of a stream; for a `ReadableStream` its reader, which can be cancelled while it waits for an item. */
export function iteratorOf(stream: AsyncIterable<unknown> | Iterable<unknown>): Items {
  if (stream instanceof ReadableStream) return readerOf(stream);
  if (Symbol.asyncIterator in stream) return stream[Symbol.asyncIterator]();
  return stream[Symbol.iterator]();
}

/** Cuts large chunks of bytes into pieces, because a chunk of a whole file would be larger than a payload. */
function readerOf(stream: ReadableStream): Items {
  const reader = stream.getReader();
  let rest: Uint8Array | undefined;
  const piece = (bytes: Uint8Array): IteratorResult<unknown> => {
    rest = bytes.length > PIECE_BYTES ? bytes.subarray(PIECE_BYTES) : undefined;
    return { done: false, value: bytes.subarray(0, PIECE_BYTES) };
  };
  return {
    async next(): Promise<IteratorResult<unknown, unknown>> {
      if (rest) return piece(rest);
      const result = await reader.read() as IteratorResult<unknown>;
      return result.value instanceof Uint8Array ? piece(result.value) : result;
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

  /** The receiver takes more items. */
  grant(items: number): void {
    this.left += items;
    this.wake();
  }

  /** Resolves when there is more credit, or by {@linkcode CreditWindow.wake}. */
  granted(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  /** Lets the sender check again, because its stream may be over. */
  wake(): void {
    this.#wake?.();
  }
}
