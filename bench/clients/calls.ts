/** Load through a client library: so many workers, each with one call in flight. What the clients here share. */

import type { Job } from "../load.ts";
import { sampleOf } from "../measure.ts";

/** Measures calls; prints the sample, and ends the process. */
export async function loadThrough(connect: (job: Job) => Promise<() => Promise<unknown>>): Promise<never> {
  const job: Job = JSON.parse(Deno.args[0]);
  const calls: (() => Promise<unknown>)[] = [];
  while (calls.length < job.connections) calls.push(await connect(job));
  let stopped = false;
  const sample = await sampleOf(
    job,
    (meter) =>
      calls.flatMap((call) =>
        Array.from({ length: job.inFlight }, async () => {
          while (!stopped) {
            const startMs = performance.now();
            await call();
            meter.record(performance.now() - startMs, 1);
          }
        })
      ),
    () => stopped = true,
  );
  console.log(JSON.stringify(sample));
  Deno.exit();
}
