/**
 * What a payload means: every field of a request and a control message, right and wrong; and the bytes of replies and
 * requests, with their field order, reserved names and depth.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  Cancel,
  type Control,
  Credit,
  Going,
  InvalidMessage,
  type KnownControl,
  ReceivedReply,
  Reply,
  Request,
  Settings,
  UnknownControl,
  UnknownNotice,
} from "../../codec/message.ts";
import {
  BUILT_IN_NUMBERS,
  FIELD_NAMES,
  isReservedParameter,
  isReservedReplyField,
  type Kind,
  MESSAGES,
} from "../../codec/message_table.ts";
import { readReply, readRequest } from "../../codec/read_message.ts";
import { type OutgoingRequest, writeControl, writeReply, writeRequest } from "../../codec/write_message.ts";
import { decode, encode } from "../../codec/msgpack.ts";
import { DecodeError, EncodeError } from "../../codec/errors.ts";
import { Reader, setField } from "../../codec/reader.ts";
import { Writer } from "../../codec/writer.ts";
import { takeBatch } from "../support/batch.ts";
import { RpcError } from "../../errors.ts";
import type { Command } from "../../handlers/command.ts";
import type { Mistake } from "../../handlers/mistakes.ts";
import { demoCommands } from "../../cli/demo_commands.ts";
import { builtIns } from "../../handlers/registry.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { concat, hex, unhex } from "../support/wire.ts";

function read<Message>(readMessage: (reader: Reader) => Message, payload: Uint8Array): Message {
  const reader = new Reader(DEFAULT_LIMITS);
  reader.begin(payload, 0, payload.length);
  return readMessage(reader);
}

function requestOf(fields: Record<string, unknown>): Request {
  const message = read(readRequest, encode(fields));
  assert(message instanceof Request, `${Deno.inspect(fields)} gave ${Deno.inspect(message)}`);
  return message as Request;
}

function replyOf(fields: Record<string, unknown>): ReceivedReply {
  const message = read(readReply, encode(fields));
  assert(message instanceof ReceivedReply, `${Deno.inspect(fields)} gave ${Deno.inspect(message)}`);
  return message as ReceivedReply;
}

function payloadOf(write: (writer: Writer) => void): Uint8Array {
  const writer = new Writer();
  write(writer);
  return takeBatch(writer);
}

function replyPayload(seq: number | undefined, outcome: Record<string, unknown> | RpcError, more = false): Uint8Array {
  return payloadOf((writer) => writeReply(writer, new Reply(seq, outcome, more)));
}

function requestPayload(request: Partial<OutgoingRequest>): Uint8Array {
  const nothing = { cmd: 1, params: {}, seq: undefined, ttl: undefined, meta: undefined, credit: undefined };
  return payloadOf((writer) => writeRequest(writer, { ...nothing, ...request }));
}

// The table ----------------------------------------------------------------------------------------------------------

/** A value for each type that the table has. */
const VALUES: Record<string, unknown> = {
  "0": 0,
  "true": true,
  "integer or text": "PING",
  "integer, 0 to 2^53 - 1": 5,
  "integer, 1 to 2^53 - 1": 5,
  "integer, 1000 to 3600000": 1_000,
  "number > 0": 0.5,
  "number >= 0": 0,
  "true or false": false,
  "map of text to text": { a: "b" },
  "text": "text",
  "any value": [null],
};

/** A message of a kind, as the table has it. */
function messageOf(kind: Kind, withOptional = true): Record<string, unknown> {
  const { fields, others } = MESSAGES[kind];
  // Settings have at least one of their fields.
  const isShown = (name: string) => kind === "settings" ? name !== "notice" : !fields[name].optional;
  const shown = Object.entries(fields).filter(([name]) => withOptional || isShown(name));
  const message = Object.fromEntries(shown.map(([name, { type }]) => {
    assert(type in VALUES, `${kind}: ${type}`);
    return [name, VALUES[type]];
  }));
  return others === undefined ? message : { ...message, later: 1 };
}

const KINDS = Object.keys(MESSAGES) as Kind[];

function kindOf(kind: Kind, message: Record<string, unknown>): string {
  const readMessage = MESSAGES[kind].direction === "to the server" ? readRequest : readReply;
  return read<{ kind: string }>(readMessage, encode(message)).kind;
}

