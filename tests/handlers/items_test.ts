/** Streams from the caller (PROTOCOL.md, "Streams from the caller"): items as they are granted, and one end that nobody mistakes. */

import { assertEquals, assertObjectMatch } from "@std/assert";
import type { RpcError } from "../../errors.ts";
import { bytes, command, type Middleware, unchecked } from "../../handlers/command.ts";
import type { StandardSchema } from "../../handlers/standard_schema.ts";
import { settle } from "../support/peers.ts";
import { withMemory } from "../support/test_server.ts";
import { frame, type Message, message, unhex } from "../support/wire.ts";
import { end, item, readGrants, ServedCalls, upload } from "../support/items.ts";

const PONG = { res: "PONG" };

// Items --------------------------------------------------------------------------------------------------------------

Deno.test("items - TALLY counts the items of a stream that come as they are granted", async () => {
  await using served = withMemory();
  const { peer } = served;
  await peer.send(upload("TALLY"), item("é"));
  // One more than the first has room, whatever its size; of small ones, 256.
  assertEquals(await peer.readReady(), [{ seq: 1, credit: 1 }, { seq: 1, credit: 255 }]);
  await peer.send(item(new Uint8Array(5)), item(7), item(null), end());
  assertEquals(await peer.readReply(), { seq: 1, res: { items: 4, bytes: 7 } });
});

Deno.test("items - TALLY answers for a stream without items", async () => {
  await using served = withMemory();
  await served.peer.send(upload("TALLY"), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: { items: 0, bytes: 0 } }]);
});

Deno.test("items - ECHO sends each item back, and nil at the end", async () => {
  await using served = withMemory();
  const { peer } = served;
  await peer.send(upload("ECHO"), item("a"));
  assertEquals(await peer.readReady(), [{ seq: 1, credit: 256 }, { seq: 1, res: "a", more: true }]);
  await peer.send(item({ b: 1 }), end());
  assertEquals(await peer.readReady(), [{ seq: 1, res: { b: 1 }, more: true }, { seq: 1, res: null }]);
  assertEquals(await peer.ask({ cmd: "ECHO", data: 5 }), { res: 5 });
});

Deno.test("items - one item comes before the handler takes, and more are granted as it takes them", async () => {
  await using served = new ServedCalls();
  const { peer, reading } = served;
  await peer.send(upload("READ"), item(1));
  assertEquals(await peer.readReady(), [], "nothing is granted for a handler that takes nothing");
  assertEquals(await reading.take(), { done: false, value: 1 });
  assertEquals(await readGrants(peer), { credit: 256, others: [] });
  await peer.send(...Array.from({ length: 256 }, (_, index) => item(index)));
  for (let taken = 0; taken < 127; taken++) assertEquals((await reading.take()).value, taken);
  assertEquals(await peer.readReady(), [], "less than half of the window is free");
  await reading.take();
  assertEquals(await readGrants(peer), { credit: 128, others: [] });
  await peer.send(end());
  for (let taken = 128; taken < 256; taken++) assertEquals((await reading.take()).value, taken);
  assertEquals(await reading.take(), { done: true, value: undefined });
  reading.finish("all");
  assertEquals(await peer.readReply(), { seq: 1, res: "all" });
});

Deno.test("items - a command without the option takes a stream as well, and knows whether there is one", async () => {
  const seen: unknown[] = [];
  const LOOK = command(async (_: Message, { items }) => {
    seen.push(items === undefined);
    for await (const each of items ?? []) seen.push(each);
    return seen.length;
  });
  await using served = withMemory({ commands: { LOOK } });
  assertEquals(await served.peer.ask({ cmd: "LOOK", seq: 1 }), { seq: 1, res: 1 });
  await served.peer.send(upload("LOOK"), item("x"), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: 3 }]);
  assertEquals(seen, [true, false, "x"]);
});

