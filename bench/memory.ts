/**
 * Measures the server's memory for what rests: idle connections, each after one call, or calls that wait.
 *
 * In: a `Job` as JSON, in the first argument. Out: bytes of the server's memory for each connection, or for each call if
 * there is more than one on a connection, as one line on stdout.
 */

import { Block, Callers, type Job } from "./load.ts";
import { delay, rssBytes } from "./measure.ts";

/** One-time memory for the first of them is not counted. */
const WARM_PART = 0.02;

/** The pause before the server's memory is read. */
const SETTLE_MS = 1_000;

const job: Job = JSON.parse(Deno.args[0]);
const block = new Block(job);
const callers = new Callers();

const warm = Math.ceil(job.connections * WARM_PART);
open(warm);
await delay(SETTLE_MS);
const before = rssBytes(job.pid);
open(job.connections);
await delay(SETTLE_MS);
callers.until(once(), () => {}); // a call that was refused has an answer, which is wrong
console.log((rssBytes(job.pid) - before) / (job.connections * job.inFlight));
Deno.exit();

function once(): () => boolean {
  let isOver = true;
  return () => (isOver = !isOver);
}

function open(connections: number): void {
  for (let count = 0; count < connections; count++) {
    const number = callers.open(job.port, block);
    callers.call(number, job.inFlight);
    if (block.replyBytes > 0) callers.untilAnswered(); // else the pause is long enough for these calls to begin
  }
}
