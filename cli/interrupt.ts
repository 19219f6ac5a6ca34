/**
 * Signals that end the program, where something is to be done first: what there is so far is printed, or a terminal is
 * given back.
 *
 * In: what runs, and what a signal does to it. Out: its result. Refused: nothing. The exit code is the one that a shell
 * gives to a program which that signal has ended.
 */

/** 128 and the signal's number. */
const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGQUIT: 131, SIGTERM: 143 } as const;

type EndingSignal = keyof typeof EXIT_CODES;

/** Runs something that Ctrl-C or SIGTERM stops, as `timeout` sends it; a second one ends the program. */
export async function untilInterrupted<Result>(run: () => Promise<Result>, stop: () => void): Promise<Result> {
  let stopped = false;
  const release = onSignals(["SIGINT", "SIGTERM"], (signal) => {
    if (stopped) Deno.exit(EXIT_CODES[signal]);
    stopped = true;
    stop();
  });
  try {
    return await run();
  } finally {
    release();
  }
}

/** Has something done before a signal ends the program. Returns what takes that back. */
export function beforeExit(act: () => void): () => void {
  return onSignals(Object.keys(EXIT_CODES) as EndingSignal[], (signal) => {
    act();
    Deno.exit(EXIT_CODES[signal]);
  });
}

function onSignals(signals: readonly EndingSignal[], act: (signal: EndingSignal) => void): () => void {
  // Windows has no others.
  const known = signals.filter((signal) => signal === "SIGINT" || Deno.build.os !== "windows");
  const listeners = known.map((signal) => [signal, () => act(signal)] as const);
  for (const [signal, listener] of listeners) Deno.addSignalListener(signal, listener);
  return () => {
    for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
  };
}