Deno.test("MESSAGES has each message as it is read, with its optional fields and without", () => {
  for (const kind of KINDS) {
    for (const withOptional of [true, false]) {
      const message = messageOf(kind, withOptional);
      assertEquals(kindOf(kind, message), kind, Deno.inspect(message));
    }
  }
});

Deno.test("MESSAGES marks as optional what may be missing, and nothing else", () => {
  for (const kind of KINDS) {
    const message = messageOf(kind);
    for (const [name, { optional }] of Object.entries(MESSAGES[kind].fields)) {
      const { [name]: _, ...less } = message;
      if (name === "seq") delete less.credit; // which needs it
      // Who gets a request without cmd, or a reply without res, refuses it as such.
      if (optional) assertEquals(kindOf(kind, less), kind, `${kind} without ${name}`);
      else if (!(kind === "request" || name === "res")) assert(kindOf(kind, less) !== kind, `${kind} without ${name}`);
    }
  }
});

Deno.test("MESSAGES has the names of all fields, and those that a command may not use", () => {
  const names = "cmd seq ttl meta credit max alive notice cancel res more $items err msg data $after going".split(" ");
  assertEquals([...FIELD_NAMES].sort(), names.toSorted());
  const reserved = (isReserved: (name: string) => boolean) => [...names, "$x", "res2", ""].filter(isReserved);
  assertEquals(reserved(isReservedParameter), ["cmd", "seq", "ttl", "meta", "credit", "$items", "$after", "$x"]);
  assertEquals(reserved(isReservedReplyField), ["seq", "res", "more", "$items", "err", "msg", "data", "$after", "$x"]);
});

Deno.test("a reply that is written has the kind of the reply that is read", () => {
  const replies: [kind: Kind, reply: Reply][] = [
    ["item", new Reply(1, { res: 1 }, true)],
    ["reply", new Reply(undefined, { res: null }, false)],
    ["error", new Reply(1, new RpcError("NO"), false)],
  ];
  for (const [kind, reply] of replies) {
    const payload = payloadOf((writer) => writeReply(writer, reply));
    assertEquals([reply.kind, read(readReply, payload).kind], [kind, kind]);
  }
});

Deno.test("a type refuses the reserved names of parameters", () => {
  type Refused<Name extends string> = Mistake<Record<Name, number>, null> extends string ? true : false;
  const refused: { cmd: Refused<"cmd">; seq: Refused<"seq">; ttl: Refused<"ttl"> } = {
    cmd: true,
    seq: true,
    ttl: true,
  };
  const more: { meta: Refused<"meta">; credit: Refused<"credit"> } = { meta: true, credit: true };
  assertEquals(Object.keys({ ...refused, ...more }), Object.keys(MESSAGES.request.fields));
});

Deno.test("BUILT_IN_NUMBERS are those that the article and PROTOCOL.md have, and below the first free one", () => {
  assertEquals(Object.fromEntries(BUILT_IN_NUMBERS), { PING: 1, DELAY: 2, INFO: 3, STATS: 4 });
  for (const [name, command] of Object.entries<Command>({ ...builtIns, ...demoCommands })) {
    assertEquals(command.number, BUILT_IN_NUMBERS.get(name), name);
  }
});

// Requests, read -----------------------------------------------------------------------------------------------------

Deno.test("readRequest() tells its own fields from parameters", () => {
  const request = requestOf({
    sleep: 1,
    cmd: 2,
    seq: 3,
    ttl: 4.5,
    meta: { token: "t" },
    credit: 6,
    max: 7,
    cancel: 8,
    res: 9,
    "$x": 10,
  });
  assertEquals(request.cmd, 2);
  assertEquals(request.seq, 3);
  assertEquals(request.ttl, 4.5);
  assertEquals(request.meta, { token: "t" });
  assertEquals(request.credit, 6);
  // A name that begins with $ is never a parameter (PROTOCOL.md, "Requests").
  assertEquals(request.params, { sleep: 1, max: 7, cancel: 8, res: 9 });
});

Deno.test("readRequest() takes an empty map and an empty array for a request without a command", () => {
  for (const payload of ["80", "de 00 00", "df 00 00 00 00", "90", "dc 00 00", "dd 00 00 00 00"]) {
    const request = read(readRequest, unhex(payload)) as Request;
    assert(request instanceof Request, payload);
    assertEquals([request.cmd, request.seq, request.params], [undefined, undefined, {}]);
  }
});

