/**
 * What a handler may do, and what its caller and the server's hook get to know of it (PROTOCOL.md, "Replies", "What goes wrong"): every
 * request has exactly one final reply, and the connection goes on.
 */

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { encode } from "../../codec/msgpack.ts";
import { RpcError, type RpcErrorOptions } from "../../errors.ts";
import { command, type Commands, type Middleware, reply } from "../../handlers/command.ts";
import { type ServedInMemory, withMemory } from "../support/test_server.ts";
import { chunksOf, concat, frame, hex, type Message, request, unhex } from "../support/wire.ts";

const PONG = { res: "PONG" };
const SECRET = "postgres://admin:hunter2@db";

/** A handler that does what a test says, without the types that would forbid it. */
// deno-lint-ignore no-explicit-any -- handlers here do what they must not
function careless(handler: (params: any, context: any) => any): Commands[string] {
  return command({ handler });
}

/** A command in both kinds: answering at once, and later. */
function bothWays(answer: () => unknown): Commands {
  return { SYNC: careless(answer), ASYNC: careless(() => Promise.resolve().then(answer)) };
}

/** Asks both kinds, with and without seq, and a PING behind each: the connection must have gone on. */
async function askAll(served: ServedInMemory): Promise<Message[]> {
  const replies: Message[] = [];
  for (const cmd of ["SYNC", "ASYNC"]) {
    for (const seq of [undefined, 5]) {
      replies.push(await served.peer.ask({ cmd, ...(seq === undefined ? {} : { seq }) }));
      assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
    }
  }
  assertEquals(await served.peer.readReady(), [], "exactly one reply each");
  return replies.map(({ seq: _seq, ...reply }) => reply);
}

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

// What is no command, and what is no message -------------------------------------------------------------------------

Deno.test("dispatch finds no command by a name or number that nobody registered", async () => {
  await using served = withMemory({ commands: { MINE: careless(() => 1) } });
  const inherited = Object.getOwnPropertyNames(Object.prototype);
  assert(inherited.includes("constructor") && inherited.includes("__proto__"));
  const names = [...inherited, "ping", "PING ", "", "1", "2", "then", "MINE\0"];
  for (const cmd of [...names, 5, 15, 16, 2 ** 53 - 1, -1, 1.5, NaN, null, true, [], {}, 2n ** 60n]) {
    assertEquals(await served.peer.ask({ cmd, seq: 1 }), { seq: 1, err: "CMD_NOT_FOUND" }, Deno.inspect(cmd));
  }
  assertEquals(await served.peer.ask({}), { err: "CMD_NOT_FOUND" });
  assertEquals(await served.peer.ask({ cmd: "MINE" }), { res: 1 });
});

Deno.test("dispatch takes a name of Object.prototype for a command where one is registered", async () => {
  const commands = Object.fromEntries(
    ["constructor", "__proto__", "toString"].map((name) => [name, careless(() => name)]),
  );
  await using served = withMemory({ commands });
  for (const name of Object.keys(commands)) assertEquals(await served.peer.ask({ cmd: name }), { res: name });
  const { res } = await served.peer.ask({ cmd: "STATS" }) as { res: { commands: Record<string, { calls: number }> } };
  for (const name of Object.keys(commands)) {
    assertEquals(Object.getOwnPropertyDescriptor(res.commands, name)?.value.calls, 1);
  }
});

Deno.test("dispatch gives the handler a parameter named __proto__ as one like any other", async () => {
  let seen: object | undefined;
  await using served = withMemory({
    commands: {
      LOOK: careless((params) => {
        seen = params;
        return params;
      }),
    },
  });
  const reply = await served.peer.ask(JSON.parse('{"cmd":"LOOK","__proto__":{"admin":true}}'));
  assertEquals(Object.getOwnPropertyNames(reply.res), ["__proto__"]);
  assert(Object.getPrototypeOf(seen) === Object.prototype && !("admin" in seen!));
});

