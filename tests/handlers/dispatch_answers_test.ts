/**
 * What a handler may do, and what its caller and the server's hook get to know of it (PROTOCOL.md, "Replies", "What goes wrong"): every
 * request has exactly one final reply, and the connection goes on.
 */

import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { RpcError, type RpcErrorOptions } from "../../errors.ts";
import { type Middleware, reply } from "../../handlers/command.ts";
import { askAll, bothWays, careless } from "../support/careless.ts";
import { withMemory } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

const SECRET = "postgres://admin:hunter2@db";

// What a handler answers with ----------------------------------------------------------------------------------------

Deno.test("dispatch answers with all fields of a reply(), res first, and leaves out what is undefined", async () => {
  await using served = withMemory({
    commands: bothWays(() => reply({ a: undefined, b: [null, "x", 1.5, true] }, { z: 1, a: undefined })),
  });
  for (const reply of await askAll(served)) {
    assertEquals(Object.entries(reply), [["res", { b: [null, "x", 1.5, true] }], ["z", 1]]);
  }
});

/** What a handler returns, and what its caller gets: the value, whatever it is, as `res`. */
const RESULTS: [name: string, answer: unknown, res: unknown][] = [
  ...([["null", null], ["false", false], ["0", 0], ["an empty text", ""], ["an empty array", []]] as const).map(
    ([name, value]): [string, unknown, unknown] => [name, value, value],
  ),
  ["an empty object", {}, {}],
  ["nothing", undefined, null],
  ["a text", "done", "done"],
  ["a number", 5, 5],
  ["an array", [1, undefined], [1, null]],
  ["bytes", new Uint8Array([1, 2]), new Uint8Array([1, 2])],
  ["an object without res", { slept: 5 }, { slept: 5 }],
  ["an object with res", { res: 1, slept: 5 }, { res: 1, slept: 5 }],
  ["an object whose res is undefined", { res: undefined }, {}],
  ["an object with an error's fields", { err: "NO", msg: "text" }, { err: "NO", msg: "text" }],
  ["an object with reserved names", { seq: 7, more: true, $x: 1 }, { seq: 7, more: true, $x: 1 }],
  ["an object whose then is no function", { then: 1 }, { then: 1 }],
];

for (const [name, answer, res] of RESULTS) {
  Deno.test(`dispatch answers with the value that a handler returns: ${name}`, async () => {
    await using served = withMemory({ commands: bothWays(() => answer) });
    assertEquals(await askAll(served), new Array(4).fill({ res }));
  });
}

Deno.test("dispatch waits for any object with a then, and answers as it does: settled at once, later, nested, or failed", async () => {
  const wrong = new Error(SECRET);
  const thenable = (then: (resolve: (value: unknown) => void, reject: (error: unknown) => void) => void) => ({ then });
  const cases: [answer: () => unknown, reply: Message][] = [
    [() => thenable((resolve) => resolve(1)), { res: 1 }],
    [() => thenable((resolve) => queueMicrotask(() => resolve(undefined))), { res: null }],
    [() => thenable((resolve) => resolve(thenable((resolve) => resolve({ res: 1 })))), { res: { res: 1 } }],
    [() => thenable((resolve) => resolve(reply(1, { slept: 2 }))), { res: 1, slept: 2 }],
    [() => thenable((_, reject) => reject(new RpcError("NO"))), { err: "NO" }],
    [() => thenable((_, reject) => reject(wrong)), { err: "INTERNAL" }],
    [() =>
      thenable(() => {
        throw wrong;
      }), { err: "INTERNAL" }],
    [() =>
      Object.defineProperty({}, "then", {
        get() {
          throw wrong;
        },
      }), { err: "INTERNAL" }],
  ];
  for (const [answer, reply] of cases) {
    await using served = withMemory({ commands: bothWays(answer) });
    assertEquals(await askAll(served), new Array(4).fill(reply));
    assertEquals(served.errors.take(), reply.err === "INTERNAL" ? new Array(4).fill(wrong) : []);
  }
});

