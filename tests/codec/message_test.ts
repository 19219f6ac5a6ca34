/**
 * What a payload means: every field of a request and a control message, right and wrong; and the bytes of replies and
 * requests, with their field order, reserved names and depth.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  ARRAY_WEIGHT,
  BINARY_WEIGHT,
  BUILT_IN_NUMBERS,
  Cancel,
  type Control,
  Credit,
  ELEMENT_WEIGHT,
  FIELD_NAMES,
  FIELD_WEIGHT,
  Going,
  InvalidMessage,
  isReservedParameter,
  isReservedReplyField,
  type KnownControl,
  MAP_WEIGHT,
  MESSAGE_WEIGHT,
  type Notice,
  ReceivedReply,
  Reply,
  REPLY_FIELDS,
  Request,
  RequestCredit,
  RequestEnd,
  RequestItem,
  Settings,
  TEXT_BYTE_WEIGHT,
  TEXT_WEIGHT,
  UnknownControl,
  UnknownNotice,
} from "../../codec/message.ts";
import { type Kind, MESSAGES } from "../../codec/message_table.ts";
import { readReply, readRequest } from "../../codec/read_message.ts";
import {
  type EncodedItem,
  encodeItem,
  type OutgoingRequest,
  writeControl,
  writeReply,
  writeRequest,
  writeServerMessage,
} from "../../codec/write_message.ts";
import { decode, encode } from "../../codec/msgpack.ts";
import { DecodeError, EncodeError, PayloadTooLargeError } from "../../codec/errors.ts";
import { setField } from "../../codec/text.ts";
import { Reader } from "../../codec/reader.ts";
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
      if (name === "seq") { // which these need
        delete less.credit;
        if (kind === "request") delete less.$items;
      }
      // Who gets a request without cmd, or a reply without res, refuses it as such.
      if (optional) assertEquals(kindOf(kind, less), kind, `${kind} without ${name}`);
      else if (!(kind === "request" || name === "res")) assert(kindOf(kind, less) !== kind, `${kind} without ${name}`);
    }
  }
});

Deno.test("MESSAGES has the names of all fields, and those that a command may not use", () => {
  const names = "cmd seq ttl meta credit $items max alive notice cancel item end res more $id err msg data $after going"
    .split(" ");
  assertEquals([...FIELD_NAMES].sort(), names.toSorted());
  const inTable = (kinds: Kind[]) => new Set(kinds.flatMap((kind) => Object.keys(MESSAGES[kind].fields)));
  assertEquals(FIELD_NAMES, inTable(KINDS));
  assertEquals(REPLY_FIELDS, inTable(["item", "reply", "error"]));
  const reserved = (isReserved: (name: string) => boolean) => [...names, "$x", "res2", ""].filter(isReserved);
  assertEquals(reserved(isReservedParameter), ["cmd", "seq", "ttl", "meta", "credit", "$items", "$id", "$after", "$x"]);
  const ofReplies = ["seq", "$items", "res", "more", "$id", "err", "msg", "data", "$after", "$x"];
  assertEquals(reserved(isReservedReplyField), ofReplies);
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
  const more: { meta: Refused<"meta">; credit: Refused<"credit">; $items: Refused<"$items"> } = {
    meta: true,
    credit: true,
    $items: true,
  };
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
    { seq: 1, items: ["x"] },
    { seq: 1, error: { code: "NO" }, $id: 1 },
    { $later: 1, later: [{ max: 1 }] },
  ];
  for (const fields of later) {
    assertEquals(read(readRequest, encode({ cmd: 0, ...fields })), new UnknownControl(), Deno.inspect(fields));
  }
  const known: [fields: Record<string, unknown>, control: Control][] = [
    [{ later: 1, max: 70_000 }, new Settings({ max: 70_000 })],
    [{ seq: 1, later: 1, cancel: true }, new Cancel(1)],
    [{ seq: 1, credit: 2, $later: [1] }, new Credit(1, 2)],
    [{ seq: 1, end: true, last: "x" }, new RequestEnd(1)],
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

Deno.test("readRequest() reads each control message, whatever the order of their fields", () => {
  const settings = new Settings({ max: 0, alive: 3_600_000, notice: false });
  assertEquals(read(readRequest, encode({ notice: false, alive: 3_600_000, cmd: 0, max: 0 })), settings);
  assertEquals(read(readRequest, encode({ cmd: 0, alive: 1_000 })), new Settings({ alive: 1_000 }));
  assertEquals(read(readRequest, encode({ cmd: 0, max: 70_000 })), new Settings({ max: 70_000 }));
  assertEquals(read(readRequest, encode({ cancel: true, cmd: 0, seq: 0 })), new Cancel(0));
  assertEquals(read(readRequest, encode({ seq: 7, credit: 2, cmd: 0 })), new Credit(7, 2));
  assertEquals(read(readRequest, encode({ end: true, seq: 0, cmd: 0 })), new RequestEnd(0));
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
    { item: "x" },
    { seq: "1", item: "x" },
    { seq: -1, item: "x" },
    { seq: 1, item: "x", end: true },
    { seq: 1, item: null, end: false },
    { seq: 1, item: "x", cancel: true },
    { seq: 1, item: "x", credit: 1 },
    { seq: 1, item: null, credit: 0 },
    { seq: 1, item: null, max: 5 },
    { notice: true, item: "x" },
    { end: true },
    { seq: null, end: true },
    { seq: 1, end: false },
    { seq: 1, end: 1 },
    { seq: 1, end: null },
    { seq: 1, end: "true" },
    { seq: 1, end: true, cancel: true },
    { seq: 1, end: true, credit: 5 },
    { seq: 1, end: true, alive: 5_000 },
    { seq: 1, cancel: null },
    { $items: true },
    { seq: 1, item: "x", $items: false },
  ];
  for (const fields of bad) {
    const message = read(readRequest, encode({ cmd: 0, ...fields }));
    assert(message instanceof InvalidMessage, Deno.inspect(fields));
    assertEquals((message as InvalidMessage).seq, undefined, Deno.inspect(fields));
  }
});

/** All orders of some fields. */
function ordersOf(fields: Record<string, unknown>): Record<string, unknown>[] {
  const names = Object.keys(fields);
  if (names.length === 1) return [fields];
  return names.flatMap((name) => {
    const { [name]: value, ...others } = fields;
    return ordersOf(others).map((rest) => ({ [name]: value, ...rest }));
  });
}

