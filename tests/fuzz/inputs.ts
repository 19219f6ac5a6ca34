/**
 * The inputs of the fuzz: payloads and streams, most of them damaged, some sound.
 *
 * In: random numbers. Out: an input, the same for the same numbers.
 */

import type { Random } from "../support/random.ts";
import { concat, frame, unhex } from "../support/wire.ts";
import { mutated } from "./mutate.ts";
import { CALLER_STREAMS, LARGE, SMALL } from "./samples.ts";

/** Headers at and beyond every limit: 0, 57,310 and 57,311 bytes in either form, 1 MiB and a byte more, 2^31, 2^32 - 1. */
const HEADERS = [
  ...["20 20", "ff fe", "ff ff", "1f 1e", "1f 1f 00 00 00 00", "1f 1f 00 00 00 06", "1f 1f 00 00 df de"],
  ...["1f 1f 00 00 df df", "1f 1f 00 10 00 00", "1f 1f 00 10 00 01", "1f 1f 80 00 00 00", "1f 1f ff ff ff ff"],
].map(unhex);

/** Bytes, and what they are given to: a reader of payloads, or a reader of streams. */
export interface Input {
  readonly kind: "payload" | "stream";
  readonly bytes: Uint8Array;
}

/** One input. Half of them are payloads, which reach the reader however they are damaged; half are streams of frames. */
export function anyInput(random: Random): Input {
  if (random.chance(0.5)) return { kind: "payload", bytes: mutated(random, sample(random), sample(random)) };
  if (random.chance(0.1)) return { kind: "stream", bytes: callerStream(random) };
  const frames = Array.from({ length: random.between(1, random.pick([1, 3, 6])) }, () => {
    const payload = random.chance(0.3) ? mutated(random, sample(random), sample(random)) : sample(random);
    return random.chance(0.05) ? concat(random.pick(HEADERS), payload, unhex("0a")) : frame(payload);
  });
  const stream = concat(...frames);
  return { kind: "stream", bytes: random.chance(0.7) ? mutated(random, stream, frame(sample(random))) : stream };
}

/** Calls with streams of the caller's, in and out of order; one of their messages may be damaged, no frame is. */
function callerStream(random: Random): Uint8Array {
  const { begin, follow } = CALLER_STREAMS;
  const frames = Array.from({ length: random.between(2, random.pick([6, 30])) }, (_, index) => {
    const payload = random.pick(index === 0 || random.chance(0.1) ? begin : follow);
    return frame(random.chance(0.02) ? mutated(random, payload, sample(random)) : payload);
  });
  return concat(...frames);
}

function sample(random: Random): Uint8Array {
  return random.pick(random.chance(0.001) ? LARGE : random.pick(SMALL));
}
