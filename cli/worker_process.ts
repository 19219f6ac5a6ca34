/**
 * Starts a worker as a child process: this program with `--worker NUMBER`.
 *
 * In: its number and task. Out: a handle, and events, also for its end with the system's reason. Both sides exchange
 * lines of JSON over the worker's stdin and stdout; stderr is shared. Refused, and killed: a worker that sends anything
 * else.
 *
 * A process and not a thread, so that a full heap or a bug of the runtime ends only one worker. A worker has fewer
 * permissions than its parent: it may listen on one address. It downloads nothing: its code is already loaded here.
 */

import type { ServeOptions } from "../server.ts";
import { textOf } from "../transport/dial.ts";
import { linesOf } from "./lines.ts";
import type { FromWorker, RunningWorker, ToWorker, WorkerEvents } from "./workers.ts";

/** The flag that starts a worker, followed by its number. */
export const WORKER_FLAG = "--worker";

/** The task of a worker: its first line on stdin. */
export type WorkerTask =
  & Omit<ServeOptions, "commands" | "middleware" | "onError" | "clock" | "worker" | "path" | "reusePort">
  & { readonly hostname: string; readonly port: number };

/** How often a worker is pinged, and how many unanswered pings end it. */
const PING_EVERY_MS = 2_000;
const MAX_MISSED_PINGS = 5;

/**
 * Starts a worker.
 *
 * @param number Its number, from 1.
 * @param task Its task.
 * @param events Receives its events.
 * @param program The program to run.
 * @param pingEveryMs How often it is pinged. A worker that misses five pings is killed.
 * @returns The running process.
 * @throws {Error} If it cannot be started.
 */
export function startProcess(
  number: number,
  task: WorkerTask,
  events: WorkerEvents,
  program: URL = new URL("../server.ts", import.meta.url),
  pingEveryMs: number = PING_EVERY_MS,
): RunningWorker {
  const flags = ["--no-prompt", "--cached-only", "--unstable-net", `--allow-net=${textOf(task)}`];
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", ...flags, program.href, WORKER_FLAG, String(number)],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const kill = () => {
    try {
      process.kill("SIGKILL");
    } catch {
      // It has already ended.
    }
  };
  const input = process.stdin.getWriter();
  const tell = (message: WorkerTask | ToWorker) => {
    // A failed write means that the worker has ended, which is handled below.
    input.write(new TextEncoder().encode(`${JSON.stringify(message)}\n`)).catch(() => {});
  };
  tell(task);
  let pinging: ReturnType<typeof setInterval> | undefined;
  let missed = 0;
  // Pings are counted instead of time, so that a pause of this process does no harm: waiting answers are read first.
  // Only one ping is sent at a time, because unread ones would pile up here.
  const ping = () => {
    if (missed === 0) tell({ type: "ping" });
    else if (missed === MAX_MISSED_PINGS) kill();
    missed++;
  };
  const listen = async () => {
    try {
      for await (const line of linesOf(process.stdout)) {
        const message: FromWorker = JSON.parse(line);
        if (pinging === undefined) pinging = setInterval(ping, pingEveryMs);
        missed = 0;
        events.onMessage(message);
      }
    } catch {
      kill();
    }
    const { code, signal } = await process.status;
    clearInterval(pinging);
    // Otherwise each dead worker would leave an open file.
    input.close().catch(() => {});
    events.onEnd(missed > MAX_MISSED_PINGS ? "it stopped answering" : signal ?? `exit code ${code}`);
  };
  void listen();
  return { post: tell, kill };
}
