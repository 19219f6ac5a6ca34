/**
 * What a handler gives is what its caller gets, whatever the handler does with it afterwards: results, items, return
 * values, error data. Here each object and each buffer is used again as soon as it has been given.
 */

import { assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command, reply, type ReplyFields } from "../../handlers/command.ts";
import { settle } from "../support/peers.ts";
import { withMemory, withServer } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

Deno.test("an item is sent as it was when it was yielded, though its object and buffer are used again", async () => {
  const AGAIN = command({
    async *handler(_params: Message): AsyncGenerator<Message, Message, void> {
      const item: { n: number; deep: { list: number[] }; bytes: Uint8Array } = {
        n: 0,
        deep: { list: [] },
        bytes: new Uint8Array(3),
      };
      for (let n = 1; n <= 5; n++) {
        item.n = n;
        item.deep.list.push(n);
        item.bytes.fill(n);
        yield item;
      }
      item.n = 99;
      return item;
    },
  });
  await using served = withMemory({ commands: { AGAIN }, middleware: [] });
  for (const seq of [undefined, 1]) {
    await served.peer.send({ cmd: "AGAIN", ...(seq === undefined ? {} : { seq }) });
    const replies = await served.peer.readReplies(6);
    const items = replies.map(({ res }) => res as { n: number; deep: { list: number[] }; bytes: Uint8Array });
    assertEquals(items.map(({ n }) => n), [1, 2, 3, 4, 5, 99]);
    assertEquals(items.map(({ deep }) => deep.list.length), [1, 2, 3, 4, 5, 5]);
    assertEquals(items.map(({ bytes }) => [...bytes]), [1, 2, 3, 4, 5, 5].map((n) => [n, n, n]));
  }
});

Deno.test("a file read into one buffer, again and again, arrives as it is", async () => {
  const path = await Deno.makeTempFile();
  const original = crypto.getRandomValues(new Uint8Array(50_000));
  await Deno.writeFile(path, original);
  const FILE = command({
    async *handler(_params: Message): AsyncGenerator<Uint8Array, void, void> {
      using file = await Deno.open(path);
      const buffer = new Uint8Array(4_096);
      for (let bytes; (bytes = await file.read(buffer)) !== null;) yield buffer.subarray(0, bytes);
    },
  });
  for (const middleware of [[], [(_call: unknown, next: () => Promise<{ res: unknown }>) => next()]]) {
    await using server = await withServer({ commands: { FILE }, middleware });
    await using client = await connect({ port: server.port, commands: { FILE } });
    const chunks = await Array.fromAsync(client.stream("FILE", {}));
    assertEquals(new Uint8Array(await new Blob(chunks).arrayBuffer()), original);
  }
  await Deno.remove(path);
});

Deno.test("a result is sent as it was when it was returned: LIST before ADD shows what was there before", async () => {
  for (const seqs of [[1, 2, 3, 4], [undefined, undefined, undefined, undefined]]) {
    const list: string[] = [];
    const counts = { added: 0, last: new Uint8Array(1) };
    const commands = {
      LIST: command({ handler: (_params: Message) => reply(list, { counts }) }),
      ADD: command({
        handler({ item }: { item: string }) {
          list.push(item);
          counts.added++;
          counts.last[0] = item.charCodeAt(0);
          return counts;
        },
      }),
    };
    await using served = withMemory({ commands });
    const [one, two, three, four] = seqs.map((seq) => seq === undefined ? {} : { seq });
    await served.peer.send(
      { cmd: "LIST", ...one },
      { cmd: "ADD", item: "a", ...two },
      { cmd: "LIST", ...three },
      { cmd: "ADD", item: "b", ...four },
    );
    const replies = await served.peer.readReplies(4);
    assertEquals(replies.map(({ res }) => res), [
      [],
      { added: 1, last: Uint8Array.of(97) },
      ["a"],
      { added: 2, last: Uint8Array.of(98) },
    ]);
    assertEquals((replies[0].counts as Message).added, 0);
  }
});

Deno.test("a result of an async handler is sent as it was at its end", async () => {
  const shared = { n: 0 };
  const NEXT = command({
    async handler(_params: Message) {
      await settle(1);
      shared.n++;
      return shared;
    },
  });
  await using served = withMemory({ commands: { NEXT } });
  await served.peer.send(...[1, 2, 3, 4].map((seq) => ({ cmd: "NEXT", seq })));
  const replies = await served.peer.readReplies(4);
  assertEquals(replies.map(({ res }) => (res as Message).n).sort(), [1, 2, 3, 4]);
});

