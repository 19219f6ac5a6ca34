/** Two copies of the library in one program: with imports by URL, each version is one. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect } from "../client.ts";
import { RpcError } from "../errors.ts";
import { command, reply } from "../handlers/command.ts";
import { serve } from "../server.ts";

/** Makes an import another module, as another URL of the same file does. */
const QUERY = "?another-copy";

const copy: { RpcError: typeof RpcError } = await import("../errors.ts" + QUERY);

Deno.test("an error of another copy is an RpcError, and a subclass still tells its own", () => {
  class NotFound extends RpcError {}
  class CopysNotFound extends copy.RpcError {}
  assert(copy.RpcError !== RpcError);
  for (const Class of [RpcError, copy.RpcError, NotFound, CopysNotFound]) {
    const error = new Class("NO_SUCH_BOOK");
    assert(error instanceof RpcError);
    assert(error instanceof copy.RpcError);
    assertEquals(error instanceof NotFound, Class === NotFound);
    assertEquals(error instanceof CopysNotFound, Class === CopysNotFound);
  }
  for (const other of [new Error("NO_SUCH_BOOK"), { code: "NO_SUCH_BOOK" }, "RpcError", null, undefined, RpcError]) {
    assert(!(other instanceof RpcError));
  }
});

Deno.test("a handler's error of another copy goes out with its code, text and data", async () => {
  const BORROW = command({
    handler(): null {
      throw new copy.RpcError("NO_SUCH_BOOK", "there is no book with that title", { data: { shelf: 3 } });
    },
  });
  const errors: unknown[] = [];
  await using server = await serve({ port: 0, commands: { BORROW }, onError: (error) => void errors.push(error) });
  await using client = await connect<{ BORROW: typeof BORROW }>({ port: server.port });
  const error = await assertRejects(() => client.reply("BORROW"), RpcError);
  assertEquals(error.toJSON(), { err: "NO_SUCH_BOOK", msg: "there is no book with that title", data: { shelf: 3 } });
  assertEquals(errors, []);
});

Deno.test("a reply() of another copy goes out with its fields beside the result", async () => {
  const other: { reply: typeof reply } = await import("../handlers/reply.ts" + QUERY);
  assert(other.reply !== reply);
  const SUM = command(({ list }: { list: number[] }) => other.reply(list.length, { counted: true }));
  await using server = await serve({ port: 0, commands: { SUM } });
  await using client = await connect<{ SUM: typeof SUM }>({ port: server.port });
  assertEquals(await client.reply.SUM({ list: [1, 2] }), { res: 2, counted: true });
});

Deno.test("an error that another copy's client received stays one about the server behind", async () => {
  const received: { markReceived(error: RpcError): RpcError } = await import("../errors.ts" + QUERY);
  const PASS_ON = command({
    handler(): null {
      throw received.markReceived(new copy.RpcError("OVERLOADED", "the server behind is full"));
    },
  });
  const errors: unknown[] = [];
  await using server = await serve({ port: 0, commands: { PASS_ON }, onError: (error) => void errors.push(error) });
  await using client = await connect<{ PASS_ON: typeof PASS_ON }>({ port: server.port });
  const error = await assertRejects(() => client.reply("PASS_ON"), RpcError);
  assertEquals(error.code, "INTERNAL");
  assertEquals(errors.length, 1);
});
