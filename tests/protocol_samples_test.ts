/** Every sample of PROTOCOL.md and of `samples.md`, byte for byte, against a real server; and that a wrong one fails. */

import { assert, assertEquals, AssertionError, assertRejects, assertThrows } from "@std/assert";
import { decode } from "./support/msgpack.ts";
import {
  type Bytes,
  documentSamples,
  moreSamples,
  moreText,
  quoteKeys,
  run,
  samples,
  samplesOf,
  shown,
  type Step,
  stepsOf,
  text,
} from "./support/samples.ts";

const SAMPLES_LEAST = 32;

Deno.test(`PROTOCOL.md has at least ${SAMPLES_LEAST} samples, and none that is not run`, () => {
  assert(samples.length >= SAMPLES_LEAST, `only ${samples.length}`);
  assertEquals(documentSamples.length, text.match(/^```packline/gm)?.length);
  assertEquals(moreSamples.length, moreText.match(/^```packline/gm)?.length);
  const unmarked = [...(text + moreText).matchAll(/^```(?!packline|text|js)\S*\n[CS]: /gm)];
  assertEquals(unmarked, []);
});

for (const sample of documentSamples) {
  Deno.test(`PROTOCOL.md: ${sample.name}, is what a server does`, () => run(sample));
}

for (const sample of moreSamples) {
  Deno.test(`samples.md: ${sample.name}, is what a server does`, () => run(sample));
}

Deno.test("PROTOCOL.md shows no bytes of a text for people, which may change with any version", () => {
  const msg = [..."\xa3msg"].map((letter) => letter.charCodeAt(0).toString(16)).join(" ");
  const bytes = documentSamples.flatMap(({ name, steps }) =>
    steps.map((step) => ({ name, text: step.kind === "bytes" ? shown(step.bytes) : "" }))
  );
  assertEquals(bytes.filter(({ text }) => text.includes(msg)), []);
});

Deno.test("PROTOCOL.md: the first sample is also the one that explains the notation", () => {
  const [, body] = text.match(/^```text\n((?:.*\n)*?)```$/m) ?? [];
  const bytes = (steps: Step[]) => steps.map((step) => step.kind === "bytes" && shown(step.bytes));
  assertEquals(bytes(stepsOf(body)), bytes(samples[0].steps));
});

Deno.test("PROTOCOL.md: what stands behind a frame is the message in it", () => {
  let compared = 0;
  for (const { name, steps } of samples) {
    for (const step of steps) {
      if (step.kind !== "bytes" || step.comment.includes("…")) continue;
      const [message] = step.comment.match(/^\{.*\}/) ?? [];
      if (message === undefined || step.open) continue;
      const bytes = Uint8Array.from(step.bytes, (byte) => byte ?? 0);
      const length = ((bytes[0] - 32) & 255) << 8 | ((bytes[1] - 32) & 255);
      assertEquals(decode(bytes.subarray(2, 2 + length)), JSON.parse(quoteKeys(message)), `${name}: ${message}`);
      compared++;
    }
  }
  assert(compared > 60, `only ${compared}`);
});

Deno.test("a sample fails for one changed byte, one reply too many, and one too few", async (t) => {
  for (const sample of samples) {
    const index = sample.steps.findLastIndex((step) => step.kind === "bytes" && step.side === "S");
    const reply = sample.steps[index] as Bytes;
    await t.step(sample.name, async () => {
      const changed = structuredClone(reply);
      const at = changed.bytes.findLastIndex((byte) => byte !== undefined);
      changed.bytes[at] = (changed.bytes[at] as number) ^ 1;
      await assertRejects(
        () => run({ ...sample, steps: sample.steps.with(index, changed) }),
        AssertionError,
        "not equal",
      );
    });
  }
  const [ping] = samples;
  await assertRejects(() => run({ ...ping, steps: ping.steps.slice(0, 1) }), AssertionError, "more than the sample");
  const twice = [...ping.steps, { kind: "end", side: "C" } as const, ping.steps[1]];
  await assertRejects(() => run({ ...ping, steps: twice }), AssertionError, "the server has closed, after nothing");
  const [misprinted] = samplesOf(text.replaceAll("50 4f 4e 47", "50 4f 4e 48"));
  await assertRejects(() => run(misprinted), AssertionError, "not equal");
  assertThrows(() => samplesOf("```packline\nC: 20 2\n```"), SyntaxError, "not a byte of a sample");
});
