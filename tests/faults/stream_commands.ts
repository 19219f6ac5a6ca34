/**
 * Uploads, downloads and streams both ways whose books are kept at both ends, for the ledgers.
 *
 * In: the books of a call, by its id. Out: the commands for a server; for a caller, the source of an upload and the reader
 * of a reply stream. Refused: an item that is another one than expected, by an error that is no code.
 */

import { command, unchecked } from "../../handlers/command.ts";

/** The most items of a stream, and bytes of an item. */
export const MOST_ITEMS = 40;
export const MOST_BYTES = 2_000;

/** How a call ends whose source throws. */
export const BROKEN = "Error: the source has broken";

/** What is known of a call at the server. */
export interface HandlerBooks {
  /** Runs of the handler, of its `finally`, and how often it was told that it has the caller's stream whole. */
  runs: number;
  finallys: number;
  wholes: number;
}

/** What is known of a call's stream at its caller. */
export interface SourceBooks {
  /** Whether the source has come to its end, and how often it has ended in whatever way. */
  saidEnd: boolean;
  ends: number;
}

export type Item = [id: number, index: number, pad: Uint8Array];

/** What the handler of a stream with items of these sizes returns. */
export function sumOf(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Fails a call whose stream is not what was sent: that is no code that is expected. */
function checkOrder([id, index]: Item, expectedId: number, expectedIndex: number): void {
  if (id !== expectedId || index !== expectedIndex) {
    throw new Error(`item ${index} of ${id} came as item ${expectedIndex} of ${expectedId}`);
  }
}

/** The commands UPLOAD, CHAT and DOWNLOAD. */
export function streamCommands(booksOf: (id: number) => HandlerBooks) {
  /** Reads the caller's stream, item by item. */
  async function* checked(id: number, items: AsyncIterable<Item>): AsyncGenerator<Item> {
    const books = booksOf(id);
    books.runs++;
    let index = 0;
    try {
      for await (const item of items) {
        checkOrder(item, id, index++);
        yield item;
      }
      books.wholes++;
    } finally {
      books.finallys++;
    }
  }
  return {
    UPLOAD: command({
      items: unchecked<Item>(),
      async handler({ id }: { id: number }, { items }) {
        let bytes = 0;
        for await (const [, , pad] of checked(id, items)) bytes += pad.length;
        return bytes;
      },
    }),
    CHAT: command({
      items: unchecked<Item>(),
      async *handler({ id }: { id: number }, { items }) {
        let bytes = 0;
        for await (const item of checked(id, items)) {
          bytes += item[2].length;
          yield item;
        }
        return bytes;
      },
    }),
    DOWNLOAD: command({
      async *handler({ id, sizes }: { id: number; sizes: number[] }) {
        const books = booksOf(id);
        books.runs++;
        try {
          for (const [index, size] of sizes.entries()) yield [id, index, new Uint8Array(size)];
          return sumOf(sizes);
        } finally {
          books.finallys++;
        }
      },
    }),
  };
}

/** The items of an upload. */
export async function* sourceOf(
  id: number,
  sizes: readonly number[],
  throwsAt: number,
  books: SourceBooks,
): AsyncGenerator<Item> {
  try {
    for (const [index, size] of sizes.entries()) {
      if (index === throwsAt) throw new Error("the source has broken");
      yield [id, index, new Uint8Array(size)];
    }
    books.saidEnd = true;
  } finally {
    books.ends++;
  }
}

/** Reads a reply stream, item by item, to its end, or leaves it behind so many items: that brings -1. */
export async function readItems(
  id: number,
  stream: AsyncGenerator<unknown, number>,
  leavesAt: number,
): Promise<{ res: number }> {
  let index = 0;
  for (let next = await stream.next();; next = await stream.next()) {
    if (next.done) return { res: next.value };
    checkOrder(next.value as Item, id, index++);
    if (index !== leavesAt) continue;
    await stream.return(0);
    return { res: -1 };
  }
}