Deno.test("readRequest() takes a number whatever width it came in", () => {
  for (
    const one of [
      "01",
      "cc 01",
      "cd 00 01",
      "ce 00 00 00 01",
      "cf 00 00 00 00 00 00 00 01",
      "d0 01",
      "d3 00 00 00 00 00 00 00 01",
      "cb 3f f0 00 00 00 00 00 00",
    ]
  ) {
    const request = read(
      readRequest,
      concat(unhex("82 a3 63 6d 64"), unhex(one), unhex("a3 73 65 71"), unhex(one)),
    ) as Request;
    assertEquals([request.cmd, request.seq], [1, 1], one);
  }
});

Deno.test("readRequest() takes cmd for no command where it is neither text nor a whole number from 0", () => {
  for (const cmd of [null, true, 1.5, -1, NaN, 2n ** 60n, [1], { a: 1 }, new Uint8Array(1)]) {
    assertEquals(requestOf({ cmd, seq: 1 }).cmd, undefined, Deno.inspect(cmd));
  }
  assertEquals(requestOf({ cmd: "" }).cmd, "");
  assertEquals(requestOf({ cmd: "__proto__" }).cmd, "__proto__");
});

/** Fields by name: values that do, and values that do not. */
const FIELDS: Record<string, { good: unknown[]; bad: unknown[] }> = {
  seq: { good: [0, 1, 2 ** 53 - 1], bad: [-1, 1.5, NaN, Infinity, 2 ** 53, 2n ** 53n, "1", null, true, [], {}] },
  ttl: { good: [0.001, 1, 1e300, 2 ** 53 - 1], bad: [0, -1, NaN, Infinity, "5", null, true, 2n ** 60n, []] },
  credit: { good: [1, 2 ** 53 - 1], bad: [0, -1, 1.5, NaN, Infinity, "5", null, 2n ** 60n] },
  meta: { good: [{}, { a: "b" }], bad: [{ a: 1 }, { a: "b", c: null }, ["a"], "a", 1, null, new Uint8Array(0)] },
};

Deno.test("readRequest() takes an empty array for a map without entries: so Lua writes it", () => {
  assertEquals(requestOf({ cmd: 1, meta: [] }).meta, {});
});

Deno.test("readRequest() takes a field in its range, and nothing else", () => {
  for (const [field, { good, bad }] of Object.entries(FIELDS)) {
    for (const value of good) {
      const request = requestOf({ cmd: 1, seq: 1, [field]: value });
      assertEquals((request as unknown as Record<string, unknown>)[field], value);
    }
    for (const value of bad) {
      const message = read(readRequest, encode({ cmd: 1, [field]: value })) as InvalidMessage;
      assert(message instanceof InvalidMessage, `${field}: ${Deno.inspect(value)}`);
      assert(message.reason.startsWith(field), message.reason);
    }
  }
});

Deno.test("readRequest() takes no credit without a seq, by which more of it could be granted", () => {
  const message = read(readRequest, encode({ cmd: 1, credit: 5 }));
  assertEquals(message, new InvalidMessage("credit needs the seq of its call"));
});

Deno.test("readRequest() tells the seq of a bad request where it can be trusted", () => {
  const seqOf = (fields: Record<string, unknown>) => (read(readRequest, encode(fields)) as InvalidMessage).seq;
  assertEquals(seqOf({ cmd: 1, seq: 5, ttl: 0 }), 5);
  assertEquals(seqOf({ cmd: 1, meta: 1, seq: 5 }), 5);
  assertEquals(seqOf({ cmd: 1, seq: "5" }), undefined);
  assertEquals(seqOf({ cmd: 1, seq: -1, ttl: 0 }), undefined);
});

Deno.test("readRequest() takes __proto__ for a parameter like any other", () => {
  const { params } = requestOf(JSON.parse('{"cmd":1,"__proto__":{"admin":true}}'));
  assertEquals(Object.getOwnPropertyNames(params), ["__proto__"]);
  assert(Object.getPrototypeOf(params) === Object.prototype);
  assert(!("admin" in params));
});

