/**
 * packline with workers, as `--workers` starts them, and one command of their own that computes for about 1 ms: a fixed
 * number of steps, so that it takes the same CPU however busy the machine is.
 *
 * In: how many. Out: their port, as a line. Started by itself, it is one of them.
 */

import { runWorker } from "../../cli/worker.ts";
import { startProcess, workerNumber } from "../../cli/worker_process.ts";
import { Workers } from "../../cli/workers.ts";
import { command } from "../../handlers/command.ts";
import { systemClock } from "../../transport/clock.ts";

const STEPS = 1_000_000;

const COMPUTE = command({
  number: 17,
  handler() {
    let state = 1;
    for (let step = 0; step < STEPS; step++) state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return state === 0 ? "NONE" : "DONE";
  },
});

const number = workerNumber();
if (number !== undefined) Deno.exit(await runWorker(number, { commands: { COMPUTE } }));

const program = { main: import.meta.url, flags: [], args: [] };
const workers = await Workers.start({
  count: Number(Deno.args[0]),
  port: 0,
  start: (number, port, events) => startProcess(number, { hostname: "127.0.0.1", port }, events, program),
  clock: systemClock,
  note: console.error,
});
console.log(workers.address.split(":").at(-1));
