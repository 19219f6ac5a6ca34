/** The hook for errors, and the line on stderr that it replaces. */

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { command } from "../../handlers/command.ts";
import { settle } from "../support/peers.ts";
import { stderrLines, withMemory } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

const PONG = { res: "PONG" };

/** A command that throws, and the reply to it, which is the same whatever the hook does. */
async function askToThrow(thrown: unknown, onError?: (error: unknown) => void): Promise<void> {
  const THROW = command({
    handler: (_params: Message) => {
      throw thrown;
    },
  });
  await using served = withMemory({ commands: { THROW }, onError });
  assertEquals(await served.peer.ask({ cmd: "THROW" }), { err: "INTERNAL" });
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  await settle();
}

Deno.test("by default an error is one line on stderr, that says where it was, with its stack", async () => {
  const [line, ...rest] = await stderrLines(() => askToThrow(new TypeError("the disk is full")));
  assert(line.startsWith("packline: error in THROW for memory: TypeError: the disk is full | at "), line);
  assertEquals(rest, []);
});

Deno.test("by default an error cannot move the cursor, or begin a line of its own", async () => {
  const evil = "one\ntwo\r\nthree\x1b[2J\x07\x9b\u2028\u2029\x7f\0end";
  for (const thrown of [new Error(evil), evil, { evil }, Object.assign(new Error("x"), { stack: evil })]) {
    const [line, ...rest] = await stderrLines(() => askToThrow(thrown));
    assertEquals(rest, []);
    // deno-lint-ignore no-control-regex -- that there are none is what is tested
    assert(!/[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(line), JSON.stringify(line));
    assert(line.includes("one") && line.includes("three") && line.includes("end"), line);
  }
});

Deno.test("by default whatever can be thrown is shown", async () => {
  const hostile = [
    undefined,
    null,
    0,
    "",
    Object.create(null),
    Symbol("x"),
    () => {},
    {
      [Symbol.for("Deno.customInspect")]() {
        throw new Error("no look at me");
      },
    },
    Object.defineProperty(new Error("x"), "stack", {
      get() {
        throw new Error("no look at me");
      },
    }),
    Object.assign(new Error("x"), { stack: 5 }),
    new Proxy(new Error("x"), {
      getPrototypeOf() {
        throw new Error("no look at me");
      },
    }),
  ];
  for (const thrown of hostile) {
    const lines = await stderrLines(() => askToThrow(thrown));
    assertEquals(lines.length, 1);
    assert(lines[0].startsWith("packline: error in THROW for memory: "), lines[0]);
  }
});

Deno.test("a hook that throws, or rejects, breaks nothing: both errors are written", async () => {
  const hooks = [
    () => {
      throw new Error("the hook is broken");
    },
    () => Promise.reject(new Error("the hook is broken")),
  ];
  for (const hook of hooks) {
    const lines = await stderrLines(() => askToThrow(new Error("the disk is full"), hook));
    assertEquals(lines.length, 2);
    assert(lines[0].startsWith("packline: error in THROW for memory: Error: the disk is full"), lines[0]);
    assert(lines[1].startsWith("packline: error in onError: Error: the hook is broken"), lines[1]);
  }
});

Deno.test("the hook may make a call of its own on another connection, in the middle of a reply", async () => {
  const BAD = command({ handler: (_params: Message): unknown => () => {} });
  await using other = withMemory();
  await using served = withMemory({
    commands: { BAD },
    onError: () => void other.peer.send({ cmd: 1 }),
  });
  await served.peer.send({ cmd: 1, seq: 1 }, { cmd: "BAD", seq: 2 }, { cmd: 1, seq: 3 });
  const replies = await served.peer.readReplies(3);
  assertEquals(replies.map(({ seq, res, err }) => [seq, res ?? err]), [
    [1, "PONG"],
    [2, "REPLY_NOT_ENCODABLE"],
    [3, "PONG"],
  ]);
  assertEquals(await other.peer.readReply(), PONG);
});

Deno.test("a hook gets errors as they are, with their causes", async () => {
  const wrong = new Error("outer", { cause: new Error("inner") });
  const errors: unknown[] = [];
  await askToThrow(wrong, (error) => void errors.push(error));
  assertStrictEquals(errors[0], wrong);
});