Deno.test("readRequest() passes over what a later version may say in a control message", () => {
  const later: Record<string, unknown>[] = [
    {},
    { seq: 1 },
    { sleep: 5 },
    { pause: 30_000, load: true },
    { seq: 1, item: "x" },
    { seq: 1, end: true },
    { $later: 1, later: [{ max: 1 }] },
  ];
  for (const fields of later) {
    assertEquals(read(readRequest, encode({ cmd: 0, ...fields })), new UnknownControl(), Deno.inspect(fields));
  }
  const known: [fields: Record<string, unknown>, control: Control][] = [
    [{ later: 1, max: 70_000 }, new Settings({ max: 70_000 })],
    [{ seq: 1, later: 1, cancel: true }, new Cancel(1)],
    [{ seq: 1, credit: 2, $later: [1] }, new Credit(1, 2)],
  ];
  for (const [fields, control] of known) {
    assertEquals(read(readRequest, encode({ cmd: 0, ...fields })), control, "what is known beside it counts");
  }
});

Deno.test("readRequest() takes the last of two fields of one name", () => {
  const request = read(readRequest, unhex("82 a3 63 6d 64 01 a3 63 6d 64 02")) as Request;
  assertEquals(request.cmd, 2);
});

// Control messages ---------------------------------------------------------------------------------------------------

Deno.test("readRequest() reads the three control messages, whatever the order of their fields", () => {
  const settings = new Settings({ max: 0, alive: 3_600_000, notice: false });
  assertEquals(read(readRequest, encode({ notice: false, alive: 3_600_000, cmd: 0, max: 0 })), settings);
  assertEquals(read(readRequest, encode({ cmd: 0, alive: 1_000 })), new Settings({ alive: 1_000 }));
  assertEquals(read(readRequest, encode({ cmd: 0, max: 70_000 })), new Settings({ max: 70_000 }));
  assertEquals(read(readRequest, encode({ cancel: true, cmd: 0, seq: 0 })), new Cancel(0));
  assertEquals(read(readRequest, encode({ seq: 7, credit: 2, cmd: 0 })), new Credit(7, 2));
});

Deno.test("readRequest() refuses a control message with a malformed field, or with two meanings", () => {
  const bad: Record<string, unknown>[] = [
    { seq: "1", cancel: true },
    { cancel: true },
    { credit: 5 },
    { seq: 1, cancel: false },
    { seq: 1, cancel: 1 },
    { seq: 1, credit: 0 },
    { seq: 1, credit: -1 },
    { seq: 1, credit: "5" },
    { seq: 1, cancel: true, credit: 5 },
    { max: -1 },
    { max: 1.5 },
    { max: "70000" },
    { max: null },
    { max: 70_000, seq: 1 },
    { alive: 999 },
    { alive: 3_600_001 },
    { alive: 1_000.5 },
    { alive: "1000" },
    { alive: null },
    { alive: 5_000, max: "70000" },
    { alive: 5_000, seq: 1, cancel: true },
    { alive: 5_000, seq: 1, credit: 5 },
    { notice: 1 },
    { notice: null },
    { notice: true, alive: 0 },
    { notice: true, seq: 1 },
    { max: 70_000, seq: 1, cancel: true },
    { max: 70_000, cancel: false },
    { ttl: 0 },
    { meta: 1 },
    { max: "70000", later: 1 },
  ];
  for (const fields of bad) {
    const message = read(readRequest, encode({ cmd: 0, ...fields }));
    assert(message instanceof InvalidMessage, Deno.inspect(fields));
    assertEquals((message as InvalidMessage).seq, undefined, Deno.inspect(fields));
  }
});

// Replies ------------------------------------------------------------------------------------------------------------

Deno.test("writeReply() writes the article's replies byte for byte", () => {
  assertEquals(hex(replyPayload(undefined, { res: "PONG" })), "81 a3 72 65 73 a4 50 4f 4e 47");
  assertEquals(
    hex(replyPayload(undefined, { slept: 3.003000020980835, res: "DONE" })),
    "82 a3 72 65 73 a4 44 4f 4e 45 a5 73 6c 65 70 74 cb 40 08 06 24 e0 00 00 00",
  );
  assertEquals(
    hex(replyPayload(undefined, new RpcError("INVALID_SLEEP"))),
    "81 a3 65 72 72 ad 49 4e 56 41 4c 49 44 5f 53 4c 45 45 50",
  );
});

Deno.test("writeReply() writes seq, then res or err, then the rest", () => {
  const keysOf = (payload: Uint8Array) => Object.keys(decode(payload) as object);
  assertEquals(keysOf(replyPayload(0, { z: 1, res: 2, a: 3 }, true)), ["seq", "res", "z", "a", "more"]);
  assertEquals(keysOf(replyPayload(5, new RpcError("NO", "text", { data: [1] }))), ["seq", "err", "msg", "data"]);
  assertEquals(decode(replyPayload(0, { res: null })), { seq: 0, res: null });
  assertEquals(decode(replyPayload(2 ** 53 - 1, { res: 1 }, true)), { seq: 2 ** 53 - 1, res: 1, more: true });
});

