/** The bytes of replies, requests, control messages and items: field order, reserved names, depth. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  ARRAY_WEIGHT,
  Cancel,
  Credit,
  ELEMENT_WEIGHT,
  FIELD_WEIGHT,
  Going,
  type KnownControl,
  MAP_WEIGHT,
  MESSAGE_WEIGHT,
  type Notice,
  type Request,
  RequestCredit,
  RequestEnd,
  RequestItem,
  Settings,
} from "../../codec/message.ts";
import { readReply, readRequest } from "../../codec/read_message.ts";
import { type EncodedItem, encodeItem, writeControl, writeServerMessage } from "../../codec/write_message.ts";
import { decode } from "../support/msgpack.ts";
import { EncodeError, PayloadTooLargeError } from "../../codec/errors.ts";
import { Writer } from "../../codec/writer.ts";
import { RpcError } from "../../errors.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { hex } from "../support/wire.ts";
import { payloadOf, read, replyPayload, requestPayload } from "../support/payloads.ts";

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
