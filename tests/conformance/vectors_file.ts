/**
 * `vectors.json`: the vectors in a form that any language reads; its first field says how. The kit itself runs from it.
 *
 * In: vectors, or the file. Out: the file's text, or vectors. Refused: nothing.
 */

import { bytesOf, fromJson, notation, toJson } from "./values.ts";
import { BY_NUMBER } from "./vectors/by_number.ts";
import { IN_ORDER } from "./vectors/in_order.ts";
import { KNOWING } from "./vectors/knowing.ts";
import { STREAMS } from "./vectors/streams.ts";
import type { Step, Vector } from "./vectors/vector.ts";

const NOTATION = [
  "Each vector is a conversation over a new connection. PROTOCOL.md has its heading.",
  "needs: commands of the server. limits: limits that its INFO must tell; otherwise skip the vector.",
  "send: the client sends these bytes; 78*220 is the byte 78, 220 times. pieces: in writes of that many bytes. shows: the message in them.",
  "expect: the next message of the server. anyOrder: the next ones, in any order.",
  "upload: the client sends items as the server grants them: one, and what {seq, credit} notices add. end: then the end.",
  "fin: this side ends its half. After the last step the client ends its half, and the server must end without a word.",
  "In expect and anyOrder: err allows msg (text), data (any value) and $after (number) beside it; res allows fields that PROTOCOL.md does not name. A {seq, credit} notice may come at any time for a call with $items.",
  "Values: $bin is binary in hexadecimal, $int an integer beyond 2^53, $float a float that JSON lacks, $raw an encoded value. Patterns: $any, $number, $text, $repeat [part, times], $absent.",
];

/** The text of `vectors.json`. */
export function fileOf(vectors: readonly Vector[]): string {
  const lines = vectors.map((vector) =>
    JSON.stringify({
      ...vector,
      steps: vector.steps.map((step) => {
        if (!("send" in step)) return toJson(step);
        const { shows, pieces } = step;
        return {
          send: notation(step.send),
          ...shows !== undefined && step.send.length < 500 && { shows: toJson(shows) },
          ...pieces && { pieces },
        };
      }),
    })
  );
  return `{\n"notation": ${JSON.stringify(NOTATION, null, 2)},\n"vectors": [\n${lines.join(",\n")}\n]\n}\n`;
}

/** The vectors of the file. */
export function vectorsIn(file: { vectors: unknown }): Vector[] {
  return (file.vectors as Vector[]).map((vector) => ({
    ...vector,
    steps: vector.steps.map((step): Step =>
      "send" in step
        ? {
          ...step,
          send: bytesOf(step.send as unknown as string),
          ..."shows" in step && { shows: fromJson(step.shows) },
        }
        : fromJson(step) as Step
    ),
  }));
}

/** All vectors, as they are written in `vectors/`. */
export const VECTORS: readonly Vector[] = [...IN_ORDER, ...BY_NUMBER, ...STREAMS, ...KNOWING];

if (import.meta.main) {
  await Deno.writeTextFile(new URL("vectors.json", import.meta.url), fileOf(VECTORS));
}