Deno.test("writeReply() leaves out what is undefined", () => {
  assertEquals(decode(replyPayload(undefined, { res: 1, a: undefined, b: { c: undefined } })), { res: 1, b: {} });
  assertEquals(decode(replyPayload(undefined, new RpcError("NO", undefined, { data: undefined }))), { err: "NO" });
});

Deno.test("writeReply() refuses reserved fields beside a result", () => {
  for (const name of ["seq", "err", "msg", "data", "more", "$", "$x"]) {
    assertThrows(() => replyPayload(1, { res: 1, [name]: 1 }), EncodeError, `"${name}" is reserved`);
    replyPayload(1, { res: 1, [name]: undefined });
  }
  replyPayload(1, { res: 1, cmd: 1, x$: 1 });
});

Deno.test("writeReply() counts the reply itself as one container", () => {
  const nested = (depth: number): unknown => depth === 0 ? 1 : [nested(depth - 1)];
  const deepest = replyPayload(1, { res: nested(63), other: nested(63) });
  read(readReply, deepest);
  assertThrows(() => replyPayload(1, { res: nested(64) }), EncodeError, "deeper than 64");
  assertThrows(() => replyPayload(1, { res: 1, other: nested(64) }), EncodeError, "deeper than 64");
  assertThrows(() => replyPayload(1, new RpcError("NO", "", { data: nested(64) })), EncodeError, "deeper than 64");
});

Deno.test("writeReply() asks each field once, and writes what it was told", () => {
  let asked = 0;
  const fickle = {
    res: 1,
    get a() {
      return asked++ === 0 ? 1 : undefined;
    },
  };
  assertEquals(decode(replyPayload(undefined, fickle)), { res: 1, a: 1 });
  assertEquals(decode(replyPayload(undefined, fickle)), { res: 1 });
  const growing: Record<string, unknown> = {
    get res() {
      growing.later = 1;
      return 1;
    },
  };
  assertEquals(decode(replyPayload(undefined, growing)), { res: 1, later: 1 });
});

Deno.test("writeReply() writes as many fields as there are", () => {
  for (const count of [0, 1, 12, 13, 14, 15, 16]) {
    const fields = Object.fromEntries(Array.from({ length: count }, (_, index) => [`f${index}`, index]));
    assertEquals(decode(replyPayload(undefined, { res: 1, ...fields })), { res: 1, ...fields });
    assertEquals(decode(replyPayload(7, { res: 1, ...fields }, true)), { seq: 7, res: 1, ...fields, more: true });
  }
});

Deno.test("readReply() tells seq and more from the fields", () => {
  const reply = replyOf({ seq: 4, res: [1], slept: 2, more: true });
  assertEquals([reply.seq, reply.more, reply.fields], [4, true, { res: [1], slept: 2 }]);
  const plain = replyOf({ err: "NO", more: false });
  assertEquals([plain.seq, plain.more, plain.fields], [undefined, false, { err: "NO" }]);
  assertEquals((read(readReply, unhex("90")) as ReceivedReply).fields, {});
});

Deno.test("readReply() passes over what a later version may say unasked", () => {
  const later: Record<string, unknown>[] = [
    { seq: 1, going: 5_000 },
    { gone: 5_000 },
    { seq: 1, credit: 5 },
    { seq: 1, more: true, later: null },
    { $later: 1 },
    { msg: "text", later: [{ res: 1 }] },
  ];
  for (const fields of later) assertEquals(read(readReply, encode(fields)), new UnknownNotice(), Deno.inspect(fields));
});

Deno.test("readReply() reads the notice of a server that is going", () => {
  for (const ms of [0, 0.5, 10_000]) assertEquals(read(readReply, encode({ going: ms })), new Going(ms));
  assertEquals(read(readReply, encode({ later: 1, going: 5 })), new Going(5));
  for (const going of [-1, NaN, "5", true, null]) {
    assertThrows(() => read(readReply, encode({ going })), DecodeError, "going must be a number of milliseconds");
  }
});

