/**
 * How a worker is started: as a process of its own, which is this program once more, with `--worker NUMBER`.
 *
 * In: which one, and what it is to serve. Out: a hold on it, and its end with the reason that the system gives. What the
 * two tell each other are lines of JSON, on the worker's stdin and stdout; its stderr is ours. Refused: a worker that says
 * something else; it is ended.
 *
 * A process and not a thread: nothing that ends a worker then ends another, be it a full heap or a bug of the runtime. It
 * may do less than who has started it: listen on this one address. And it fetches nothing: its code is what was loaded here.
 */

import type { ServeOptions } from "../server.ts";
import { textOf } from "../transport/dial.ts";
import { linesOf } from "./lines.ts";
import type { FromWorker, RunningWorker, ToWorker, WorkerEvents } from "./workers.ts";

/** Says that a program is to be a worker; its number follows. */
export const WORKER_FLAG = "--worker";

/** What a worker serves: its first line on stdin. */
export type WorkerTask =
  & Omit<ServeOptions, "commands" | "middleware" | "onError" | "clock" | "worker" | "path" | "reusePort">
  & { readonly hostname: string; readonly port: number };

/** How often a worker is asked whether it still answers, and after how many questions without an answer it is ended. */
const PING_EVERY_MS = 2_000;
const MAX_MISSED_PINGS = 5;

/**
 * Starts a worker.
 *
 * @param number Which one it is, from 1.
 * @param task What it is to do.
 * @param events Told what it does.
 * @param program What it runs.
 * @param pingEveryMs How often it is asked whether it still answers. One that misses five questions is ended.
 * @returns The process, started.
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
      // It has ended already.
    }
  };
  const input = process.stdin.getWriter();
  const tell = (message: WorkerTask | ToWorker) => {
    // What can no longer be written is for one that has ended, and that is told below.
    input.write(new TextEncoder().encode(`${JSON.stringify(message)}\n`)).catch(() => {});
  };
  tell(task);
  let pinging: ReturnType<typeof setInterval> | undefined;
  let missed = 0;
  // Questions are counted, not time: after a pause of this process, what the worker has answered meanwhile is read first.
  // There is one question at a time: what a worker does not read would pile up here.
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
    // Else an open file would stay behind, for each worker that dies.
    input.close().catch(() => {});
    events.onEnd(missed > MAX_MISSED_PINGS ? "it did not answer any more" : signal ?? `exit code ${code}`);
  };
  void listen();
  return { post: tell, kill };
}
