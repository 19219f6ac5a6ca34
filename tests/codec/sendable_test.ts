/** What cannot be sent is refused with its path, wherever it stands; what only looks odd is sent. */

import { runInNewContext } from "node:vm";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Reply } from "../../codec/message.ts";
import { type OutgoingRequest, writeReply, writeRequest } from "../../codec/write_message.ts";
import { decode, encode } from "../support/msgpack.ts";
import { EncodeError } from "../../codec/errors.ts";
import { Writer } from "../../codec/writer.ts";
import { RpcError } from "../../errors.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";

class Account {
  name = "ada";
}

const UNSENDABLE: [value: unknown, kind: string][] = [
  [new Map([["a", 1]]), "a Map"],
  [new Set([1]), "a Set"],
  [new Date(0), "a Date"],
  [new URLSearchParams("a=1"), "a URLSearchParams"],
  [new Account(), "an Account"],
  [() => {}, "a function"],
  [Symbol("a"), "a symbol"],
  [new Float32Array(1), "a Float32Array"],
  [new Uint8ClampedArray(1), "a Uint8ClampedArray"],
  [new ArrayBuffer(1), "an ArrayBuffer"],
  [/a/, "a RegExp"],
  [Object("text"), "a String"],
  [Object(1), "a Number"],
  [new Error("x"), "an Error"],
  [Promise.resolve(), "a Promise"],
  [Object.create({ inherited: 1 }), "an object with a custom prototype"],
  [2n ** 64n, "an integer of more than 64 bits"],
];

const PLACES: [path: string, write: (value: unknown) => unknown][] = [
  ["params.x", (x) => ask({ params: { x } })],
  ["params.list[1].at", (at) => ask({ params: { list: [0, { at }] } })],
  ['params["a b"]', (value) => ask({ params: { "a b": value } })],
  ["res", (res) => answer({ res })],
  ["res.items[3].at", (at) => answer({ res: { items: [1, 2, 3, { at }] } })],
  ["slept", (slept) => answer({ res: 1, slept })],
  ["data.x", (x) => answer(new RpcError("NO", "no", { data: { x } }))],
];

Deno.test("what cannot be sent is refused with its path and its kind, in every place", () => {
  for (const [value, kind] of UNSENDABLE) {
    for (const [path, write] of PLACES) {
      const { message } = assertThrows(() => write(value), EncodeError);
      assertEquals(message, `${path}: ${kind} cannot be sent`);
    }
  }
});

Deno.test("parameters and meta that are no plain object are refused, and so is meta that is not text", () => {
  for (const [value, kind] of UNSENDABLE) {
    if (typeof value !== "object" || value === null) continue;
    assertThrows(() => ask({ params: value }), EncodeError, `params: ${kind} cannot be sent`);
    assertThrows(
      () => ask({ params: {}, meta: value }),
      EncodeError,
      `meta: ${kind} cannot be sent`,
    );
  }
  assertThrows(() => ask({ params: [1] }), EncodeError, "params: an array cannot be sent");
  assertThrows(
    () => ask({ params: {}, meta: { user: 5 } }),
    EncodeError,
    "meta.user: a number cannot be sent here, only text",
  );
});

Deno.test("plain objects are sent, also without a prototype and of another realm", () => {
  const [object, array] = runInNewContext("[{ a: [{ b: 1 }] }, [1]]");
  assertEquals(decode(encode(object)), { a: [{ b: 1 }] });
  assertEquals(decode(encode(array)), [1]);
  assertEquals(decode(encode(Object.assign(Object.create(null), { a: 1 }))), { a: 1 });
});

Deno.test("an error that is not for one value keeps its text", () => {
  const cycle: unknown[] = [];
  cycle.push(cycle);
  assertThrows(() => answer({ res: cycle }), EncodeError, "nested deeper than 64, or in a cycle");
});

Deno.test("a value that is refused for its depth or its weight is not searched again", () => {
  let reads = 0;
  const parent = {
    get children() {
      reads++;
      return [{ parent }, { parent }];
    },
  };
  for (const write of [() => ask({ params: { parent } }), () => answer({ res: parent })]) {
    assertThrows(write, EncodeError, "nested deeper than 64, or in a cycle");
  }
  assert(reads < 100, `${reads} reads of the children`);

  const sparse = new Proxy<unknown[]>([], {
    get: (_, name) => name === "length" ? 1_000_000 : void reads++,
  });
  const writer = new Writer();
  writer.begin(DEFAULT_LIMITS.maxPayloadBytes);
  assertThrows(() => writeReply(writer, new Reply(1, { res: sparse }, false)), EncodeError, "more than 8388608 bytes");
  assert(reads < 200, `${reads} reads of the children and of an array without them`);
});

Deno.test("a cycle beside what is refused is not searched", () => {
  let reads = 0;
  const parent = {
    get children() {
      reads++;
      return [{ parent }, { parent }];
    },
  };
  const refused: [write: () => void, text: string][] = [
    [() => ask({ params: {}, meta: { parent } }), "meta.parent: an Object cannot be sent here, only text"],
    [() => answer({ res: 1, $a: parent }), 'the reply field "$a" is reserved'],
    [() => answer({ parent, res: new Date() }), "res: a Date cannot be sent"],
  ];
  for (const [write, text] of refused) assertThrows(write, EncodeError, text);
  assertEquals(reads, 0);
});

function ask(message: object): void {
  writeRequest(new Writer(), { cmd: 1, seq: 1, ...message } as OutgoingRequest);
}

function answer(outcome: Record<string, unknown> | RpcError): void {
  writeReply(new Writer(), new Reply(1, outcome, false));
}
