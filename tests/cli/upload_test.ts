/** `cli/upload.ts`, in a session with a server that follows the script of a test: what is sent, when, and what ends it. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { outgoing } from "../../cli/call.ts";
import { InputError } from "../../cli/input_file.ts";
import type { GivenItems } from "../../cli/given_items.ts";
import { Session } from "../../cli/session.ts";
import { RpcError } from "../../errors.ts";
import { turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

const never = new AbortController().signal;

/** Items that say how many were taken, and whether they were ended. */
class Source implements GivenItems {
  readonly given = "@items";
  readonly isStandardInput = false;
  taken = 0;
  ended = 0;

  constructor(readonly items: AsyncGenerator<unknown, void>) {}

  open() {
    return {
      next: () => {
        this.taken++;
        return this.items.next();
      },
      return: () => {
        this.ended++;
        return this.items.return();
      },
    };
  }
}

async function* numbers(to: number) {
  for (let number = 1; number <= to; number++) yield await Promise.resolve(number);
}

/** A session, its server, and one call with a stream. */
async function begin(source: Source) {
  const network = memoryNetwork();
  const session = new Session(() => network.dial());
  const shown: unknown[] = [];
  const ask = async (given?: GivenItems) => {
    const replies = [];
    const call = outgoing({ name: "UP", params: {}, items: given });
    for await (const { fields, more } of session.ask(call, never)) {
      shown.push(fields);
      replies.push(more ? { ...fields, more } : fields);
    }
    return replies;
  };
  const asked = ask(source);
  asked.catch(() => {});
  const server = await ScriptedServer.accept(network);
  assertEquals((await server.requests(3)).slice(1), [
    { cmd: "UP", $items: true, seq: 1 },
    { cmd: 0, seq: 1, item: 1 },
  ]);
  return { session, server, asked, ask, shown };
}

Deno.test("one item goes before a grant, then as many as are granted, then the end; none is read ahead", async () => {
  const source = new Source(numbers(4));
  const { session, server, asked } = await begin(source);
  await turn();
  assertEquals([server.waiting, source.taken], [0, 1]);
  await server.reply({ seq: 1, credit: 2 });
  assertEquals((await server.requests(2)).map(({ item }) => item), [2, 3]);
  await turn();
  assertEquals([server.waiting, source.taken], [0, 3]);
  await server.reply({ seq: 7, credit: 9 }); // of a call that is over
  await turn();
  assertEquals([server.waiting, source.taken], [0, 3]);
  await server.reply({ seq: 1, credit: 5 });
  assertEquals(await server.requests(2), [{ cmd: 0, seq: 1, item: 4 }, { cmd: 0, seq: 1, end: true }]);
  await server.reply({ seq: 1, res: 4 });
  assertEquals(await asked, [{ res: 4 }]);
  session.close();
});

Deno.test("replies may come meanwhile; after the last one no more is sent, and the connection serves the next call", async () => {
  const source = new Source(numbers(9));
  const { session, server, asked, ask } = await begin(source);
  await server.reply({ seq: 1, credit: 1 }, { seq: 1, res: "one", more: true });
  assertEquals((await server.request()).item, 2);
  await server.reply({ seq: 1, res: "enough" });
  assertEquals(await asked, [{ res: "one", more: true }, { res: "enough" }]);
  assert(source.ended > 0);
  const next = ask();
  assertEquals(await server.request(), { cmd: "UP", seq: 1 });
  await server.reply({ seq: 1, res: 0 });
  assertEquals([await next, source.taken], [[{ res: 0 }], 2]);
  session.close();
});

Deno.test("a source that fails is told by a cancel in place of the end; the call fails with its error", async () => {
  const fault = new InputError("cannot read @items: the disk is gone");
  const source = new Source((async function* () {
    yield* numbers(1);
    throw fault;
  })());
  const { session, server, asked, ask, shown } = await begin(source);
  await server.reply({ seq: 1, credit: 1 });
  assertEquals(await server.request(), { cmd: 0, seq: 1, cancel: true });
  await server.reply({ seq: 1, res: "an item", more: true }, { seq: 1, err: "CANCELLED" });
  assertEquals([await assertRejects(() => asked), shown], [fault, []]);
  const next = ask();
  assertEquals(await server.request(), { cmd: "UP", seq: 1 });
  await server.reply({ seq: 1, res: 0 });
  assertEquals(await next, [{ res: 0 }]);
  session.close();
});