Deno.test("items - a second loop throws, after one that left or ended, and does not take the rest for an empty stream", async () => {
  const commands = {
    TWICE: command({
      items: unchecked<string>(),
      async handler({ leaves }: { leaves: boolean }, { items }) {
        for await (const _ of items) if (leaves) break;
        const rest: string[] = [];
        for await (const each of items) rest.push(each);
        return rest;
      },
    }),
    HEAD: command({
      items: unchecked<string>(),
      async handler(_: object, { items }) {
        const head = await items[Symbol.asyncIterator]().next();
        const rest: string[] = [];
        for await (const each of items) rest.push(each);
        return [head.value, rest];
      },
    }),
    AFTER: command.with(async ({ items }, next) => {
      for await (const _ of items ?? []) break;
      return await next();
    })({
      items: unchecked<string>(),
      async handler(_: object, { items }) {
        const all: string[] = [];
        for await (const each of items) all.push(each);
        return all;
      },
    }),
  };
  await using served = withMemory({ commands });
  const calls = [upload("TWICE", 1, { leaves: true }), upload("TWICE", 1, { leaves: false }), upload("AFTER")];
  for (const call of calls) {
    await served.peer.send(call, item("a"));
    const { others } = await readGrants(served.peer);
    await served.peer.send(item("b"), end());
    assertEquals([...others, ...(await readGrants(served.peer)).others], [{ seq: 1, err: "INTERNAL" }]);
    const [error] = served.errors.take();
    assertEquals(String(error).split(":", 2), ["TypeError", " Cannot read the items again"]);
  }
  await served.peer.send(upload("HEAD"), item("a"));
  await readGrants(served.peer);
  await served.peer.send(item("b"), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: ["a", ["b"]] }]);
});

Deno.test("items - a command with the option refuses a call without a stream, unstarted, behind its middleware", async () => {
  let passed = 0;
  let started = 0;
  const counted: Middleware = (_call, next) => {
    passed++;
    return next();
  };
  const UPLOAD = command.with(counted)({
    items: bytes,
    handler: (_: object) => {
      started++;
    },
  });
  await using served = withMemory({ commands: { UPLOAD } });
  assertObjectMatch(await served.peer.ask({ cmd: "UPLOAD", seq: 1 }), {
    seq: 1,
    err: "INVALID_PARAMS",
    msg: "UPLOAD takes a stream of items, and the call has none: give one as the option items",
    data: [{ path: ["items"], message: "must be a stream of items" }],
  });
  assertEquals([passed, started], [1, 0]);
});

Deno.test("items - INFO tells which commands need a stream", async () => {
  await using served = withMemory();
  const { res } = await served.peer.ask({ cmd: 3 }) as { res: { commands: Message[] } };
  assertEquals(res.commands.filter(({ items }) => items !== undefined), [{
    name: "TALLY",
    number: null,
    summary: "Counts the items and bytes of its stream",
    params: [],
    stream: false,
    items: true,
  }]);
});

// Schemas ------------------------------------------------------------------------------------------------------------

/** Texts, without the blanks around them. */
function trimming(isLater: boolean): StandardSchema<string, string> {
  return {
    "~standard": {
      version: 1,
      vendor: "by hand",
      validate(value) {
        const result = typeof value === "string"
          ? { value: value.trim() }
          : { issues: [{ message: "must be text", path: ["inner", { key: 0 }] }] };
        return isLater ? settle(1).then(() => result) : result;
      },
    },
  };
}

Deno.test("items - a schema checks one item after the other, at once or later, and the handler gets its output", async () => {
  for (const isLater of [false, true]) {
    const JOIN = command({
      items: trimming(isLater),
      async handler(_: object, { items }) {
        let all = "";
        for await (const text of items) all += text;
        return all;
      },
    });
    await using served = withMemory({ commands: { JOIN } });
    const { peer } = served;
    await peer.send(upload("JOIN"), item(" a "));
    await readGrants(peer);
    await peer.send(item("b "), end());
    assertEquals(await peer.readReply(), { seq: 1, res: "ab" });
    await peer.send(upload("JOIN"), item(" a "));
    await readGrants(peer);
    await peer.send(item(5), item("c"), end());
    assertEquals(await peer.readReply(), {
      seq: 1,
      err: "INVALID_PARAMS",
      msg: "items.1.inner.0: must be text",
      data: [{ path: ["items", 1, "inner", 0], message: "must be text" }],
    });
  }
});

