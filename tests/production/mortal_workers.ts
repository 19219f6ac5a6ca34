/**
 * Two workers that die when they are called to, and who watches over them. Not a test.
 *
 * Out: where they listen, what happens to them, and at SIGTERM how they ended.
 */

import { startProcess } from "../../cli/worker_process.ts";
import { Workers } from "../../cli/workers.ts";
import { systemClock } from "../../transport/clock.ts";

const program = { main: new URL("./mortal_worker.ts", import.meta.url).href, flags: ["--allow-run"], args: [] };
const workers = new Workers({
  count: 2,
  port: 0,
  start: (number, port, events) => startProcess(number, { hostname: "127.0.0.1", port }, events, program),
  clock: systemClock,
  note: (text) => console.log(text),
});
await workers.start();
console.log(`listening on ${workers.address}`);

Deno.addSignalListener("SIGTERM", async () => {
  const { finished, cut } = await workers.shutdown({ graceMs: 200 });
  console.log(`finished ${finished}, cut ${cut}`);
  Deno.exit(0);
});
