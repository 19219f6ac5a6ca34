/**
 * Runs cleanup before a signal ends the program, such as printing results or restoring the terminal.
 *
 * In: a task, and its reaction to a signal. Out: the task's result. Refused: nothing. The exit code is the one that a
 * shell reports for the signal.
 */

import { endNow } from "./end.ts";

/** The exit codes that a shell reports for signals: 128 plus the number. */
export const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGQUIT: 131, SIGTERM: 143 } as const;

type EndingSignal = keyof typeof EXIT_CODES;

/**
 * Runs a task that Ctrl-C or SIGTERM (as from `timeout`) stops. A second signal ends the program as if there were no
 * listener, because `Deno.exit()` may hang while the runtime exports metrics.
 *
 * @param run The task.
 * @param stop Stops the task; gets the exit code for the signal.
 */
export async function untilInterrupted<Result>(
  run: () => Promise<Result>,
  stop: (exitCode: number) => void,
): Promise<Result> {
  const release = onSignals(["SIGINT", "SIGTERM"], (signal) => {
    release();
    stop(EXIT_CODES[signal]);
  });
  try {
    return await run();
  } finally {
    release();
  }
}

/** Runs a function before a signal ends the program. Returns a function that undoes this. */
export function beforeExit(act: () => void): () => void {
  return onSignals(Object.keys(EXIT_CODES) as EndingSignal[], (signal) => {
    act();
    endNow(EXIT_CODES[signal]);
  });
}

function onSignals(signals: readonly EndingSignal[], act: (signal: EndingSignal) => void): () => void {
  // Windows has only SIGINT.
  const known = signals.filter((signal) => signal === "SIGINT" || Deno.build.os !== "windows");
  const listeners = known.map((signal) => [signal, () => act(signal)] as const);
  for (const [signal, listener] of listeners) Deno.addSignalListener(signal, listener);
  return () => {
    for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
  };
}