Deno.test("dispatch answers INVALID_MESSAGE in the order of the lane, and goes on", async () => {
  const payloads = [
    "",
    "c1",
    "01",
    "91 01",
    "81 a3 63 6d 64",
    "80 80",
    "81 a1 61 a1 ff",
    "81 a1 61 d4 05 00",
    "81 c0 01",
  ];
  await using served = withMemory();
  for (const payload of payloads) {
    await served.peer.sendBytes(concat(request({ cmd: 1 }), frame(unhex(payload)), request({ cmd: 1 })));
    const [before, { err, msg, ...rest }, after] = await served.peer.readReplies(3);
    assertEquals([before, err, rest, after], [PONG, "INVALID_MESSAGE", {}, PONG], payload);
    assert(typeof msg === "string");
  }
});

Deno.test("dispatch answers INVALID_MESSAGE for fields out of their range, with the seq where it is sound", async () => {
  await using served = withMemory();
  const bad: Message[] = [{ ttl: 0 }, { ttl: "5" }, { ttl: -1 }, { meta: 5 }, { meta: { a: 1 } }, { credit: 0 }];
  for (const fields of bad) {
    const { seq, err } = await served.peer.ask({ cmd: 1, seq: 9, ...fields });
    assertEquals([seq, err], [9, "INVALID_MESSAGE"], Deno.inspect(fields));
    assertEquals((await served.peer.ask({ cmd: 1, ...fields })).err, "INVALID_MESSAGE");
  }
  assertEquals((await served.peer.ask({ cmd: 1, credit: 5 })).err, "INVALID_MESSAGE", "credit without a seq");
  assertEquals(await served.peer.ask({ cmd: 1, seq: 9, ttl: 5_000, meta: {}, credit: 1 }), { seq: 9, ...PONG });
});

Deno.test("dispatch answers INVALID_MESSAGE for a malformed control message, and goes on", async () => {
  await using served = withMemory();
  for (
    const fields of [{ seq: 1, cancel: true, credit: 1 }, { cancel: true }, { seq: 1, cancel: 1 }, {
      seq: 1,
      credit: 0,
    }, { max: -1 }]
  ) {
    const { err, seq } = await served.peer.ask({ cmd: 0, ...fields });
    assertEquals([err, seq], ["INVALID_MESSAGE", undefined], Deno.inspect(fields));
  }
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
});

Deno.test("dispatch ignores a control message that it does not know: no reply, no strike", async () => {
  await using served = withMemory({ maxStrikes: 1 });
  for (let times = 0; times < 3; times++) {
    for (const fields of [{}, { seq: 1 }, { alive: 30_000, notice: true }, { seq: 1, item: 1 }, { later: true }]) {
      await served.peer.send({ cmd: 0, ...fields });
    }
  }
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
});

Deno.test("dispatch puts no byte of the peer's into an error", async () => {
  await using served = withMemory();
  const marks = new TextEncoder().encode("MARK");
  await served.peer.ask({ cmd: 1 });
  for (
    const payload of [marks, concat(unhex("81 a4"), marks, unhex("c1")), concat(unhex("81 a5"), marks, unhex("ff 01"))]
  ) {
    await served.peer.sendBytes(frame(payload));
    await served.peer.readReply();
  }
  await served.peer.ask({ cmd: "MARK" });
  await served.peer.ask({ cmd: 1, seq: "MARK" });
  await served.peer.ask({ cmd: 1, meta: { MARK: 5 } });
  assert(!new TextDecoder().decode(served.peer.received).includes("MARK"));
});

// Large replies ------------------------------------------------------------------------------------------------------

/** Answers with a payload of exactly `size` bytes, to a request without seq. */
const SIZED = careless(({ size }) => {
  // A text has a header of 1, 2, 3 or 5 bytes.
  const texts = [6, 7, 8, 10].map((header) => "x".repeat(size - header));
  return texts.find((res) => encode({ res }).length === size);
});

