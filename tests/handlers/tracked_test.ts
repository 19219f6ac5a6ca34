/** Items of reply streams with an id (PROTOCOL.md, "Resuming"), at the server. */

import { assertEquals, assertObjectMatch, assertThrows } from "@std/assert";
import { command, type Middleware, tracked } from "../../handlers/command.ts";
import type { StandardSchema } from "../../handlers/standard_schema.ts";
import { withMemory } from "../support/test_server.ts";
import { hex, type Message } from "../support/wire.ts";

/** Counts on behind an id. */
const COUNT = command(async function* ({ after = 0, to }: { after?: number; to: number }) {
  for (let n = after + 1; n <= to; n++) yield tracked(n, { n });
  return "done";
});

const through: Middleware = (_call, next) => next();

Deno.test("tracked - an item's id goes beside it, through middleware as well, and the handler goes on behind it", async () => {
  for (const middleware of [[], [through]]) {
    await using served = withMemory({ commands: { COUNT }, middleware });
    const { peer } = served;
    await peer.send({ cmd: "COUNT", seq: 1, to: 2 });
    assertEquals(await peer.readReady(), [
      { seq: 1, res: { n: 1 }, more: true, $id: 1 },
      { seq: 1, res: { n: 2 }, more: true, $id: 2 },
      { seq: 1, res: "done" },
    ]);
    await peer.send({ cmd: "COUNT", seq: 2, to: 3, after: 2 });
    assertObjectMatch((await peer.readReady())[0], { res: { n: 3 }, $id: 3 });
  }
});

Deno.test("tracked - the bytes of an item: seq, res, then the rest", async () => {
  const ONE = command(async function* ({ after = "" }: { after?: string }) {
    yield tracked(after + "a", undefined);
  });
  await using served = withMemory({ commands: { ONE } });
  await served.peer.send({ cmd: "ONE", seq: 1 });
  await served.peer.readReady();
  assertEquals(
    hex(served.peer.received).slice(0, 77),
    "20 37 84 a3 73 65 71 01 a3 72 65 73 c0 a3 24 69 64 a1 61 a4 6d 6f 72 65 c3 0a",
  );
});

Deno.test("tracked - an id must be a whole number from 0 up or a text", async () => {
  for (const id of [0, 1, Number.MAX_SAFE_INTEGER, "", "x"]) assertEquals(tracked(id, 1).id, id);
  for (const id of [-1, 0.5, NaN, Infinity, 2 ** 53, 5n, null, undefined, {}]) {
    assertThrows(() => tracked(id as number, 1), TypeError, "its id must be a text or a whole number from 0 up");
  }
  let ended = 0;
  const BAD = command(async function* ({ after = 0 }: { after?: number }) {
    try {
      yield tracked(after, "good");
      yield tracked(-1, "bad");
    } finally {
      ended++;
    }
  });
  await using served = withMemory({ commands: { BAD } });
  await served.peer.send({ cmd: "BAD", seq: 1 });
  const [item, last] = await served.peer.readReady();
  assertEquals([item.res, last], ["good", { seq: 1, err: "INTERNAL" }]);
  assertEquals(served.errors.take().map((error) => (error as Error).message), [
    "Cannot track an item by -1: its id must be a text or a whole number from 0 up",
  ]);
  assertEquals(ended, 1);
});

Deno.test("tracked - the schema of a result sees the value", async () => {
  const seen: unknown[] = [];
  const result: StandardSchema = {
    "~standard": {
      version: 1,
      vendor: "by hand",
      validate(value) {
        seen.push(value);
        return { value };
      },
    },
  };
  const CHECKED = command({
    result,
    async *handler({ after = 0 }: { after?: number }) {
      yield tracked(after + 1, "x");
    },
  });
  await using served = withMemory({ commands: { CHECKED }, checkResults: true });
  await served.peer.send({ cmd: "CHECKED", seq: 1 });
  assertEquals((await served.peer.readReady())[0], { seq: 1, res: "x", more: true, $id: 1 });
  assertEquals(seen, ["x"]);
});

Deno.test("tracked - in the place of a result it cannot be sent", async () => {
  const WRONG = command((_: Message): unknown => tracked(1, "x"));
  await using served = withMemory({ commands: { WRONG } });
  assertObjectMatch(await served.peer.ask({ cmd: "WRONG", seq: 1 }), { seq: 1, err: "REPLY_NOT_ENCODABLE" });
  assertEquals(served.errors.take().length, 1);
});
