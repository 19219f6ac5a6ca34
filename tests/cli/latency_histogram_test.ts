/** `cli/latency_histogram.ts`: percentiles as exact as it says, in a memory that does not grow. */

import { assert, assertEquals } from "@std/assert";
import { ACCURACY, LatencyHistogram } from "../../cli/latency_histogram.ts";
import { newSeed, Random } from "../support/random.ts";

Deno.test("percentile() is within the accuracy of the exact one, for any latencies", () => {
  const seed = newSeed();
  const random = new Random(seed);
  for (let round = 0; round < 20; round++) {
    const histogram = new LatencyHistogram();
    const spread = 1 + random.below(20);
    const latencies = Array.from(
      { length: 1 + random.below(3000) },
      () => 2 ** (spread * random.below(1e6) / 1e6) / 100,
    );
    for (const latency of latencies) histogram.record(latency);
    latencies.sort((a, b) => a - b);
    for (const percent of [0.1, 1, 25, 50, 90, 99, 99.9, 100]) {
      const exact = latencies[Math.max(1, Math.ceil(percent * latencies.length / 100 - 1e-9)) - 1];
      const told = histogram.percentile(percent);
      assert(Math.abs(told / exact - 1) <= ACCURACY + 1e-9, `p${percent} is ${told}, not ${exact}; seed ${seed}`);
    }
    assertEquals([histogram.count, histogram.minMs, histogram.maxMs], [
      latencies.length,
      latencies[0],
      latencies[latencies.length - 1],
    ]);
    const mean = latencies.reduce((sum, latency) => sum + latency, 0) / latencies.length;
    assert(Math.abs(histogram.meanMs / mean - 1) < 1e-9);
  }
});

Deno.test("percentile() of few latencies is one of them", () => {
  const histogram = new LatencyHistogram();
  assertEquals(histogram.percentile(50), NaN);
  histogram.record(7);
  assertEquals([0, 50, 100].map((percent) => histogram.percentile(percent)), [7, 7, 7]);
  histogram.record(100);
  assertEquals([histogram.percentile(50).toFixed(0), histogram.percentile(51)], ["7", 100]);
});

Deno.test("what is out of range goes to the nearest bucket", () => {
  const histogram = new LatencyHistogram();
  for (const latency of [0, 1e-9, 1e15]) histogram.record(latency);
  assertEquals([histogram.count, histogram.minMs, histogram.maxMs], [3, 0, 1e15]);
  assertEquals(histogram.cumulative([0.001, 1, 1e12]), [2, 2, 3]);
});

Deno.test("cumulative() counts what does not exceed each bound", () => {
  const histogram = new LatencyHistogram();
  for (const latency of [0.5, 1.5, 1.6, 30, 700]) histogram.record(latency);
  assertEquals(histogram.cumulative([0.1, 1, 2, 50, 1000]), [0, 1, 3, 4, 5]);
});
