/** One transfer of the stream benchmark: the jobs of its two processes, and the result. */

import { cpuMs, peakRssBytes, rssBytes } from "./measure.ts";

/** A work, for one subject. */
export interface StreamJob {
  /** Whether the server sends, or the client. */
  readonly direction: "download" | "upload";
  /** The size of a chunk in bytes; 0 for small records. */
  readonly chunkBytes: number;
  /** How many chunks or records. */
  readonly items: number;
}

/** The job of a client: the work, and the server. */
export interface ClientJob extends StreamJob {
  readonly port: number;
  readonly pid: number;
}

/** The cost of one transfer. */
export interface StreamSample {
  bytesPerSecond: number;
  itemsPerSecond: number;
  /** The CPU time of each process per item, in µs. */
  serverCpu: number;
  clientCpu: number;
  /** The peak memory of each process, above its memory after the warm-up, in bytes. */
  serverRss: number;
  clientRss: number;
}

/** Times of calls, in µs, and their number. */
export interface CallTimes {
  p50: number;
  p99: number;
  calls: number;
}

/** Calls without an upload on their connection, and during one. */
export interface BesideSample {
  alone: CallTimes;
  beside: CallTimes;
}

/** The share of the items that are sent before the measurement, for the compiler. */
const WARM_UP = 0.25;

/** The item with this number: a small record. */
export function record(id: number): { id: number; text: string } {
  return { id, text: "a small item" };
}

/** All items of a work. For bytes, it is the same chunk each time, as from a file that is read into one buffer. */
export function* itemsOf(chunkBytes: number, items: number): Generator<unknown> {
  const chunk = new Uint8Array(chunkBytes).fill(7);
  for (let id = 0; id < items; id++) yield chunkBytes === 0 ? record(id) : chunk;
}

/**
 * Measures a transfer, prints the sample, and ends the process.
 *
 * @param transferOf Connects, and returns a function that transfers a number of items. It resolves with the number that
 * arrived.
 */
export async function measureTransfer(
  transferOf: (job: ClientJob) => Promise<(items: number) => Promise<number>>,
): Promise<never> {
  const job: ClientJob = JSON.parse(Deno.args[0]);
  const transfer = await transferOf(job);
  const checked = async (items: number) => {
    const arrived = await transfer(items);
    if (arrived !== items) throw new Error(`${arrived} of ${items} items have arrived`);
  };
  await checked(Math.ceil(WARM_UP * job.items));
  const pids = [job.pid, Deno.pid];
  const idle = pids.map(rssBytes);
  const before = pids.map(cpuMs);
  const startMs = performance.now();
  await checked(job.items);
  const seconds = (performance.now() - startMs) / 1000;
  const [serverCpu, clientCpu] = pids.map((pid, index) => (cpuMs(pid) - before[index]) / job.items * 1000);
  const [serverRss, clientRss] = pids.map((pid, index) => peakRssBytes(pid) - idle[index]);
  const itemsPerSecond = job.items / seconds;
  const sample: StreamSample = {
    bytesPerSecond: itemsPerSecond * job.chunkBytes,
    itemsPerSecond,
    serverCpu,
    clientCpu,
    serverRss,
    clientRss,
  };
  console.log(JSON.stringify(sample));
  Deno.exit();
}
