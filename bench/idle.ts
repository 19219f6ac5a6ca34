/**
 * Measures the server's memory for idle connections, each after one call.
 *
 * In: a `Job` as JSON, in the first argument. Out: bytes of the server's memory per connection, one line on stdout.
 */

import { Block, type Job, RpcClient } from "./load.ts";
import { delay, rssBytes } from "./measure.ts";

const job: Job = JSON.parse(Deno.args[0]);
const block = new Block(job);

// One-time memory for the first connections is not counted.
const WARM_CONNECTIONS = 20;

/** The pause before the server's memory is read. */
const SETTLE_MS = 1_000;

for (let index = 0; index < WARM_CONNECTIONS; index++) await open();
await delay(SETTLE_MS);
const before = rssBytes(job.pid);
for (let index = 0; index < job.connections; index++) await open();
await delay(SETTLE_MS);
console.log((rssBytes(job.pid) - before) / job.connections);
Deno.exit();

async function open(): Promise<void> {
  const caller = await RpcClient.connect(job, block);
  await caller.callOnce();
}
