/**
 * Two workers that die when they are told to, and who watches over them. Not a test.
 *
 * In: on stdin, lines such as `2 throw`. Out: where they listen, what happens to them, and at SIGTERM how they ended.
 */

import { startThread } from "../../cli/thread.ts";
import { type RunningWorker, Workers } from "../../cli/workers.ts";
import { systemClock } from "../../transport/clock.ts";

const running = new Map<number, RunningWorker>();

const workers = await Workers.start({
  count: 2,
  port: 0,
  start(number, port, events) {
    const module = new URL("./mortal_worker.ts", import.meta.url);
    const worker = startThread({ number, options: { port } }, events, module);
    running.set(number, worker);
    return worker;
  },
  clock: systemClock,
  note: (text) => console.log(text),
});
console.log(`listening on ${workers.address}`);

Deno.addSignalListener("SIGTERM", async () => {
  const { finished, cut } = await workers.shutdown({ grace: 0.2 });
  console.log(`finished ${finished}, cut ${cut}`);
  Deno.exit(0);
});

for await (const lines of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  for (const [, number, die] of lines.matchAll(/(\d+) (\w+)\n/g)) {
    // The supervisor has no such message; only these workers know it.
    running.get(Number(number))?.post({ die } as unknown as Parameters<RunningWorker["post"]>[0]);
  }
}
