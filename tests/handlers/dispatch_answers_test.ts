/**
 * What a handler may do, and what its caller and the server's hook get to know of it (PROTOCOL.md, "Replies", "What goes wrong"): every
 * request has exactly one final reply, and the connection goes on.
 */

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { encode } from "../../codec/msgpack.ts";
import { RpcError, type RpcErrorOptions } from "../../errors.ts";
import { command, type Commands } from "../../handlers/command.ts";
import {
  chunksOf,
  concat,
  frame,
  hex,
  type Message,
  request,
  type ServedInMemory,
  unhex,
  withMemory,
} from "../support/wire.ts";

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

Deno.test("dispatch answers with all fields of the reply, res first, and leaves out what is undefined", async () => {
  await using served = withMemory({
    commands: bothWays(() => ({ z: 1, res: { a: undefined, b: [null, "x", 1.5, true] }, a: undefined })),
  });
  for (const reply of await askAll(served)) {
    assertEquals(Object.entries(reply), [["res", { b: [null, "x", 1.5, true] }], ["z", 1]]);
  }
});

Deno.test("dispatch answers with a result that is null, false, 0 or empty", async () => {
  for (const res of [null, false, 0, "", [], {}]) {
    await using served = withMemory({ commands: bothWays(() => ({ res })) });
    assertEquals(await askAll(served), new Array(4).fill({ res }));
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

const NO_REPLIES: Record<string, unknown> = {
  "nothing": undefined,
  "null": null,
  "a text": "done",
  "a number": 5,
  "a function": () => {},
  "no res": { slept: 5 },
  "res undefined": { res: undefined },
  "an error field": { err: "NO" },
  "an array": [1],
};

for (const [name, answer] of Object.entries(NO_REPLIES)) {
  Deno.test(`dispatch answers INTERNAL for a handler that returns ${name}`, async () => {
    await using served = withMemory({ commands: bothWays(() => answer) });
    assertEquals(await askAll(served), new Array(4).fill({ err: "INTERNAL" }));
    const errors = served.errors.take() as TypeError[];
    assertEquals(errors.length, 4);
    for (const error of errors) assert(error instanceof TypeError && error.message.includes("return { res: value }"));
  });
}

class Point {
  x = 1;
}

const cycle: unknown[] = [];
cycle.push(cycle);

const NOT_ENCODABLE: Record<string, () => unknown> = {
  "a function": () => ({ res: () => SECRET }),
  "a symbol": () => ({ res: Symbol(SECRET) }),
  "a date": () => ({ res: new Date() }),
  "a map": () => ({ res: new Map() }),
  "an object of a class": () => ({ res: new Point() }),
  "a promise": () => ({ res: Promise.resolve(1) }),
  "a cycle": () => ({ res: cycle }),
  "a bigint beyond 64 bits": () => ({ res: 2n ** 64n }),
  "too deep a value": () => ({ res: JSON.parse("[".repeat(64) + "]".repeat(64)) }),
  "a value deep inside": () => ({ res: { a: [{ b: [() => {}] }] } }),
  "another field": () => ({ res: 1, other: () => {} }),
  "a reserved field": () => ({ res: 1, seq: 5 }),
  "the reserved field err": () => ({ res: 1, err: "NO" }),
  "a field with $": () => ({ res: 1, $x: 1 }),
};

for (const [name, answer] of Object.entries(NOT_ENCODABLE)) {
  Deno.test(`dispatch answers REPLY_NOT_ENCODABLE for ${name}, and leaves nothing of it on the wire`, async () => {
    await using served = withMemory({ commands: bothWays(answer) });
    for (const { err, msg, ...rest } of await askAll(served)) {
      assertEquals([err, rest], ["REPLY_NOT_ENCODABLE", {}]);
      assert(typeof msg === "string" && !msg.includes("hunter2"));
    }
    const errors = served.errors.takeWithOrigin();
    assertEquals(errors.map(({ origin }) => origin.command), ["SYNC", "SYNC", "ASYNC", "ASYNC"]);
    for (const { error } of errors) assertEquals((error as Error).name, "EncodeError");
  });
}

Deno.test("dispatch answers for a reply whose getters throw, wherever they are", async () => {
  const wrong = new Error(SECRET);
  const trap = (inside: "res" | "field" | "value"): unknown => {
    const thrower = {
      get x() {
        throw wrong;
      },
    };
    if (inside === "value") return { res: thrower };
    if (inside === "field") return Object.defineProperty({ res: 1 }, "x", { get: () => thrower.x, enumerable: true });
    return Object.defineProperty({}, "res", { get: () => thrower.x, enumerable: true });
  };
  for (const inside of ["value", "field", "res"] as const) {
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
    commands: { MAYBE: careless(({ id }) => id % 3 === 0 ? { res: () => {} } : { res: id }) },
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
  await using served = withMemory({ commands: { MINE: careless(() => ({ res: 1 })) } });
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
    ["constructor", "__proto__", "toString"].map((name) => [name, careless(() => ({ res: name }))]),
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
        return { res: params };
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
  const texts = [6, 7, 8, 10].map((header) => ({ res: "x".repeat(size - header) }));
  return texts.find((reply) => encode(reply).length === size);
});

Deno.test("dispatch sends no long frame unasked either where a handler passes on a name of the peer's", async () => {
  await using served = withMemory({
    commands: { PASS: careless(({ fields }) => ({ res: 1, ...(fields as Message) })) },
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
  const commands = { LENGTH: careless(({ text }) => ({ res: text.length })) };
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
