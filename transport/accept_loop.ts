/**
 * An accept loop that outlives what its clients do to it.
 *
 * In: a listener. Out: each connection, as it comes. A client that connects and resets at once makes one `accept()`
 * fail, and only one: the next follows at once. Where the machine is out of something, as of file descriptors, the
 * loop waits, longer each time, and goes on when there is some again. It ends when the listener is closed.
 */

import type { Clock } from "./clock.ts";

/** The first and the longest wait after an error that is not one connection's own; gRPC has the same figures. */
const FIRST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 1_000;

/** What a client can do to an `accept()`. */
const CLIENTS_OWN = [
  Deno.errors.NotConnected,
  Deno.errors.ConnectionReset,
  Deno.errors.ConnectionAborted,
  Deno.errors.BrokenPipe,
];

/** What the loop needs to know. */
export interface AcceptOptions<Connection> {
  /** Takes a connection. Must not throw. */
  onConnection(connection: Connection): void;
  /** Told once for each run of errors that are not one connection's own. */
  onError(error: unknown): void;
  /** Whose time the waits go by. */
  clock: Clock;
}

/**
 * Accepts until the listener is closed.
 *
 * @param listener Where connections come from.
 * @param options Who takes them.
 * @returns A promise that resolves when the listener has been closed.
 */
export async function acceptAll<Connection>(
  listener: { accept(): Promise<Connection> },
  options: AcceptOptions<Connection>,
): Promise<void> {
  // To make an error's trace, the runtime looks once how large its own stack is, in a file; where it may not open one,
  // it ends the process. So it looks now, and not when there are no files left.
  void new Error().stack;
  let pauseMs = 0;
  while (true) {
    let connection: Connection;
    try {
      connection = await listener.accept();
    } catch (error) {
      if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) return;
      if (CLIENTS_OWN.some((kind) => error instanceof kind)) continue;
      if (pauseMs === 0) options.onError(error);
      pauseMs = Math.min(Math.max(FIRST_PAUSE_MS, 2 * pauseMs), LONGEST_PAUSE_MS);
      await new Promise<void>((resolve) => options.clock.setTimer(resolve, pauseMs, true));
      continue;
    }
    pauseMs = 0;
    options.onConnection(connection);
  }
}
