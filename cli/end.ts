/**
 * Ends a program. `Deno.exit()` may never return while the runtime exports metrics, and then no signal ends the process
 * either. So with OpenTelemetry a program ends when nothing keeps it alive.
 *
 * In: an exit code. Out: the end of the process. Refused: nothing.
 */

import { serverTelemetry } from "../session/telemetry.ts";

/** How long the process may take to end on its own. */
const END_MS = 1_000;

/** The code of `endNow()`, which is no longer changed. */
let endingCode: number | undefined;

/**
 * Lets the process end, and ends it if something still keeps it alive: a handler that ignores its signal, or an open
 * connection to a database.
 */
export function endWith(code: number): void {
  Deno.exitCode = endingCode ?? code;
  Deno.unrefTimer(setTimeout(() => Deno.exit(), END_MS));
}

/** Ends the process at once; with OpenTelemetry as `endWith()` does, so stop what keeps it alive before. */
export function endNow(code: number): void {
  if (serverTelemetry === undefined) Deno.exit(code);
  endingCode ??= code;
  endWith(code);
  try {
    Deno.stdin.close(); // who waits for input keeps the process alive
  } catch {
    // It was closed before.
  }
}