Deno.test("reply() puts fields beside any result; the result is its first argument, whatever the fields say", async () => {
  const cases: [answer: unknown, reply: Message][] = [
    [reply(1, { slept: 2 }), { res: 1, slept: 2 }],
    [reply(null, { a: null }), { res: null, a: null }],
    [reply(undefined, { a: 1 }), { res: null, a: 1 }],
    [reply({ res: 1 }, {}), { res: { res: 1 } }],
    [reply(1, { res: 2, a: 3 }), { res: 1, a: 3 }],
    [reply(1, { cmd: "X", ttl: 1, meta: {} }), { res: 1, cmd: "X", ttl: 1, meta: {} }],
  ];
  const through: Middleware = (_call, next) => next();
  for (const [answer, reply] of cases) {
    for (const middleware of [[], [through]]) {
      await using served = withMemory({ commands: bothWays(() => answer), middleware });
      assertEquals(await askAll(served), new Array(4).fill(reply));
    }
  }
});

Deno.test("reply() refuses fields that are no plain object, and names what it got", () => {
  const kinds: [fields: unknown, kind: string][] = [
    [undefined, "undefined"],
    [null, "null"],
    [5, "a number"],
    [[1], "an array"],
    [new Map([["a", 1]]), "a Map"],
  ];
  for (const [fields, kind] of kinds) {
    const text = `Cannot use ${kind} as the fields of reply(): use an object, as { slept: 2 }`;
    assertEquals(assertThrows(() => reply(1, fields as object), TypeError).message, text);
  }
});

const THROWN: Record<string, unknown> = {
  "an error": new TypeError(`no connection to ${SECRET}`),
  "a text": SECRET,
  "nothing": undefined,
  "null": null,
  "a number": 0,
  "an object": { secret: SECRET },
  "a code of the caller's own": new RpcError("CONNECTION_LOST", SECRET),
};

for (const [name, thrown] of Object.entries(THROWN)) {
  Deno.test(`dispatch answers INTERNAL and no more for a handler that throws ${name}; the hook gets it whole`, async () => {
    const commands = bothWays(() => {
      throw thrown;
    });
    await using served = withMemory({ commands });
    assertEquals(await askAll(served), new Array(4).fill({ err: "INTERNAL" }));
    assert(!new TextDecoder().decode(served.peer.received).includes("hunter2"));
    const errors = served.errors.takeWithOrigin();
    assertEquals(errors.length, 4);
    for (const { error } of errors) assertStrictEquals(error, thrown);
    assertEquals(errors.map(({ origin }) => origin.command), ["SYNC", "SYNC", "ASYNC", "ASYNC"]);
    assertEquals(errors[0].origin.peer, "memory");
  });
}

class Point {
  x = 1;
}

const cycle: unknown[] = [];
cycle.push(cycle);

const TOO_DEEP = "Cannot encode containers nested deeper than 64, or in a cycle";

const NOT_ENCODABLE: [name: string, answer: () => unknown, msg: string][] = [
  ["a function", () => () => SECRET, "res: a function cannot be sent"],
  ["a symbol", () => Symbol(SECRET), "res: a symbol cannot be sent"],
  ["a date", () => new Date(), "res: a Date cannot be sent"],
  ["a map", () => new Map(), "res: a Map cannot be sent"],
  ["an object of a class", () => new Point(), "res: a Point cannot be sent"],
  ["a promise inside", () => ({ later: Promise.resolve(1) }), "res.later: a Promise cannot be sent"],
  ["a cycle", () => cycle, TOO_DEEP],
  ["a bigint beyond 64 bits", () => 2n ** 64n, "res: an integer of more than 64 bits cannot be sent"],
  ["too deep a value", () => JSON.parse("[".repeat(64) + "]".repeat(64)), TOO_DEEP],
  ["a value deep inside", () => ({ a: [{ b: [() => {}] }] }), "res.a[0].b[0]: a function cannot be sent"],
  ["a value inside an object with res", () => ({ res: new Date() }), "res.res: a Date cannot be sent"],
  ["another field", () => reply(1, { other: () => {} }), "other: a function cannot be sent"],
  [
    "a value deep inside another field",
    () => reply(1, { other: [{ at: new Date() }] }),
    "other[0].at: a Date cannot be sent",
  ],
  ["a result beside fields", () => reply({ at: new Date() }, { slept: 5 }), "res.at: a Date cannot be sent"],
  ["the reserved field seq", () => reply(1, { seq: 5 }), 'the reply field "seq" is reserved'],
  ["the reserved field err", () => reply(1, { err: "NO" }), 'the reply field "err" is reserved'],
  ["the reserved field more", () => reply(1, { more: true }), 'the reply field "more" is reserved'],
  ["a reply within a reply", () => reply(reply(1, { a: 1 }), { b: 2 }), "res: a Reply cannot be sent"],
  ["a reply within a result", () => ({ list: [reply(1, {})] }), "res.list[0]: a Reply cannot be sent"],
  ["a field with $", () => reply(1, { $x: 1 }), 'the reply field "$x" is reserved'],
];

