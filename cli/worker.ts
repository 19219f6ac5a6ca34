/**
 * A worker process: a server on a shared port, controlled by its parent process.
 *
 * In: lines of JSON on stdin: a {@linkcode WorkerTask}, then requests of `workers.ts`. Out: reports for `workers.ts` as
 * lines of JSON on stdout, and an exit code. It ends on request or with its stdin, because then its parent is gone.
 * Refused: signals, because Ctrl-C or a service manager sends them to all processes before the worker has drained.
 */

import type { Commands } from "../handlers/command.ts";
import { type ListeningServer, serve } from "../server.ts";
import { linesOf } from "./lines.ts";
import type { WorkerTask } from "./worker_process.ts";
import type { FromWorker, Others, ToWorker } from "./workers.ts";

/**
 * Runs a worker.
 *
 * @param number Its number, from 1.
 * @param commands The commands besides the built-in ones.
 * @returns The exit code, at the end.
 */
export async function runWorker(number: number, commands: Commands = {}): Promise<number> {
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => {});
  const output = Deno.stdout.writable.getWriter();
  const tell = async (message: FromWorker) => {
    // After the end of stdin nobody reads this; that is handled below.
    await output.write(new TextEncoder().encode(`${JSON.stringify(message)}\n`)).catch(() => {});
  };

  /** Pending requests for the counts of the other workers, by number. */
  const asking = new Map<number, (others: Others) => void>();
  let lastQuery = 0;
  const askOthers = () => {
    const query = ++lastQuery;
    void tell({ type: "ask", query });
    return new Promise<Others>((resolve) => asking.set(query, resolve));
  };

  const lines = linesOf(Deno.stdin.readable);
  const { value: task } = await lines.next();
  if (task === undefined) return 1;
  const options: WorkerTask = JSON.parse(task);
  let server: ListeningServer;
  try {
    server = await serve({ ...options, commands, reusePort: true, worker: { number, askOthers } });
  } catch (error) {
    await tell({ type: "failed", reason: error instanceof Error ? error.message : String(error) });
    return 1;
  }
  void tell({ type: "listening", address: server.address, port: server.port });

  const { promise: drained, resolve: onDrained } = Promise.withResolvers<number>();
  const drain = async (graceMs: number) => {
    await tell({ type: "drained", report: await server.shutdown({ graceMs }) });
    onDrained(0);
  };
  const listen = async () => {
    for await (const line of lines) {
      const message: ToWorker = JSON.parse(line);
      switch (message.type) {
        case "ping":
          void tell({ type: "pong" });
          break;
        case "report":
          void tell({ type: "report", query: message.query, statistics: server.statistics() });
          break;
        case "others":
          asking.get(message.query)?.(message);
          asking.delete(message.query);
          break;
        case "drain":
          void drain(message.graceMs);
      }
    }
    return 1; // the parent is gone
  };
  return await Promise.race([drained, listen()]);
}
