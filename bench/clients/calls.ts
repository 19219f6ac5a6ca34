/**
 * Load through a client library, shared by the clients here: several callers per connection, each with one call in
 * flight.
 *
 * In: a `Job` as JSON, in the first argument. Out: a `Sample` as one line of JSON. Refused: a wrong result ends the
 * process.
 */

import { KEYS, TEXTS } from "../data.ts";
import type { Job } from "../load.ts";
import { sampleOf } from "../measure.ts";

/** The inputs of the calls, in turn, and a check of the results. */
interface Calls<Input> {
  readonly inputs: readonly Input[];
  isRight(input: Input, result: unknown): boolean;
}

export const GETS: Calls<string> = { inputs: KEYS, isRight: (key, text) => text === TEXTS.get(key) };

type Call<Input> = (input: Input) => Promise<unknown>;

/** Measures calls, prints the sample, and ends the process. */
export async function loadThrough<Input>(
  connect: (job: Job) => Call<Input> | Promise<Call<Input>>,
  { inputs, isRight }: Calls<Input>,
): Promise<never> {
  const job: Job = JSON.parse(Deno.args[0]);
  const callers: Call<Input>[] = [];
  while (callers.length < job.connections) callers.push(await connect(job));
  let stopped = false;
  let next = 0;
  const sample = await sampleOf(
    job,
    (meter) =>
      callers.flatMap((call) =>
        Array.from({ length: job.inFlight }, async () => {
          while (!stopped) {
            const input = inputs[next++ % inputs.length];
            const startMs = performance.now();
            const result = await call(input);
            meter.record(performance.now() - startMs, 1);
            if (!isRight(input, result)) throw new Error(`a result is wrong: ${JSON.stringify(result)}`);
          }
        })
      ),
    () => stopped = true,
  );
  console.log(JSON.stringify(sample));
  Deno.exit();
}
