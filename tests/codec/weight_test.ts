/** What a message weighs is what its values take, so that a bound on weight bounds memory. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { decode, encode } from "../support/msgpack.ts";
import { DecodeError, EncodeError } from "../support/msgpack.ts";
import { Writer } from "../../codec/writer.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { concat, unhex } from "../support/wire.ts";
import { takeBatch } from "../support/batch.ts";

Deno.test("values take no more memory than they weigh, whatever their kind", async () => {
  const script = new URL("weigh.ts", import.meta.url).pathname;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--v8-flags=--expose-gc", script],
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  const kinds = new TextDecoder().decode(stdout).trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(kinds.length, 17);
  for (const { kind, heapBytes, weightBytes } of kinds) {
    assert(heapBytes <= weightBytes, `${kind}: ${heapBytes} bytes each, weighed as ${weightBytes}`);
  }
});

Deno.test("20,000 maps of 9 bytes that took 31 KB each are refused", () => {
  const map = unhex("82 cd 03 ff 01 cd 0a 0c 01");
  const bomb = concat(unhex("dd 00 00 4e 20"), ...new Array(20_000).fill(map));
  assertThrows(() => decode(bomb), DecodeError, "more than 8388608 bytes of memory");
});

const LARGE: Record<string, unknown> = {
  "a binary of 1 MiB": new Uint8Array(1024 * 1024 - 100),
  "a text of 1 MiB": "x".repeat(1024 * 1024 - 100),
  "a text of 1 MiB beyond ASCII": "中".repeat(1024 * 1024 / 3 - 100),
  "10,000 records": Array.from({ length: 10_000 }, (_, id) => ({ id, name: `name ${id}`, ok: true, at: id / 3 })),
  "100,000 floats": Array.from({ length: 100_000 }, (_, index) => index / 3),
  "a map of 10,000 names": Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`key ${index}`, index])),
};

for (const [name, value] of Object.entries(LARGE)) {
  Deno.test(`${name} passes, at the writer and at the reader`, () => {
    const writer = new Writer();
    writer.begin(DEFAULT_LIMITS.maxPayloadBytes);
    writer.writeValue(value);
    assertEquals(decode(takeBatch(writer)), value);
  });
}

Deno.test("the writer refuses what the reader refuses, to the byte", () => {
  const values: unknown[] = [
    [1, "é", { a: [], 7: new Uint8Array(5) }, 2n ** 63n, null],
    { ["x".repeat(33)]: 1, ["é".repeat(20)]: 2, "5": 3 },
    ["x".repeat(100), "中".repeat(50), "é"],
    new Array(20).fill({ a: 1.5, b: undefined }),
  ];
  for (const value of values) {
    const bytes = encode(value);
    const { maxPayloadBytes, maxMessageBytes } = DEFAULT_LIMITS;
    const weigh = (leftBytes: number) => {
      const writer = new Writer();
      writer.begin(maxPayloadBytes, maxMessageBytes - leftBytes);
      writer.writeValue(value);
    };
    let least = 1;
    while (refuses(() => decode(bytes, { maxMessageBytes: least }))) least++;
    weigh(least);
    assertThrows(() => weigh(least - 1), EncodeError, `more than ${least - 1} bytes of memory`);
  }
});

function refuses(run: () => unknown): boolean {
  try {
    run();
    return false;
  } catch (error) {
    if (error instanceof DecodeError) return true;
    throw error;
  }
}
