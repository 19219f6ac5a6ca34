/**
 * packline with workers, as `--workers` starts them, and GET.
 *
 * In: the number of workers. Out: their port, as a line. If packline starts this file, it is one of the workers.
 */

import { runWorker } from "../../cli/worker.ts";
import { startProcess, workerNumber } from "../../cli/worker_process.ts";
import { Workers } from "../../cli/workers.ts";
import { systemClock } from "../../transport/clock.ts";
import { GET } from "./commands.ts";

const number = workerNumber();
if (number !== undefined) Deno.exit(await runWorker(number, { commands: { GET } }));

const program = { main: import.meta.url, flags: [], args: [] };
const workers = new Workers({
  count: Number(Deno.args[0]),
  port: 0,
  start: (number, port, events) => startProcess(number, { hostname: "127.0.0.1", port }, events, program),
  clock: systemClock,
  note: console.error,
});
await workers.start();
console.log(workers.address.split(":").at(-1));
