/**
 * The corpus: every input that has ever failed, one file each, made as small as it could be. Every run of the tests runs
 * them all again.
 *
 * In: a failure. Out: a file of hex digits, with what was wrong in lines that begin with `#`.
 */

import { concat, hex, unhex } from "../support/wire.ts";
import { takeApart } from "./by_hand.ts";
import { hash } from "./describe.ts";
import type { Input } from "./inputs.ts";

const FOLDER = new URL("corpus/", import.meta.url);

/** An input of the corpus. */
export interface Kept extends Input {
  readonly name: string;
}

/** All inputs of the corpus. A file's name begins with the kind of its input. */
export async function readCorpus(): Promise<Kept[]> {
  const kept: Kept[] = [];
  for await (const { name } of Deno.readDir(FOLDER)) {
    const text = await Deno.readTextFile(new URL(name, FOLDER));
    const kind = name.startsWith("payload-") ? "payload" : "stream";
    kept.push({ name, kind, bytes: unhex(text.replaceAll(/^#.*$/gm, "")) });
  }
  return kept.sort((one, other) => one.name < other.name ? -1 : 1);
}

/** Keeps an input. */
export async function keep({ kind, bytes }: Input, complaint: string): Promise<string> {
  const name = `${kind}-${hash(bytes).toString(16).padStart(8, "0")}.txt`;
  const notes = complaint.slice(0, 1_000).replaceAll(/^/gm, "# ");
  const lines = hex(bytes).replaceAll(/(.{95}) /g, "$1\n");
  await Deno.writeTextFile(new URL(name, FOLDER), `${notes}\n${lines}\n`);
  return name;
}

/** A smaller input that fails as well: leaves out whole frames, then ever smaller parts, as long as that helps. */
export async function shrink(input: Input, fails: (input: Input) => Promise<boolean>): Promise<Input> {
  let smaller = input;
  const leaveOut = async (start: number, end: number) => {
    const { kind, bytes } = smaller;
    const less = { kind, bytes: concat(bytes.subarray(0, start), bytes.subarray(end)) };
    const isEnough = await fails(less);
    if (isEnough) smaller = less;
    return isEnough;
  };

  const ends = takeApart(input.bytes).payloads.map(({ byteOffset, length }) =>
    byteOffset - input.bytes.byteOffset + length + 1
  );
  for (let index = ends.length - 1; index >= 0; index--) await leaveOut(ends[index - 1] ?? 0, ends[index]);

  let triesLeft = 500;
  for (let size = input.bytes.length >> 1; size > 0; size >>= 1) {
    for (let start = 0; start < smaller.bytes.length && triesLeft > 0; triesLeft--) {
      if (!await leaveOut(start, start + size)) start += size;
    }
  }
  return smaller;
}
