/**
 * What runs in the thread of a worker: a server like any other, on a port that it shares.
 *
 * In: a {@linkcode WorkerTask}; then, what `workers.ts` asks. Out: what `workers.ts` is to know.
 */

import { parentPort, workerData } from "node:worker_threads";
import { serve } from "../server.ts";
import type { WorkerTask } from "./thread.ts";
import type { FromWorker, Others, ToWorker } from "./workers.ts";

const { number, options } = workerData as WorkerTask;

/** Who waits for the counts of the others, by the number of the question. */
const asking = new Map<number, (others: Others) => void>();
let lastQuery = 0;

function tell(message: FromWorker): void {
  parentPort?.postMessage(message);
}

function askOthers(): Promise<Others> {
  const query = ++lastQuery;
  tell({ type: "ask", query });
  return new Promise((resolve) => asking.set(query, resolve));
}

try {
  const server = await serve({ ...options, reusePort: true, worker: { number, askOthers } });
  parentPort?.on("message", (message: ToWorker) => {
    switch (message.type) {
      case "report":
        tell({ type: "report", query: message.query, statistics: server.statistics() });
        break;
      case "others":
        asking.get(message.query)?.(message);
        asking.delete(message.query);
        break;
      case "drain":
        server.shutdown({ grace: message.grace }).then((report) => tell({ type: "drained", report }));
    }
  });
  tell({ type: "listening", address: server.address, port: server.port });
} catch (error) {
  // Said in one line, without the trace that an error has which nobody catches.
  tell({ type: "failed", reason: error instanceof Error ? error.message : String(error) });
}
