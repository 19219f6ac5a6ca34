/**
 * A typed service: its commands, and a server if this file is run. `typed_client.ts` is its client.
 *
 *     deno run --allow-net examples/typed_service.ts --port 1300
 *     deno run --allow-net examples/typed_client.ts 1300
 */

import { command, reply, RpcError, run, type StandardSchema } from "../mod.ts";

const books = new Map([[1, { title: "On the Analytical Engine", copies: 2 }]]);

/** An object with the number of a book, written by hand. You can use zod, valibot or arktype instead. */
const bookId: StandardSchema<{ id: number }> = {
  "~standard": {
    version: 1,
    vendor: "by hand",
    validate: (value) =>
      Number.isInteger((value as { id?: unknown }).id)
        ? { value: value as { id: number } }
        : { issues: [{ message: "must be an integer", path: ["id"] }] },
  },
};

export const commands = {
  FIND: command({
    summary: "Finds a book by its number",
    schema: bookId,
    params: ["id"],
    errors: { NO_SUCH_BOOK: bookId }, // the code, and the type of its data
    handler({ id }) {
      const book = books.get(id);
      if (!book) throw new RpcError("NO_SUCH_BOOK", `there is no book ${id}`, { data: { id } });
      return book;
    },
  }),
  LEND: command({
    summary: "Lends a book",
    params: ["id", "to"],
    errors: { NOT_AVAILABLE: null },
    handler({ id, to }: { id: number; to: string }) {
      const book = books.get(id);
      if (!book || book.copies === 0) throw new RpcError("NOT_AVAILABLE", `book ${id} is not there`);
      book.copies--;
      return reply(`lent to ${to}`, { left: book.copies });
    },
  }),
};

if (import.meta.main) await run({ commands });