for (const [name, answer, msg] of NOT_ENCODABLE) {
  Deno.test(`dispatch answers REPLY_NOT_ENCODABLE for ${name}, says where, and leaves nothing of it on the wire`, async () => {
    await using served = withMemory({ commands: bothWays(answer) });
    assertEquals(await askAll(served), new Array(4).fill({ err: "REPLY_NOT_ENCODABLE", msg }));
    assert(!new TextDecoder().decode(served.peer.received).includes("hunter2"));
    const errors = served.errors.takeWithOrigin();
    assertEquals(errors.map(({ origin }) => origin.command), ["SYNC", "SYNC", "ASYNC", "ASYNC"]);
    for (const { error } of errors) assertEquals((error as Error).name, "EncodeError");
  });
}

Deno.test("dispatch answers for a reply whose getters throw, wherever they are", async () => {
  const wrong = new Error(SECRET);
  const trap = (inside: "res" | "field" | "value" | "fields beside"): unknown => {
    const thrower = {
      get x() {
        throw wrong;
      },
    };
    const trapped = (object: object, name: string) =>
      Object.defineProperty(object, name, { get: () => thrower.x, enumerable: true });
    if (inside === "value") return { deep: [thrower] };
    if (inside === "field") return trapped(reply(1, {}), "x");
    if (inside === "res") return trapped(reply(1, {}), "res");
    return reply(1, thrower);
  };
  for (const inside of ["value", "field", "res", "fields beside"] as const) {
    await using served = withMemory({ commands: bothWays(() => trap(inside)) });
    for (const reply of await askAll(served)) {
      assert(["INTERNAL", "REPLY_NOT_ENCODABLE"].includes(reply.err as string), `${inside}: ${Deno.inspect(reply)}`);
      assertEquals(Object.keys(reply), ["err"]);
    }
    assertEquals(served.errors.take(), new Array(4).fill(wrong), inside);
  }
});

Deno.test("dispatch gives one bad reply among many its own error, and the others theirs", async () => {
  await using served = withMemory({
    commands: { MAYBE: careless(({ id }) => id % 3 === 0 ? () => {} : id) },
  });
  await served.peer.send(...Array.from({ length: 100 }, (_, id) => ({ cmd: "MAYBE", seq: id, id })));
  const replies = await served.peer.readReplies(100);
  assertEquals(replies.map(({ seq }) => seq), Array.from({ length: 100 }, (_, id) => id));
  assertEquals(
    replies.map(({ res, err }) => res ?? err),
    Array.from({ length: 100 }, (_, id) => id % 3 === 0 ? "REPLY_NOT_ENCODABLE" : id),
  );
  assertEquals(served.errors.take().length, 34);
});

// Errors that are meant for the caller -------------------------------------------------------------------------------

Deno.test("dispatch tells the caller an RpcError as it is, and not the hook", async () => {
  const errors: [code: string, text?: string, options?: RpcErrorOptions, reply?: Message][] = [
    ["OUT_OF_STOCK", undefined, undefined, { err: "OUT_OF_STOCK" }],
    ["OUT_OF_STOCK", "none left", undefined, { err: "OUT_OF_STOCK", msg: "none left" }],
    ["OUT_OF_STOCK", "", { data: { left: 0 } }, { err: "OUT_OF_STOCK", msg: "", data: { left: 0 } }],
    ["CANCELLED", undefined, { data: null }, { err: "CANCELLED", data: null }],
    ["OUT_OF_STOCK", "none", { cause: new Error(SECRET) }, { err: "OUT_OF_STOCK", msg: "none" }],
  ];
  for (const [code, text, options, reply] of errors) {
    const commands = bothWays(() => {
      throw new RpcError(code, text, options);
    });
    await using served = withMemory({ commands });
    assertEquals(await askAll(served), new Array(4).fill(reply));
  }
});

Deno.test("dispatch answers with the code and text of an RpcError whose data cannot be sent, and tells the hook", async () => {
  const commands = bothWays(() => {
    throw new RpcError("NO", "text", { data: () => SECRET });
  });
  await using served = withMemory({ commands });
  for (const reply of await askAll(served)) {
    const { seq: _seq, ...rest } = reply;
    assertEquals(rest, { err: "NO", msg: "text" });
  }
  assertEquals(served.errors.take().length, 4);
});