Deno.test("items - after an item that does not fit, a handler that reads on is told so again, and never that this was all", async () => {
  const told: unknown[] = [];
  const STUBBORN = command({
    items: bytes,
    async handler(_: object, { items }) {
      for (let tries = 0; tries < 3; tries++) {
        try {
          for await (const each of items) told.push(each);
          told.push("the end");
        } catch (error) {
          told.push((error as RpcError).code);
        }
      }
      return "done";
    },
  });
  await using served = withMemory({ commands: { STUBBORN } });
  await served.peer.send(upload("STUBBORN"), item("no bytes"), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: "done" }]);
  assertEquals(told, ["INVALID_PARAMS", "INVALID_PARAMS", "INVALID_PARAMS"]);
});

Deno.test("items - a schema for the parameters and one for the items, with what a middleware gives, in an async generator", async () => {
  const giving: Middleware<{ user: string }> = (_call, next) => next({ user: "Ada" });
  const params: StandardSchema<{ sep: string }, { separator: string }> = {
    "~standard": {
      version: 1,
      vendor: "by hand",
      validate: (value) => ({ value: { separator: (value as { sep: string }).sep } }),
    },
  };
  const CHAT = command.with(giving)({
    schema: params,
    items: trimming(false),
    async *handler({ separator }, { items, user }) {
      for await (const line of items) yield user + separator + line;
      return "bye";
    },
  });
  await using served = withMemory({ commands: { CHAT } });
  await served.peer.send(upload("CHAT", 1, { sep: ">" }), item(" hi "));
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: "Ada>hi", more: true }]);
  await served.peer.send(end());
  assertEquals(await served.peer.readReady(), [{ seq: 1, res: "bye" }]);
});

Deno.test("items - a middleware sees the stream, and what it takes the handler does not get", async () => {
  const first: Middleware<{ first: unknown }> = async ({ items }, next) => {
    const { value } = await items![Symbol.asyncIterator]().next();
    return await next({ first: value });
  };
  const REST = command.with(first)({
    items: unchecked<number>(),
    async handler(_: object, { items, first }) {
      let sum = 0;
      for await (const each of items) sum += each;
      return [first, sum];
    },
  });
  await using served = withMemory({ commands: { REST } });
  await served.peer.send(upload("REST"), item("token"));
  await readGrants(served.peer);
  await served.peer.send(item(2), item(3), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: ["token", 5] }]);
});

// Wrong messages -----------------------------------------------------------------------------------------------------

Deno.test("items - an item beyond the credit fails the call, which is a strike, and the connection goes on", async () => {
  for (const [granted, isTaking] of [[1, false], [257, true]] as const) {
    await using served = new ServedCalls();
    const { peer, reading } = served;
    await peer.send(upload("READ"), item(0));
    if (isTaking) {
      await reading.take();
      assertEquals((await readGrants(peer)).credit, granted - 1);
    }
    await peer.send(...Array.from({ length: granted - 1 }, (_, index) => item(index)));
    assertEquals(await peer.readReady(), []);
    await peer.send(item("one too many"), item("ignored"), end());
    assertObjectMatch(await peer.readReply(), { seq: 1, err: "INVALID_MESSAGE" });
    assertEquals(await reading.failure(), "INVALID_MESSAGE");
    assertEquals(reading.signalCode, "INVALID_MESSAGE");
    const { res } = await peer.ask({ cmd: "STATS" }) as { res: { refused: Message } };
    assertEquals(res.refused.invalidMessage, 1);
    served.assertNothingHeld();
  }
});

