/**
 * Every kind of UTF-8 there is, and every kind that is none: all sequences of up to four bytes from both sides of every
 * limit, held against the runtime's strict decoder; alone, and in a text that is no longer a short one.
 */

import { assert, assertStrictEquals } from "@std/assert";
import { decode, DecodeError } from "../support/msgpack.ts";
import { concat, hex } from "../support/wire.ts";

/** Where a lead changes its meaning, and where a continuation does. */
const LEADS = [0, 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4]
  .concat([0xf5, 0xf7, 0xf8, 0xff]);
const FOLLOWING = [0, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff];

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function* sequences(): Generator<number[]> {
  for (const lead of LEADS) {
    yield [lead];
    for (const second of FOLLOWING) {
      yield [lead, second];
      for (const third of FOLLOWING) {
        yield [lead, second, third];
        for (const fourth of lead < 0xf0 ? [] : FOLLOWING) yield [lead, second, third, fourth];
      }
    }
  }
}

for (const before of [0, 40]) {
  Deno.test(`decode() reads UTF-8 behind ${before} bytes of text, and refuses what is none`, () => {
    let valid = 0;
    for (const sequence of sequences()) {
      const text = concat(new Uint8Array(before).fill(0x61), Uint8Array.from(sequence));
      const right = attempt(() => strict.decode(text));
      const read = attempt(() => decode(concat(Uint8Array.of(0xd9, text.length), text)));
      assertStrictEquals(read.value, right.value, hex(text));
      if (right.error === undefined) valid++;
      else assert(read.error instanceof DecodeError && read.error.message === "text is not valid UTF-8", hex(text));
    }
    assert(valid > 100, `only ${valid} of these are valid`);
  });
}

function attempt(run: () => unknown): { value?: unknown; error?: unknown } {
  try {
    return { value: run() };
  } catch (error) {
    return { error };
  }
}