Deno.test("a source that fails is what the call fails with, even if the connection is lost behind it", async () => {
  const fault = new InputError("cannot read @items: the disk is gone");
  const source = new Source((async function* () {
    yield* numbers(1);
    throw fault;
  })());
  const { server, asked } = await begin(source);
  await server.reply({ seq: 1, credit: 1 });
  assertEquals(await server.request(), { cmd: 0, seq: 1, cancel: true });
  server.cut();
  assertEquals(await assertRejects(() => asked), fault);
});

Deno.test("a source is ended when the last reply has come, however slow its reader is", async () => {
  const network = memoryNetwork();
  const session = new Session(() => network.dial());
  const source = new Source(numbers(9));
  const replies = session.ask(outgoing({ name: "UP", params: {}, items: source }), never);
  const first = replies.next();
  const server = await ScriptedServer.accept(network);
  await server.requests(3);
  await server.reply({ seq: 1, res: "enough" });
  assertEquals((await first).value?.fields, { res: "enough" });
  assertEquals(source.ended, 1);
  await replies.next();
  session.close();
});

Deno.test("an item that cannot be sent ends the call in the same way", async () => {
  const source = new Source((async function* () {
    yield* numbers(1);
    yield "x".repeat(2 ** 20);
  })());
  const { session, server, asked } = await begin(source);
  await server.reply({ seq: 1, credit: 1 });
  assertEquals(await server.request(), { cmd: 0, seq: 1, cancel: true });
  await server.reply({ seq: 1, err: "CANCELLED" });
  await assertRejects(
    () => asked,
    Error,
    "the item cannot be sent: the payload is 1048597 bytes, the limit is 1048576",
  );
  session.close();
});

Deno.test("a call that is cancelled sends no more items and no end", async () => {
  for (const isComplete of [false, true]) {
    const source = new Source(numbers(isComplete ? 1 : 2));
    const { session, server, asked } = await begin(source);
    if (isComplete) {
      await server.reply({ seq: 1, credit: 1 });
      assertEquals((await server.request()).end, true);
    }
    assert(session.cancel(1));
    assertEquals(await server.request(), { cmd: 0, seq: 1, cancel: true });
    assertEquals(source.ended, 1);
    await server.reply({ seq: 1, credit: 5 });
    await turn();
    await server.reply({ seq: 1, err: "CANCELLED" });
    assertEquals(await asked, [{ err: "CANCELLED" }]);
    assertEquals(server.waiting, 0);
    session.close();
  }
});

Deno.test("a source is ended when the connection is lost, or never made", async () => {
  const source = new Source(numbers(9));
  const { server, asked } = await begin(source);
  server.cut();
  await assertRejects(() => asked, RpcError, "is lost");
  assert(source.ended > 0);
  const unused = new Source(numbers(9));
  const session = new Session(() => Promise.reject(new RpcError("CONNECTION_LOST")));
  const call = outgoing({ name: "UP", params: {}, items: unused });
  await assertRejects(() => session.ask(call, never).next(), RpcError);
  assertEquals([unused.taken, unused.ended], [0, 1]);
});

Deno.test("a server that reads slowly is not sent more than it has granted, nor much ahead", async () => {
  const network = memoryNetwork();
  const session = new Session(() => network.dial());
  const chunk = new Uint8Array(64 * 1024);
  const source = new Source((async function* () {
    while (true) yield await Promise.resolve(chunk);
  })());
  const asked = session.ask(outgoing({ name: "UP", params: {}, items: source }), never).next();
  asked.catch(() => {});
  const transport = await network.accept();
  await using server = new ScriptedServer(transport, { reads: false });
  await server.reply({ seq: 1, credit: 1000 });
  for (let round = 0; round < 100; round++) await turn();
  assert(source.taken < 20, `${source.taken} chunks were read`);
  session.close();
  await assertRejects(() => asked);
});
