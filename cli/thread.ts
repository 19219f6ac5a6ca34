/**
 * How a worker is started: as a thread of this process.
 *
 * In: what it is to serve. Out: a hold on it. It ends for a reason that is always told: an error that nobody caught, a
 * heap that is full, an exit.
 *
 * A thread of `node:worker_threads`, which the runtime carries, and not a `Worker` of the web: one of those that fills its
 * heap takes the process with it, all other workers included, and one that exits says nothing. Of these, only what fills
 * the heap is broken off: the worker, or no more than the call. A child process would stand further apart yet; but to start
 * one, the server would need `--allow-run`, with which whoever gets hold of it may do anything.
 */

import { getHeapStatistics } from "node:v8";
import { Worker } from "node:worker_threads";
import type { ServeOptions } from "../server.ts";
import type { FromWorker, RunningWorker, WorkerEvents } from "./workers.ts";

/** What a worker is given, as far as a message can hold it. */
export interface WorkerTask {
  /** Which one it is, from 1. */
  readonly number: number;
  /** What it serves. */
  readonly options: Omit<ServeOptions, "commands" | "middleware" | "onError" | "clock" | "worker">;
}

/**
 * Starts a thread.
 *
 * @param task What it is to do.
 * @param events Told what it does.
 * @param module The code that it runs.
 * @returns The thread, started.
 */
export function startThread(
  task: WorkerTask,
  events: WorkerEvents,
  module: URL = new URL("./worker.ts", import.meta.url),
): RunningWorker {
  const worker = new Worker(module, {
    name: `packline ${task.number}`,
    workerData: task,
    // As much as the one server has that runs without workers. Unless a limit is given, none is kept.
    resourceLimits: { maxOldGenerationSizeMb: Math.floor(getHeapStatistics().heap_size_limit / 2 ** 20) },
  });
  let reason = "it exited";
  worker.on("message", (message: FromWorker) => events.onMessage(message));
  worker.on("error", (error: Error) => reason = error.message);
  worker.on("exit", () => events.onEnd(reason));
  return {
    post: (message) => worker.postMessage(message),
    terminate: () => void worker.terminate(),
  };
}
