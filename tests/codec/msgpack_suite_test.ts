/**
 * The public MessagePack test suite, held against `encode` and `decode`: values, each with all its encodings, the
 * shortest first.
 */

import { decode as std } from "jsr:@std/msgpack@^1.0.3";
import { assert, assertEquals, assertThrows } from "@std/assert";
import suite from "msgpack-test-suite" with { type: "json" };
import { decode, DecodeError, encode } from "../support/msgpack.ts";

const stdDecode: (bytes: Uint8Array) => unknown = std;

/** A value under the name of its type, and its encodings in hex. */
type Row = { msgpack: string[] } & Record<string, unknown>;

const rows = (Object.values(suite) as Row[][]).flat();
const refused = rows.filter((row) => "timestamp" in row || "ext" in row);
const accepted = rows.filter((row) => !refused.includes(row));

Deno.test("decode() reads every encoding of the public suite as its value", () => {
  for (const row of accepted) {
    for (const hex of row.msgpack) assertEquals(decode(fromHex(hex)), valueOf(row), hex);
  }
});

Deno.test("decode() reads the public suite as std does, safe integers as numbers", () => {
  let encodings = 0;
  for (const hex of accepted.flatMap((row) => row.msgpack)) {
    const value = stdDecode(fromHex(hex));
    assertEquals(decode(fromHex(hex)), typeof value === "bigint" ? narrow(value) : value, hex);
    encodings++;
  }
  assertEquals(encodings, 203);
});

Deno.test("decode() refuses the extension types of the public suite", () => {
  let encodings = 0;
  for (const hex of refused.flatMap((row) => row.msgpack)) {
    assertThrows(() => decode(fromHex(hex)), DecodeError, "extension types are not accepted", hex);
    encodings++;
  }
  assertEquals(encodings, 30);
});

Deno.test("encode() writes every value of the public suite in a form that it lists", () => {
  for (const row of accepted) {
    const hex = [...encode(valueOf(row))].map((byte) => byte.toString(16).padStart(2, "0")).join("-");
    assert(row.msgpack.includes(hex), `${hex} is not one of ${row.msgpack.join(", ")}`);
  }
});

/** The value a row stands for; its first property says of which type. */
function valueOf(row: Row): unknown {
  const [type, value] = Object.entries(row).find(([name]) => name !== "msgpack")!;
  if (type === "binary") return fromHex(value as string);
  if (type === "bignum") return narrow(BigInt(value as string));
  return value;
}

function narrow(integer: bigint): number | bigint {
  return Number.isSafeInteger(Number(integer)) ? Number(integer) : integer;
}

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex === "" ? [] : hex.split("-"), (byte) => parseInt(byte, 16));
}
