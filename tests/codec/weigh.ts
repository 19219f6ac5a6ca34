/**
 * What values take on the heap, and what they weigh: one line of JSON for each kind. Run with `--v8-flags=--expose-gc`
 * by `weight_test.ts`.
 */

import { Reader } from "../../codec/reader.ts";
import { concat, unhex } from "../support/wire.ts";

const COUNT = 5_000;

/** Values of a kind, each with its number, in hexadecimal. */
const KINDS: Record<string, (id: string) => string> = {
  "small integers": () => "01",
  "floats": (id) => `cb 3f f1 00 00 00 00 ${id}`,
  "integers of 64 bits": (id) => `cf ff 00 00 00 00 00 ${id}`,
  "empty arrays": () => "90",
  "arrays of one value": () => "91 01",
  "arrays of 18 values": () => `dc 00 12 ${"01".repeat(18)}`,
  "empty maps": () => "80",
  "maps of one name": () => "81 a1 61 01",
  "records": () => "85 a1 61 01 a1 62 02 a1 63 03 a1 64 04 a1 65 05",
  "maps with names of their own": (id) => `82 a6 ${textOf("a", id)} 01 a6 ${textOf("b", id)} 02`,
  "maps with integer keys": () => "82 cd 03 ff 01 cd 0a 0c 01",
  "maps with one integer key": () => "81 05 01",
  "maps with integer keys as text": () => "82 a4 31 30 32 33 01 a4 32 35 37 32 01",
  "empty binary data": () => "c4 00",
  "binary data of 100 bytes": () => `c4 64 ${"07".repeat(100)}`,
  "texts": (id) => `a6 ${textOf("x", id)}`,
  "texts beyond Latin-1": (id) => `a9 e4 b8 ad ${textOf("x", id)}`,
};

/** Six characters. */
function textOf(letter: string, id: string): string {
  return new TextEncoder().encode(letter + id.replaceAll(" ", "").padStart(5, "0")).toHex();
}

const collect = (globalThis as unknown as { gc(): void }).gc;
const header = unhex(`81 a1 61 dd 00 00 ${COUNT.toString(16).padStart(4, "0")}`);

for (const [kind, valueOf] of Object.entries(KINDS)) {
  const values = Array.from({ length: COUNT }, (_, id) => unhex(valueOf(id.toString(16).padStart(4, "0"))));
  const payload = concat(header, ...values);
  const reader = new Reader({ maxDepth: 64, maxMessageBytes: 2 ** 31 });
  const read = () => {
    reader.begin(payload, 0, payload.length);
    reader.readMapSize();
    reader.readKey();
    return reader.readValue();
  };
  read();
  const measure = () => {
    const kept: unknown[] = [];
    collect();
    const before = Deno.memoryUsage();
    for (let round = 0; round < 4; round++) kept.push(read());
    collect();
    const after = Deno.memoryUsage();
    return (after.heapUsed + after.external - before.heapUsed - before.external) / kept.length / COUNT;
  };
  // The least of three: the engine may put compiled code on the heap meanwhile.
  const heapBytes = Math.min(measure(), measure(), measure());
  console.log(JSON.stringify({ kind, heapBytes, weightBytes: reader.weightBytes / COUNT }));
}
