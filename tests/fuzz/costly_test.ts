/**
 * What a peer can make a server do with one read of 64 KiB, by design and not by chance: nothing else runs meanwhile, so
 * this is how long it can hold up all others. Each row is made of the same few bytes over and over. No read may take
 * longer than `@std/msgpack` takes for five frames of empty texts, some 40 ms: a limit that means the same on any machine.
 */

import { decode } from "jsr:@std/msgpack@^1.0.3";
import { assertEquals, AssertionError } from "@std/assert";
import { readRequest } from "../../codec/read_message.ts";
import { concat, frame, unhex } from "../support/wire.ts";
import { readAll } from "./codec_checks.ts";

const READ_BYTES = 64 * 1024;

/** A busy machine can hold up some of the runs, not all. */
const RUNS = 30;

/** The measure of all others: a frame that is costly for std, and how many of it a read may cost. */
const ALLOWED_FRAMES = 5;
const EMPTY_TEXTS = concat(unhex("dc ff fc"), new Uint8Array(65_532).fill(0xa0));

/** Payloads that fill a read with frames, and whether they are messages. */
const FRAMES: Record<string, string> = {
  "PING": "81 a3 63 6d 64 01",
  "empty maps": "80",
  "no payload": "",
  "0xc1": "c1",
  "extension types": "81 a1 61 c7 00 00",
  "keys that are nil": "81 c0 01",
  "keys that are not UTF-8": "81 a1 ff 01",
  "texts that are not UTF-8": "81 01 a2 c3 28",
  "texts of a surrogate": "81 01 a3 ed a0 80",
  "texts of U+FFFD": "81 01 a3 ef bf bd",
  "sizes that are lies": "81 01 dd ff ff ff ff",
  "values too deep": `81 01 ${"91 ".repeat(70)} 01`,
  "items": "83 a3 63 6d 64 00 a3 73 65 71 01 a4 69 74 65 6d 01",
  "items without seq": "82 a3 63 6d 64 00 a4 69 74 65 6d 01",
  "two meanings": "84 a3 63 6d 64 00 a3 73 65 71 01 a4 69 74 65 6d 01 a3 65 6e 64 c3",
  "wrong seq": "82 a3 63 6d 64 01 a3 73 65 71 c0",
};

for (const [name, payload] of Object.entries(FRAMES)) {
  const one = frame(unhex(payload));
  const read = concat(...new Array(Math.floor(READ_BYTES / one.length)).fill(one));
  Deno.test(`a read full of frames with ${name} takes no longer than std for five frames`, () => {
    assertEquals(inTime(read).length, read.length / one.length);
  });
}

/** Values that fill the one payload of a read. */
const VALUES: Record<string, (index: number) => string> = {
  "empty texts": () => "a0",
  "texts of é": () => "a2 c3 a9",
  "texts of U+FFFD": () => "a3 ef bf bd",
  "texts of 41 bytes": () => "d9 29 ef bf bd" + "61".repeat(38),
  "empty binary data": () => "c4 00",
  "integers of 64 bits": () => "d3 7f ff ff ff ff ff ff ff",
  "empty maps": () => "80",
  "maps with ever new keys": (index) => `81 a4 ${key(index)} 01`,
  "maps with __proto__": () => "81 a9 5f 5f 70 72 6f 74 6f 5f 5f c0",
  "maps in maps": () => "81 01 81 01 81 01 81 01 80",
};

for (const [name, value] of Object.entries(VALUES)) {
  Deno.test(`a read of ${name} takes no longer than std for five frames`, () => {
    assertEquals(inTime(filled("dd", value)).length, 1);
  });
}

/** Keys that fill the one map of a read. */
const KEYS: Record<string, (index: number) => string> = {
  "ever new keys": (index) => `a4 ${key(index)} c0`,
  "keys of é": (index) => `a6 c3 a9 ${key(index)} c0`,
  "keys that are integers": (index) => `ce ${hex32(Math.imul(index, 7919))} c0`,
  "keys that are integers of 64 bits": (index) => `cf ff ff ff ff ${hex32(index)} c0`,
};

for (const [name, entry] of Object.entries(KEYS)) {
  Deno.test(`a read of ${name} takes no longer than std for five frames`, () => {
    assertEquals(inTime(filled("df", entry)).length, 1);
  });
}

/** Reads the bytes again and again until it has been fast enough once. */
function inTime(bytes: Uint8Array): unknown[] {
  let [leastMs, allowedMs] = [Infinity, Infinity];
  for (let run = 0; run < RUNS; run++) {
    allowedMs = Math.min(allowedMs, ALLOWED_FRAMES * elapsed(() => decode(EMPTY_TEXTS)));
    let messages: unknown[] = [];
    leastMs = Math.min(leastMs, elapsed(() => messages = readAll(readRequest, [bytes])));
    if (leastMs < allowedMs && run > 0) return messages;
  }
  throw new AssertionError(
    `${leastMs.toFixed(1)} ms is the least of ${RUNS} runs, std took ${allowedMs.toFixed(1)} ms`,
  );
}

function elapsed(run: () => void): number {
  const startMs = performance.now();
  run();
  return performance.now() - startMs;
}

/** A frame of `{ "a": [...] }` or `{ "a": {...} }` with all the items that fit. */
function filled(type: string, item: (index: number) => string): Uint8Array {
  const bytes = unhex(item(0)).length;
  const count = Math.floor((57_310 - 8) / bytes);
  const items = Array.from({ length: count }, (_, index) => item(index)).join("");
  return frame(unhex(`81 a1 61 ${type} ${hex32(count)} ${items}`));
}

/** Four letters, other ones for each index. */
function key(index: number): string {
  return index.toString(26).padStart(4, "0").replaceAll(
    /./g,
    (digit) => (0x61 + parseInt(digit, 26)).toString(16),
  );
}

function hex32(value: number): string {
  return (value >>> 0).toString(16).padStart(8, "0");
}
