/**
 * A worker process: a server on a shared port, controlled by its parent process.
 *
 * In: lines on stdin: a secret, a {@linkcode WorkerTask} as JSON, then requests of `workers.ts`. Out: reports for
 * `workers.ts` as lines of JSON on stdout, and an exit code. It ends on request, or when its stdin ends, because its
 * parent is gone then. Refused: signals, because Ctrl-C or a service manager sends them to all processes before the
 * worker has drained.
 */

import "./orphan.ts"; // is loaded before, but only what is imported has been downloaded
import { type ListeningServer, openListeningServer, type ServeOptions } from "../handlers/open_server.ts";
import { denoServerNetwork } from "../transport/deno_server_network.ts";
import { messageOf } from "../transport/runtime.ts";
import type { ServerTls } from "../transport/tls.ts";
import { endNow } from "./end.ts";
import { linesOf } from "./lines.ts";
import { messageMark, readTask } from "./worker_process.ts";
import type { FromWorker, Others, ToWorker } from "./workers.ts";

const encoder = new TextEncoder();

/**
 * Runs a worker.
 *
 * @param number Its number, from 1.
 * @param service What it serves. Its parent decides on the address and the limits.
 * @returns The exit code, at the end.
 */
export async function runWorker(number: number, service: ServeOptions): Promise<number> {
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => {});
  const lines = linesOf(Deno.stdin.readable);
  const { value: secret } = await lines.next();
  const { value: task } = await lines.next();
  if (secret === undefined || task === undefined) return 1;
  const mark = messageMark(secret);
  const tell = (message: FromWorker) => writeNow(`${mark}${JSON.stringify(message)}\n`);

  /** Pending requests for the counts of the other workers, by number. */
  const asking = new Map<number, (others: Others) => void>();
  let lastQuery = 0;
  const askOthers = () => {
    const query = ++lastQuery;
    tell({ type: "ask", query });
    return new Promise<Others>((resolve) => asking.set(query, resolve));
  };

  const { tls: first, ...where } = readTask(task);
  let current = first;
  const tls = first && (() => current as ServerTls);
  let server: ListeningServer;
  try {
    const options = { ...service, ...where, tls, reusePort: true, worker: { number, askOthers } };
    server = await openListeningServer(options, denoServerNetwork);
  } catch (error) {
    tell({ type: "failed", reason: messageOf(error) });
    return 1;
  }
  tell({ type: "listening", address: server.address, port: server.port });

  let isDrained = false;
  const drain = async (graceMs: number) => {
    const report = await server.shutdown({ graceMs });
    isDrained = true;
    tell({ type: "drained", report });
  };
  for await (const line of lines) {
    const message: ToWorker = JSON.parse(line);
    switch (message.type) {
      case "ping":
        tell({ type: "pong" });
        break;
      case "report":
        tell({ type: "report", query: message.query, statistics: server.statistics() });
        break;
      case "others":
        asking.get(message.query)?.(message);
        asking.delete(message.query);
        break;
      case "renew":
        current = message.tls;
        void server.renew();
        break;
      case "drain":
        void drain(message.graceMs);
    }
  }
  // The parent is gone, and running calls must not keep this process alive.
  if (!isDrained) {
    void server.shutdown({ graceMs: 0 });
    endNow(1);
  }
  return 0;
}

/**
 * Writes to stdout synchronously, as `console.log` does, so that the program's own output never lands in the middle of
 * a message. Ignores errors: the parent is then gone.
 */
function writeNow(text: string): void {
  try {
    for (let bytes = encoder.encode(text); bytes.length > 0;) bytes = bytes.subarray(Deno.stdout.writeSync(bytes));
  } catch {
    // Nobody reads it any more.
  }
}