Deno.test("dispatch sends no long frame unasked either where a handler passes on a name of the peer's", async () => {
  await using served = withMemory({
    commands: { PASS: careless(({ fields }) => reply(1, fields)) },
  });
  await served.peer.send({ cmd: "PASS", fields: { ["$".repeat(60_000)]: 1 } });
  const { err, msg } = await served.peer.readReply();
  assertEquals([err, msg], ["REPLY_NOT_ENCODABLE", `the reply field "${"$".repeat(40)}…" is reserved`]);
  assertEquals(served.errors.take().length, 1);
});

Deno.test("dispatch sends no payload that needs a long frame until the client has said it takes one", async () => {
  await using served = withMemory({ commands: { SIZED } });
  const { peer } = served;
  const largest = await peer.ask({ cmd: "SIZED", size: 57_310 });
  assertEquals((largest.res as string).length, 57_302);
  assertEquals(hex(peer.received.slice(0, 2)), "ff fe");
  const refused = await peer.ask({ cmd: "SIZED", size: 57_311 });
  assertEquals([refused.err, Object.keys(refused)], ["REPLY_TOO_LARGE", ["err", "msg"]]);
  await peer.send({ cmd: 0, max: 100_000 });
  const before = peer.received.length;
  assertEquals(((await peer.ask({ cmd: "SIZED", size: 57_311 })).res as string).length, 57_303);
  assertEquals(hex(peer.received.slice(before, before + 6)), "1f 1f 00 00 df df");
  assertEquals(((await peer.ask({ cmd: "SIZED", size: 100_000 })).res as string).length, 99_990);
  assertEquals((await peer.ask({ cmd: "SIZED", size: 100_001 })).err, "REPLY_TOO_LARGE");
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  assertEquals(served.errors.take(), [], "a limit of the caller's own is no error of the server");
});

Deno.test("dispatch holds to its own limit, whatever a client would take", async () => {
  await using served = withMemory({ commands: { SIZED }, maxPayloadBytes: 70_000 });
  await served.peer.send({ cmd: 0, max: 2 ** 53 - 1 });
  assertEquals(((await served.peer.ask({ cmd: "SIZED", size: 70_000 })).res as string).length, 69_990);
  assertEquals((await served.peer.ask({ cmd: "SIZED", size: 70_001 })).err, "REPLY_TOO_LARGE");
  assertEquals(served.errors.take().length, 1);
});

Deno.test("dispatch holds to a limit below the short frame's, both ways", async () => {
  await using served = withMemory({ commands: { SIZED }, maxPayloadBytes: 100 });
  assertEquals(((await served.peer.ask({ cmd: "SIZED", size: 100 })).res as string).length, 93);
  const over = await served.peer.ask({ cmd: "SIZED", size: 101 });
  assertEquals(over.err, "REPLY_TOO_LARGE");
  assertEquals(served.errors.take().length, 1);
  await served.peer.send({ cmd: 1, text: "x".repeat(100) });
  const [refused, ...rest] = await served.peer.readToEnd();
  assertEquals([refused.err, rest], ["BAD_FRAME", []]);
});

Deno.test("dispatch takes long requests without being asked, up to its limit", async () => {
  const commands = { LENGTH: careless(({ text }) => text.length) };
  await using served = withMemory({ commands, maxPayloadBytes: 300_000 });
  const bytes = request({ cmd: "LENGTH", text: "\n".repeat(299_978) });
  assertEquals(bytes.length, 300_000 + 7);
  const sent = served.peer.sendBytes(...chunksOf(bytes, 10_000));
  assertEquals(await served.peer.readReply(), { res: 299_978 });
  await sent;
  const tooLong = served.peer.send({ cmd: "LENGTH", text: "\n".repeat(299_979) });
  assertEquals((await served.peer.readReply()).err, "BAD_FRAME");
  await tooLong.catch(() => {}); // its end finds the connection closed
});