Deno.test("readRequest() reads an item and an end, whatever the order of their fields and the value of the item", () => {
  const values = [null, false, 0, "", "x", 2n ** 63n, [], [null], {}, { cmd: 1, seq: 2, end: true }, new Uint8Array(2)];
  for (const item of values) {
    for (const fields of ordersOf({ cmd: 0, seq: 7, item, later: 1 })) {
      const message = read(readRequest, encode(fields)) as RequestItem;
      assert(message instanceof RequestItem, Deno.inspect(fields));
      assertEquals([message.seq, message.item], [7, item]);
    }
  }
  for (const fields of ordersOf({ cmd: 0, seq: 2 ** 53 - 1, end: true, later: 1 })) {
    assertEquals(read(readRequest, encode(fields)), new RequestEnd(2 ** 53 - 1), Deno.inspect(fields));
  }
});

Deno.test("readRequest() takes item and end for parameters of a request", () => {
  const { params, hasItems } = requestOf({ cmd: 16, seq: 1, item: "x", end: true });
  assertEquals([params, hasItems], [{ item: "x", end: true }, false]);
});

Deno.test("readRequest() takes the last of two items of one message, and looks at a message's own names alone", () => {
  const twice = unhex("84 a3 63 6d 64 00 a3 73 65 71 05 a4 69 74 65 6d 01 a4 69 74 65 6d 02");
  assertEquals((read(readRequest, twice) as RequestItem).item, 2);
  const prototype = Object.prototype as Record<string, unknown>;
  for (const [name, value] of Object.entries({ item: "x", end: true, cancel: true, max: 5, alive: 5, notice: 1 })) {
    prototype[name] = value;
    try {
      assertEquals(read(readRequest, encode({ cmd: 0, seq: 1 })), new UnknownControl(), name);
      assertEquals(read(readRequest, encode({ cmd: 0, seq: 1, end: true })), new RequestEnd(1), name);
      const settings = read(readRequest, encode({ cmd: 0, max: 7 })) as Settings;
      assertEquals([settings.max, settings.alive, settings.notice], [7, undefined, undefined], name);
    } finally {
      delete prototype[name];
    }
  }
});

Deno.test("readRequest() takes $items for a stream behind the request: true, and with a seq", () => {
  for (const fields of ordersOf({ cmd: 16, seq: 1, $items: true, a: 1 })) {
    const request = requestOf(fields);
    assertEquals([request.hasItems, request.params], [true, { a: 1 }]);
  }
  assertEquals(requestOf({ cmd: 16, seq: 1 }).hasItems, false);
  for (const $items of [false, null, 1, 0, "true", [], {}]) {
    const message = read(readRequest, encode({ cmd: 16, seq: 1, $items }));
    assertEquals(message, new InvalidMessage("$items must be true", 1), Deno.inspect($items));
  }
  const ordered = read(readRequest, encode({ cmd: 16, $items: true }));
  assertEquals(ordered, new InvalidMessage("$items needs the seq of its call"));
});

