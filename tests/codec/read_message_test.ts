/** What a payload means: every field of a request, a control message, a reply and a notice, right and wrong. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  BINARY_WEIGHT,
  Cancel,
  type Control,
  Credit,
  FIELD_WEIGHT,
  Going,
  InvalidMessage,
  MAP_WEIGHT,
  MESSAGE_WEIGHT,
  type ReceivedReply,
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
import { readReply, readRequest } from "../../codec/read_message.ts";
import { encode } from "../support/msgpack.ts";
import { DecodeError } from "../../codec/errors.ts";
import { setField } from "../../codec/text.ts";
import { concat, unhex } from "../support/wire.ts";
import { read, replyOf, requestOf } from "../support/payloads.ts";

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

// Replies and notices ------------------------------------------------------------------------------------------------

Deno.test("readReply() tells seq and more from the fields", () => {
  const reply = replyOf({ seq: 4, res: [1], slept: 2, more: true });
  assertEquals([reply.seq, reply.more, reply.fields], [4, true, { res: [1], slept: 2 }]);
  const plain = replyOf({ err: "NO", more: false });
  assertEquals([plain.seq, plain.more, plain.fields], [undefined, false, { err: "NO" }]);
  assertEquals((read(readReply, unhex("90")) as ReceivedReply).fields, {});
  for (const fields of ordersOf({ err: "NO", more: true })) assertEquals(replyOf(fields).more, false);
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
    assertThrows(
      () => read(readReply, encode({ going })),
      DecodeError,
      "going must be a number of milliseconds from 0 up",
    );
  }
});

Deno.test("readReply() reads the notice of credit for the caller's stream", () => {
  for (const credit of [1, 256, 2 ** 53 - 1]) {
    for (const fields of ordersOf({ seq: 0, credit, later: 1 })) {
      assertEquals(read(readReply, encode(fields)), new RequestCredit(0, credit));
    }
  }
  for (const credit of [0, -1, 1.5, NaN, Infinity, 2n ** 60n, "5", true, null, []]) {
    assertThrows(
      () => read(readReply, encode({ seq: 1, credit })),
      DecodeError,
      "credit must be an integer from 1 to 2^53-1",
    );
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

Deno.test("setField() sets an own field, whatever its name", () => {
  const fields = {};
  for (const name of ["a", "__proto__", "constructor", "toString"]) setField(fields, name, { admin: true });
  assertEquals(Object.getOwnPropertyNames(fields), ["a", "__proto__", "constructor", "toString"]);
  assert(Object.getPrototypeOf(fields) === Object.prototype);
});