Deno.test("handlers that do not wait change one object, and each reply has what its handler left", async () => {
  const shared = { n: 0, bytes: new Uint8Array(1) };
  const change = () => {
    shared.n++;
    shared.bytes[0] = shared.n;
    return shared;
  };
  const commands = {
    SYNC: command({ number: 16, handler: (_params: Message) => change() }),
    ASYNC: command({
      number: 17,
      // deno-lint-ignore require-await -- most handlers are written so
      handler: async (_params: Message) => change(),
    }),
    // deno-lint-ignore require-await
    NONE_FIRST: command({ number: 18, handler: async (_params: Message) => shared.n < 0 ? null : change() }),
  };
  const pass = async (_call: unknown, next: () => Promise<ReplyFields>) => await next();
  const look = async (_call: unknown, next: () => Promise<ReplyFields>) => {
    const answer = await next();
    return { ...answer };
  };
  const after = (_call: unknown, next: () => Promise<ReplyFields>) => next().finally(() => {});
  for (const middleware of [[], [pass], [look, pass], [pass, look, pass, look], [after, after, after]]) {
    await using server = await withServer({ commands, middleware });
    const peers = await Promise.all(Array.from({ length: 8 }, () => server.connect()));
    shared.n = -1;
    await peers[0].send({ cmd: 18 });
    assertEquals(await peers[0].readReplies(1), [{ res: null }]);
    for (const cmd of [16, 17, 18]) {
      shared.n = 0;
      const seqs = Array.from({ length: 20 }, (_, index) => index);
      await Promise.all(peers.map((peer) => peer.send(...seqs.map((seq) => ({ cmd, seq })))));
      const replies = await Promise.all(peers.map((peer) => peer.readReplies(seqs.length)));
      const results = replies.flat().map(({ res }) => res as typeof shared);
      assertEquals(results.map(({ n }) => n).sort((a, b) => a - b), results.map((_, index) => index + 1));
      assertEquals(results.map(({ bytes }) => bytes[0]), results.map(({ n }) => n));
    }
  }
});

Deno.test("data of an error, and of a stream's error, is sent as it was when it was thrown", async () => {
  const data = { tries: 0 };
  const fail = () => {
    data.tries++;
    return new RpcError("NO", "not now", { data });
  };
  const commands = {
    THROW: command({
      handler(_params: Message): null {
        throw fail();
      },
    }),
    STREAM: command({
      async *handler(_params: Message): AsyncGenerator<Message, void, void> {
        yield data;
        throw fail();
      },
    }),
  };
  await using served = withMemory({ commands });
  await served.peer.send({ cmd: "THROW" }, { cmd: "THROW" }, { cmd: "STREAM" }, { cmd: "THROW" });
  const replies = await served.peer.readReplies(5);
  assertEquals(replies.map(({ res, data }) => ((res ?? data) as Message).tries), [1, 2, 2, 3, 4]);
});

Deno.test("replies of many connections that end in one turn stay apart, in their order", async () => {
  const waiting: (() => void)[] = [];
  const commands = {
    WAIT: command({
      async handler({ text }: { text: string }) {
        await new Promise<void>((resolve) => waiting.push(resolve));
        return text;
      },
    }),
  };
  await using server = await withServer({ commands });
  const peers = await Promise.all(Array.from({ length: 5 }, () => server.connect()));
  for (let round = 0; round < 20; round++) {
    const texts = peers.map((_, index) => `${index}`.repeat(10 ** (round % 5)));
    for (const [index, peer] of peers.entries()) {
      await peer.send(...[1, 2, 3].map((seq) => ({ cmd: "WAIT", seq, text: texts[index] })));
    }
    while (waiting.length < 15) await settle(1);
    for (const resolve of waiting.splice(0)) resolve();
    for (const [index, peer] of peers.entries()) {
      const replies = await peer.readReplies(3);
      assertEquals(replies.map(({ seq }) => seq), [1, 2, 3]);
      assertEquals(replies.map(({ res }) => res), new Array(3).fill(texts[index]));
    }
  }
});

Deno.test("a getter or a hook that calls another server while a reply is written disturbs neither", async () => {
  await using behind = await withServer({});
  await using client = await connect({ port: behind.port });
  const calls: Promise<unknown>[] = [];
  const commands = {
    GETTER: command({
      handler: (_params: Message) => ({
        get first() {
          calls.push(client.reply("PING"));
          return 1;
        },
        second: 2,
      }),
    }),
    BAD: command({ handler: (_params: Message): unknown => () => {} }),
  };
  const onError = () => void calls.push(client.reply("PING"));
  await using server = await withServer({ commands, onError });
  const peer = await server.connect();
  await peer.send({ cmd: "GETTER" }, { cmd: "BAD" }, { cmd: "GETTER", seq: 1 }, { cmd: 1 });
  const replies = await peer.readReplies(4);
  assertEquals(replies.map(({ res, err }) => res ?? err), [
    { first: 1, second: 2 },
    "REPLY_NOT_ENCODABLE",
    { first: 1, second: 2 },
    "PONG",
  ]);
  assertEquals(await Promise.all(calls), new Array(3).fill({ res: "PONG" }));
});

Deno.test("an error of a server's that is of another copy of the library arrives as it is", async () => {
  const other = await import(`../../errors.ts?copy=${Math.random()}`) as { RpcError: typeof RpcError };
  const commands = {
    NO: command({
      handler(_params: Message): null {
        throw new other.RpcError("NO", "text", { data: { n: 1 } });
      },
    }),
  };
  await using server = await withServer({ commands });
  await using client = await connect({ port: server.port, commands });
  const error = await assertRejects(() => client.reply("NO", {}), RpcError);
  assertEquals([error.code, error.message, error.data], ["NO", "NO: text", { n: 1 }]);
});
