/**
 * The inputs of the fuzz: payloads and streams, most of them damaged, some sound.
 *
 * In: random numbers. Out: an input, the same for the same numbers.
 */

import type { Random } from "../random.ts";
import { concat, frame } from "../wire.ts";
import { mutated } from "./mutate.ts";
import { LARGE, SMALL } from "./samples.ts";

/** Bytes, and what they are given to: a reader of payloads, or a reader of streams. */
export interface Input {
  readonly kind: "payload" | "stream";
  readonly bytes: Uint8Array;
}

/** One input. Half of them are payloads, which reach the reader however they are damaged; half are streams of frames. */
export function anyInput(random: Random): Input {
  if (random.chance(0.5)) return { kind: "payload", bytes: mutated(random, sample(random), sample(random)) };
  const frames = Array.from({ length: random.between(1, random.pick([1, 3, 6])) }, () => {
    const payload = sample(random);
    return frame(random.chance(0.3) ? mutated(random, payload, sample(random)) : payload);
  });
  const stream = concat(...frames);
  return { kind: "stream", bytes: random.chance(0.7) ? mutated(random, stream, frame(sample(random))) : stream };
}

function sample(random: Random): Uint8Array {
  return random.pick(random.chance(0.002) ? LARGE : random.pick(SMALL));
}
