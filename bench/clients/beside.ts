/**
 * Calls during an upload, on one connection: PING, one at a time, without the upload and during it.
 *
 * In: a job as JSON; `items` chunks are sent. Out: a `BesideSample` as one line of JSON.
 */

import { connect } from "../../client.ts";
import { Meter } from "../measure.ts";
import { type BesideSample, type ClientJob, itemsOf } from "../stream_job.ts";
import { MAX_PAYLOAD_BYTES } from "../wire.ts";

const WARM_UP_CALLS = 5_000;
const CALLS_ALONE = 10_000;

const { port, chunkBytes, items }: ClientJob = JSON.parse(Deno.args[0]);
const client = await connect({ port, maxPayloadBytes: MAX_PAYLOAD_BYTES });

async function callWhile(goesOn: (calls: number) => boolean): Promise<Meter> {
  const meter = new Meter();
  while (goesOn(meter.calls)) {
    const startMs = performance.now();
    await client.call("PING");
    meter.record(performance.now() - startMs, 1);
  }
  return meter;
}

const upload = (chunks: number) => client.call("PUT", {}, { items: itemsOf(chunkBytes, chunks) });

await callWhile((calls) => calls < WARM_UP_CALLS);
await upload(Math.ceil(items / 8));
const alone = await callWhile((calls) => calls < CALLS_ALONE);
let isOver = false;
const uploaded = upload(items).finally(() => isOver = true);
const beside = await callWhile(() => !isOver);
await uploaded;
const sample: BesideSample = {
  alone: { p50: alone.quantile(0.5), p99: alone.quantile(0.99), calls: alone.calls },
  beside: { p50: beside.quantile(0.5), p99: beside.quantile(0.99), calls: beside.calls },
};
console.log(JSON.stringify(sample));
Deno.exit();