Deno.test("readRequest() counts an item's message as one container, and weighs the whole", () => {
  const nested = (depth: number): unknown => depth === 0 ? 1 : [nested(depth - 1)];
  const itemOf = (item: unknown) => read(readRequest, encode({ cmd: 0, seq: 1, item })) as RequestItem;
  assertEquals(itemOf(nested(63)).item, nested(63));
  const tooDeep = concat(unhex("83 a3 63 6d 64 00 a3 73 65 71 01 a4 69 74 65 6d"), encode(nested(64)));
  assertThrows(() => read(readRequest, tooDeep), DecodeError, "deeper than 64");
  const empty = MESSAGE_WEIGHT + MAP_WEIGHT + 3 * FIELD_WEIGHT;
  assertEquals(itemOf(null).weightBytes, empty);
  assertEquals(itemOf("é".repeat(100)).weightBytes, empty + TEXT_WEIGHT + 200 * TEXT_BYTE_WEIGHT);
  assertEquals(itemOf(new Uint8Array(65_536)).weightBytes, empty + BINARY_WEIGHT + 65_536);
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
    { credit: 5 },
    { seq: 1, credits: 5 },
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

Deno.test("readReply() reads the notice of credit for the caller's stream", () => {
  for (const credit of [1, 256, 2 ** 53 - 1]) {
    for (const fields of ordersOf({ seq: 0, credit, later: 1 })) {
      assertEquals(read(readReply, encode(fields)), new RequestCredit(0, credit));
    }
  }
  for (const credit of [0, -1, 1.5, NaN, Infinity, 2n ** 60n, "5", true, null, []]) {
    assertThrows(() => read(readReply, encode({ seq: 1, credit })), DecodeError, "credit must be an integer above 0");
  }
  assertThrows(() => read(readReply, encode({ seq: "1", credit: 1 })), DecodeError, "seq must be an integer");
});

Deno.test("readReply() tells by the seq which of two meanings a notice has, and by res and err that it is a reply", () => {
  assertEquals(read(readReply, encode({ seq: 1, credit: 2, going: 5 })), new RequestCredit(1, 2));
  assertEquals(read(readReply, encode({ credit: 2, going: 5 })), new Going(5));
  for (const fields of [{ res: null }, { res: 1 }, { err: "NO" }]) {
    assertEquals(replyOf({ seq: 1, credit: 2, ...fields }).fields, { credit: 2, ...fields });
  }
});

Deno.test("readReply() leaves the id of an item beside its value", () => {
  const { seq, more, fields } = replyOf({ seq: 1, res: "x", more: true, $id: "7-1" });
  assertEquals([seq, more, fields], [1, true, { res: "x", $id: "7-1" }]);
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
    [new RequestEnd(2 ** 53 - 1), { cmd: 0, seq: 2 ** 53 - 1, end: true }],
  ];
  for (const [control, fields] of controls) {
    const payload = payloadOf((writer) => writeControl(writer, control));
    assertEquals(Object.entries(decode(payload) as object), Object.entries(fields));
    assertEquals(read(readRequest, payload), control);
  }
});

const ITEMS = [null, false, 0, -1, 0.5, "", "text", [], [[], {}], { a: [null] }, new Uint8Array(3), "x".repeat(70_000)];

Deno.test("writeControl() writes an item, and one that was encoded before, as the same bytes", () => {
  for (const item of ITEMS) {
    const payload = payloadOf((writer) => writeControl(writer, new RequestItem(300, item)));
    assertEquals(Object.entries(decode(payload) as object), [["cmd", 0], ["seq", 300], ["item", item]]);
    const message = read(readRequest, payload) as RequestItem;
    assertEquals([message.kind, message.seq, message.item], ["request item", 300, item]);
    const given = encodeItem(item, DEFAULT_LIMITS.maxPayloadBytes);
    const encoded: EncodedItem = { kind: "encoded item", seq: 300, item: given };
    for (let times = 0; times < 2; times++) { // it may be sent again
      assertEquals(hex(payloadOf((writer) => writeControl(writer, encoded))), hex(payload));
    }
  }
  const left = payloadOf((writer) => writeControl(writer, new RequestItem(1, undefined)));
  assertEquals(decode(left), { cmd: 0, seq: 1, item: null }, "a value that is left out is nil");
});

Deno.test("writeServerMessage() writes the notices that readReply() reads", () => {
  const notices: [notice: Notice, fields: Record<string, unknown>][] = [
    [new Going(5_000), { going: 5_000 }],
    [new RequestCredit(0, 256), { seq: 0, credit: 256 }],
  ];
  for (const [notice, fields] of notices) {
    const payload = payloadOf((writer) => writeServerMessage(writer, notice));
    assertEquals(Object.entries(decode(payload) as object), Object.entries(fields));
    assertEquals(read(readReply, payload), notice);
  }
});

Deno.test("writeReply() writes the id of an item before more", () => {
  const payload = replyPayload(1, { res: "x", $id: 7 }, true);
  assertEquals(Object.entries(decode(payload) as object), [["seq", 1], ["res", "x"], ["$id", 7], ["more", true]]);
});

Deno.test("writeRequest() says $items where a stream follows, behind the caller's own fields", () => {
  const payload = requestPayload({ cmd: "UP", params: { a: 1 }, seq: 2, ttl: 5, credit: 6, hasItems: true });
  const fields = [["a", 1], ["cmd", "UP"], ["credit", 6], ["$items", true], ["seq", 2], ["ttl", 5]];
  assertEquals(Object.entries(decode(payload) as object), fields);
  const request = read(readRequest, payload) as Request;
  assertEquals([request.hasItems, request.params], [true, { a: 1 }]);
  assertThrows(() => requestPayload({ params: { $items: true } }), EncodeError, '"$items" is reserved');
});

Deno.test("an item that cannot be sent is named by its path, whoever encodes it", () => {
  const nested = (depth: number): unknown => depth === 0 ? 1 : [nested(depth - 1)];
  const circle: unknown[] = [];
  circle.push(circle);
  const cases: [item: unknown, text: string][] = [
    [() => 1, "item: a function cannot be sent"],
    [Symbol("s"), "item: a symbol cannot be sent"],
    [new Date(0), "item: a Date cannot be sent"],
    [{ rows: [1, { at: new Map() }] }, "item.rows[1].at: a Map cannot be sent"],
    [{ "a b": 2n ** 64n }, 'item["a b"]: an integer of more than 64 bits cannot be sent'],
    [nested(64), "deeper than 64"],
    [circle, "deeper than 64"],
  ];
  for (const [item, text] of cases) {
    const writer = new Writer();
    assertThrows(() => writeControl(writer, new RequestItem(1, item)), EncodeError, text);
    assertThrows(() => encodeItem(item, DEFAULT_LIMITS.maxPayloadBytes), EncodeError, text);
  }
  encodeItem(nested(63), DEFAULT_LIMITS.maxPayloadBytes);
  const broken = {
    get a() {
      throw new SyntaxError("a getter of the caller");
    },
  };
  assertThrows(() => encodeItem(broken, 100), SyntaxError, "a getter of the caller");
});

Deno.test("encodeItem() refuses an item that its receiver would refuse: too large, or too heavy", () => {
  assertEquals(encodeItem("x".repeat(97), 99).end > 0, true);
  const large = assertThrows(() => encodeItem("x".repeat(98), 99), PayloadTooLargeError);
  assertEquals([large.payloadBytes, large.limitBytes], [100, 99]);
  // What is far too large is not encoded to its end.
  const huge = assertThrows(() => encodeItem(new Array(50_000).fill("x".repeat(1_000)), 1_000), PayloadTooLargeError);
  assertEquals(huge.payloadBytes, Infinity);

  const { maxPayloadBytes, maxMessageBytes } = DEFAULT_LIMITS;
  const message = MESSAGE_WEIGHT + MAP_WEIGHT + 3 * FIELD_WEIGHT;
  const most = Math.floor((maxMessageBytes - message - ARRAY_WEIGHT) / (ELEMENT_WEIGHT + ARRAY_WEIGHT));
  const heaviest = (count: number) => Array.from({ length: count }, () => []);
  const given = encodeItem(heaviest(most), maxPayloadBytes);
  const encoded: EncodedItem = { kind: "encoded item", seq: 1, item: given };
  assert(read(readRequest, payloadOf((writer) => writeControl(writer, encoded))) instanceof RequestItem);
  assertThrows(() => encodeItem(heaviest(most + 1), maxPayloadBytes), EncodeError, "memory");
});

Deno.test("encodeItem() keeps the item as it was: its caller may change it at once", () => {
  const item = { bytes: new Uint8Array([1, 2]), list: ["a"] };
  const given = encodeItem(item, 1_000);
  item.bytes.fill(9);
  item.list.push("b");
  encodeItem("another", 1_000);
  const payload = payloadOf((writer) => writeControl(writer, { kind: "encoded item", seq: 1, item: given }));
  assertEquals(decode(payload), { cmd: 0, seq: 1, item: { bytes: new Uint8Array([1, 2]), list: ["a"] } });
});

Deno.test("setField() sets an own field, whatever its name", () => {
  const fields = {};
  for (const name of ["a", "__proto__", "constructor", "toString"]) setField(fields, name, { admin: true });
  assertEquals(Object.getOwnPropertyNames(fields), ["a", "__proto__", "constructor", "toString"]);
  assert(Object.getPrototypeOf(fields) === Object.prototype);
});
