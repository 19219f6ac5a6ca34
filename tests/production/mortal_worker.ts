/** A worker as `cli/worker.ts` is one, that dies when it is told to. Not a test. */

import { parentPort } from "node:worker_threads";
import "../../cli/worker.ts";

/** In what ways: by an error that nobody catches, on its own; and one in which it lives on, deaf. */
const WAYS: Record<string, () => void> = {
  throw: () => void Promise.reject(new Error("a test wants it")),
  exit: () => Deno.exit(7),
  spin() {
    while (true);
  },
};

parentPort?.on("message", ({ die }: { die?: string }) => {
  if (die !== undefined) WAYS[die]();
});