Deno.test("dispatch keeps failures to the max that the peer takes: without data, then without text, and at least the code", async () => {
  const FAIL = command({
    handler: (): never => {
      throw new RpcError("NO_SUCH_PLACE", "x".repeat(100), { data: { near: "y".repeat(200) } });
    },
  });
  const asked = async (max: number, request: Record<string, unknown>) => {
    await using served = withMemory({ commands: { FAIL } });
    await served.peer.send({ cmd: 0, max });
    return await served.peer.ask(request);
  };
  const whole = { err: "NO_SUCH_PLACE", msg: "x".repeat(100), data: { near: "y".repeat(200) } };
  assertEquals(await asked(400, { cmd: "FAIL" }), whole);
  assertEquals(await asked(300, { cmd: "FAIL" }), { err: whole.err, msg: whole.msg });
  assertEquals(await asked(100, { cmd: "FAIL" }), { err: whole.err });
  assertEquals(await asked(1, { cmd: "FAIL", seq: 1 }), { seq: 1, err: whole.err });
  assertEquals(await asked(1, { cmd: 1, seq: 1 }), { seq: 1, err: "REPLY_TOO_LARGE" });
  assertEquals(await asked(8, { cmd: "FOO", seq: 1 }), { seq: 1, err: "CMD_NOT_FOUND" });
  assertEquals(await asked(40, { cmd: 1, seq: "no number" }), { err: "INVALID_MESSAGE" });

  await using served = withMemory();
  await served.peer.send({ cmd: 0, max: 40 });
  await served.peer.sendBytes(unhex("ff ff"));
  assertEquals(await served.peer.readReply(), { err: "BAD_FRAME" });
});

Deno.test("dispatch answers INTERNAL for a code that no reply may have, and reports why", async () => {
  const longest = "é".repeat(32); // 64 bytes
  const codes: [code: unknown, said: string][] = [
    ["C".repeat(2_000_000), `"${"C".repeat(64)}…"`],
    ["C".repeat(65), `"${"C".repeat(64)}…"`],
    [longest + "C", `"${longest}C…"`],
    [5, "a number"],
    [undefined, "undefined"],
  ];
  for (const [code, said] of codes) {
    await using served = withMemory({
      commands: bothWays(() => {
        throw new RpcError(code as string, "a text", { data: 1 });
      }),
    });
    assertEquals(await askAll(served), Array(4).fill({ err: "INTERNAL" }));
    const texts = served.errors.take().map(String);
    assertEquals(
      texts,
      Array(4).fill(`TypeError: Cannot answer with ${said} as the code: it must be text of at most 64 bytes`),
    );
  }
  await using served = withMemory({
    commands: bothWays(() => {
      throw new RpcError(longest);
    }),
  });
  assertEquals(await askAll(served), Array(4).fill({ err: longest }));
});

Deno.test("dispatch keeps each part of a failure to the max that the peer takes, whatever an untyped service puts there", async () => {
  const large = "x".repeat(2_000_000);
  const says = (json: object) => () => {
    throw Object.defineProperty(new RpcError("OWN"), "toJSON", { value: () => json });
  };
  const failures: [json: object, reply: Message][] = [
    [{ err: large }, { err: "INTERNAL" }],
    [{ err: large, msg: "a text", data: large }, { err: "INTERNAL" }],
    [{ err: "OWN", $after: large }, { err: "OWN" }],
    [{ err: "OWN", more: large }, { err: "OWN" }],
    [{ err: "OWN", msg: large }, { err: "OWN" }],
    [{ err: "OWN", msg: "a text", data: large }, { err: "OWN", msg: "a text" }],
  ];
  for (const [json, reply] of failures) {
    await using served = withMemory({ commands: bothWays(says(json)) });
    assertEquals(await askAll(served), Array(4).fill(reply));
    assertEquals(served.errors.take().length, 0);
  }
});
