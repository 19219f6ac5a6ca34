/**
 * A typed service: its commands, and a server if this file is run. `typed_client.ts` is its client.
 *
 *     deno run --allow-net examples/typed_service.ts --port 1300
 *     deno run --allow-net examples/typed_client.ts 1300
 */

import { command, reply, RpcError, run } from "../mod.ts";

const books = new Map([[1, { title: "On the Analytical Engine", copies: 2 }]]);

export const commands = {
  FIND: command({
    number: 16,
    summary: "Finds a book by its number",
    params: ["id"],
    handler({ id }: { id: number }) {
      const book = books.get(id);
      if (!book) throw new RpcError("NO_SUCH_BOOK", `there is no book ${id}`, { data: { id } });
      return book;
    },
  }),
  LEND: command({
    number: 17,
    summary: "Lends a book",
    params: ["id", "to"],
    handler({ id, to }: { id: number; to: string }) {
      const book = books.get(id);
      if (!book || book.copies === 0) throw new RpcError("NOT_AVAILABLE", `book ${id} is not there`);
      book.copies--;
      return reply(`lent to ${to}`, { left: book.copies });
    },
  }),
};

if (import.meta.main) await run({ commands });
