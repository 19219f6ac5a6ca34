/**
 * Measures the server's memory for an idle load: idle connections, each after one call, or calls that wait.
 *
 * In: a {@linkcode MemoryJob} as JSON, in the first argument. Out: bytes of the server's memory for each connection, or
 * for each call if there is more than one on a connection, as one line on stdout.
 */

import { Block, Callers, type Job } from "./load.ts";
import { delay, rssBytes } from "./measure.ts";

/** The first part of the load, which is not counted because it includes one-time memory. */
const WARM_PART = 0.02;

/** An idle load. */
export interface MemoryJob extends Job {
  /** The pause before the server's memory is read. */
  readonly settleMs: number;
}

if (import.meta.main) await main(JSON.parse(Deno.args[0]));

async function main(job: MemoryJob): Promise<void> {
  const block = new Block(job);
  const callers = new Callers();
  let waiting = 0;
  const open = (connections: number) => {
    for (let count = 0; count < connections; count++) {
      const number = callers.open(job.port, block);
      callers.call(number, job.inFlight);
      callers.untilAnswered(waiting += block.waiting);
    }
  };
  open(Math.ceil(job.connections * WARM_PART));
  await delay(job.settleMs);
  const before = rssBytes(job.pid);
  open(job.connections);
  await delay(job.settleMs);
  console.log((rssBytes(job.pid) - before) / (job.connections * job.inFlight));
  Deno.exit();
}
