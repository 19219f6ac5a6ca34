/**
 * Ends a worker whose parent has been killed. The runtime loads this file before the worker's main module, which may
 * hang before `run()`: only `run()` reads stdin, whose end says the same.
 *
 * In: nothing. Out: an exit code. Refused: nothing. A main module that computes all the time is not interrupted.
 */

const CHECK_EVERY_MS = 1_000;

const parent = Deno.ppid;
Deno.unrefTimer(setInterval(() => {
  // The system has given this process another parent.
  if (Deno.ppid !== parent) Deno.exit(1);
}, CHECK_EVERY_MS));