Deno.test("readReply() takes for a reply what has res or err, and what says nothing new", () => {
  for (const fields of [{ res: null, later: 1 }, { err: "NO", later: 1 }, { err: null, later: 1 }]) {
    assertEquals(replyOf(fields).fields, fields);
  }
  for (const fields of [{}, { seq: 1 }, { more: true }, { msg: "text", data: 1 }, { $items: 0 }]) replyOf(fields);
});

Deno.test("readReply() refuses a seq that is none, and bytes that are no map", () => {
  for (const seq of [-1, 1.5, "1", null, 2n ** 53n]) {
    assertThrows(() => read(readReply, encode({ seq, res: 1 })), DecodeError, "seq");
  }
  assertThrows(() => read(readReply, unhex("81 a3 72 65 73")), DecodeError, "too early");
  assertThrows(() => read(readReply, unhex("80 80")), DecodeError, "left over");
});

// Requests, written --------------------------------------------------------------------------------------------------

Deno.test("writeRequest() writes parameters before cmd, as the article's client does, and its own fields last", () => {
  assertEquals(hex(requestPayload({})), "81 a3 63 6d 64 01");
  assertEquals(
    hex(requestPayload({ cmd: 2, params: { sleep: 10 } })),
    "82 a5 73 6c 65 65 70 0a a3 63 6d 64 02",
  );
  const all = requestPayload({ cmd: "X", params: { z: 1, a: 2 }, seq: 0, ttl: 5, meta: { m: "n" }, credit: 6 });
  assertEquals(Object.entries(decode(all) as object), [
    ["z", 1],
    ["a", 2],
    ["cmd", "X"],
    ["meta", { m: "n" }],
    ["credit", 6],
    ["seq", 0],
    ["ttl", 5],
  ]);
});

Deno.test("writeRequest() leaves out undefined parameters, and refuses reserved ones", () => {
  assertEquals(decode(requestPayload({ params: { a: undefined, b: 1 } })), { b: 1, cmd: 1 });
  for (const name of ["cmd", "seq", "ttl", "meta", "credit", "$x"]) {
    assertThrows(() => requestPayload({ params: { [name]: 1 } }), EncodeError, `"${name}" is reserved`);
  }
  requestPayload({ params: { max: 1, cancel: 1, res: 1 } });
});

Deno.test("writeRequest() counts the request itself as one container", () => {
  const nested = (depth: number): unknown => depth === 0 ? 1 : [nested(depth - 1)];
  read(readRequest, requestPayload({ params: { a: nested(63) } }));
  assertThrows(() => requestPayload({ params: { a: nested(64) } }), EncodeError, "deeper than 64");
});

Deno.test("writeRequest() asks each parameter once, and writes what it was told", () => {
  let asked = 0;
  const fickle = {
    get a() {
      return asked++ === 0 ? 1 : undefined;
    },
    get b() {
      delete (this as Record<string, unknown>).c;
      return 2;
    },
    c: 3,
  };
  assertEquals(decode(requestPayload({ params: fickle })), { a: 1, b: 2, cmd: 1 });
  assertEquals(decode(requestPayload({ params: fickle })), { b: 2, cmd: 1 });
});

Deno.test("writeControl() writes what readRequest() reads", () => {
  const controls: [control: KnownControl, fields: Record<string, unknown>][] = [
    [new Settings({ max: 5 }), { cmd: 0, max: 5 }],
    [new Settings({ alive: 30_000, notice: true }), { cmd: 0, alive: 30_000, notice: true }],
    [new Settings({ max: 5, alive: 1_000, notice: false }), { cmd: 0, max: 5, alive: 1_000, notice: false }],
    [new Cancel(0), { cmd: 0, seq: 0, cancel: true }],
    [new Credit(1, 3), { cmd: 0, seq: 1, credit: 3 }],
  ];
  for (const [control, fields] of controls) {
    const payload = payloadOf((writer) => writeControl(writer, control));
    assertEquals(Object.entries(decode(payload) as object), Object.entries(fields));
    assertEquals(read(readRequest, payload), control);
  }
});

Deno.test("setField() sets an own field, whatever its name", () => {
  const fields = {};
  for (const name of ["a", "__proto__", "constructor", "toString"]) setField(fields, name, { admin: true });
  assertEquals(Object.getOwnPropertyNames(fields), ["a", "__proto__", "constructor", "toString"]);
  assert(Object.getPrototypeOf(fields) === Object.prototype);
});