Deno.test("items - an item after the end, a second end, and either for a call without a stream fail the call", async () => {
  for (
    const [request, ...after] of [
      [upload("READ"), end(), item(1)],
      [upload("READ"), item(0), end(), end()],
      [{ cmd: "READ", seq: 1 }, item(1)],
      [{ cmd: "READ", seq: 1 }, end()],
    ]
  ) {
    await using served = new ServedCalls();
    const { peer } = served;
    await peer.send(request, ...after);
    const { err, msg } = await peer.readReply();
    assertEquals([err, msg], ["INVALID_MESSAGE", "the call has no open stream for this message"]);
    assertEquals(await peer.ask({ cmd: 1 }), PONG);
    served.assertNothingHeld();
  }
});

Deno.test("items - a message that cannot be read may have been an item: it fails the streams that are not complete", async () => {
  const sizes: number[] = [];
  const COUNT = command({
    items: unchecked<string>(),
    async handler(_: object, { items }) {
      let size = 0;
      for await (const _item of items) size++;
      sizes.push(size);
      return size;
    },
  });
  const HANG = command((_: object, { signal }) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
  );
  const tooHeavy = message({ cmd: 0, seq: 3, item: "x".repeat(2_000) });
  const noText = frame(unhex("83 a3636d64 00 a3736571 03 a46974656d a1ff")); // {cmd: 0, seq: 3, item: a text that is not UTF-8}
  for (const bad of [tooHeavy, noText]) {
    await using served = withMemory({ commands: { COUNT, HANG }, maxMessageBytes: 1_500 });
    const { peer } = served;
    await peer.send({ cmd: "HANG", seq: 1 }, upload("COUNT", 2), end(2), upload("COUNT", 3));
    await readGrants(peer);
    await peer.sendBytes(bad);
    await peer.send(end(3), { cmd: "PING", seq: 4 });
    const { others } = await readGrants(peer);
    assertEquals(others.map(({ seq, err }) => [seq, err]), [
      [3, "INVALID_MESSAGE"],
      [undefined, "INVALID_MESSAGE"],
      [4, undefined],
    ]);
  }
  assertEquals(sizes, [0, 0], "the one that was complete alone");
});

Deno.test("a request that takes too much memory fails alone: it is known to be no item", async () => {
  const SIZE = command(async (_: object, { items }) => (await Array.fromAsync(items ?? [])).length);
  await using served = withMemory({ commands: { SIZE } });
  const { peer } = served;
  await peer.send(upload("SIZE", 1), { list: Array.from({ length: 70_000 }, () => ({})), cmd: "PING", seq: 2 }, end(1));
  const others = (await peer.readReplies(3)).filter((message) => !("credit" in message));
  assertEquals(others.map(({ seq, err, res }) => [seq, err ?? res]), [[2, "INVALID_MESSAGE"], [1, 0]]);
});

Deno.test("items - too many wrong ones end the connection", async () => {
  await using served = new ServedCalls({ maxStrikes: 3 });
  const { peer } = served;
  for (let seq = 0; seq < 4; seq++) await peer.send(upload("READ", seq), item(1, seq), item(2, seq));
  const replies = await peer.readToEnd();
  assertEquals(replies.map(({ seq, err }) => [seq, err]), [0, 1, 2, 3].map((seq) => [seq, "INVALID_MESSAGE"]));
});

Deno.test("items - those for finished and unknown calls are ignored", async () => {
  await using served = new ServedCalls();
  const { peer } = served;
  await peer.send(item(1, 77), end(77), { cmd: 1, seq: 5, $items: true }, item(1, 5), item(2, 5), item(3, 5), end(5));
  assertEquals(await peer.readReady(), [{ seq: 5, res: "PONG" }]);
  const { res } = await peer.ask({ cmd: "STATS" }) as { res: { refused: Message } };
  assertEquals(res.refused.invalidMessage, 0);
  served.assertNothingHeld();
});
