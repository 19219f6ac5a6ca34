/**
 * Ctrl-C, where it ends what runs and not the program: what there is so far is still to be printed.
 *
 * In: what runs, and how to stop it. Out: its result. Refused: nothing. A second Ctrl-C ends the program, with the exit
 * code that a shell gives to one which SIGINT has ended.
 */

const INTERRUPTED_EXIT_CODE = 130;

/** Runs something that an interrupt may stop. */
export async function untilInterrupted<Result>(run: () => Promise<Result>, stop: () => void): Promise<Result> {
  let stopped = false;
  const interrupt = () => {
    if (stopped) Deno.exit(INTERRUPTED_EXIT_CODE);
    stopped = true;
    stop();
  };
  Deno.addSignalListener("SIGINT", interrupt);
  try {
    return await run();
  } finally {
    Deno.removeSignalListener("SIGINT", interrupt);
  }
}
