/**
 * Accepts connections until the listener is closed, whatever clients do.
 *
 * In: a listener. Out: each connection. Refused: nothing. If a client resets its connection at once, one `accept()`
 * fails and the loop continues. If the machine has run out of a resource, such as file descriptors, the loop waits,
 * longer each time, and tries again.
 */

import type { Clock } from "./clock.ts";
import { isNamed, pollRounds } from "./runtime.ts";

/** The first and the longest wait after an error that no client caused. gRPC has the same figures. */
const FIRST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 1_000;

/** The longest wait for connections that the kernel has accepted, and for a loop that rests. */
const LONGEST_WAIT_MS = 500;

/** Errors of `accept()` that a client can cause. */
const CLIENTS_OWN = ["NotConnected", "ConnectionReset", "ConnectionAborted", "BrokenPipe"] as const;

/** Options of the loop. */
interface AcceptOptions<Connection> {
  /** Receives each connection. Must not throw. */
  onConnection(connection: Connection): void;
  /** Called once for each series of errors that no client caused. */
  onError(error: unknown): void;
  /** Called before each connection. Returns a promise if open connections come first. */
  rest?(): Promise<void> | undefined;
  /** The clock for the waits. */
  clock: Clock;
}

/**
 * Accepts connections until the listener is closed.
 *
 * @param listener The source of connections.
 * @param options The receiver of the connections, and settings.
 * @returns A promise that resolves when the listener has been closed.
 */
export async function acceptAll<Connection>(
  listener: { accept(): Promise<Connection> },
  options: AcceptOptions<Connection>,
): Promise<void> {
  let pauseMs = 0;
  while (true) {
    let connection: Connection;
    await options.rest?.();
    try {
      connection = await listener.accept();
    } catch (error) {
      if (isNamed(error, "BadResource") || isNamed(error, "Interrupted")) return;
      if (CLIENTS_OWN.some((name) => isNamed(error, name))) continue;
      if (pauseMs === 0) options.onError(withoutPlaces(error));
      pauseMs = Math.min(Math.max(FIRST_PAUSE_MS, 2 * pauseMs), LONGEST_PAUSE_MS);
      await new Promise<void>((resolve) => options.clock.setTimer(resolve, pauseMs, true));
      continue;
    }
    pauseMs = 0;
    options.onConnection(connection);
  }
}

/**
 * Waits until the loop has accepted all connections that the kernel has. When a listener closes, the kernel resets the
 * connections that still wait, and their clients may have sent requests already. A connection that arrives between the
 * last poll and the close is still lost. So are connections that wait at the end of the limit, if more arrive without a
 * pause.
 *
 * @param acceptors The listeners, still open and in an accept loop.
 * @param accepted How many connections have been accepted so far.
 * @param isResting Whether the loops do not accept now, because open connections come first.
 * @param limitMs How long to wait at most, but never longer than half a second.
 * @param clock The clock for the limit.
 */
export async function untilAllAccepted(
  acceptors: readonly { readonly handshakes: number }[],
  accepted: () => number,
  isResting: () => boolean,
  limitMs: number,
  clock: Clock,
): Promise<void> {
  if (acceptors.length === 0) return;
  const endMs = clock.now() + Math.min(limitMs, LONGEST_WAIT_MS);
  let before = accepted();
  const lookRounds = pollRounds();
  for (let rounds = 1; rounds <= lookRounds && clock.now() < endMs; rounds++) {
    // The runtime also polls before a timer fires, so the last poll is right before the close.
    await new Promise<void>((resolve) => {
      if (rounds < lookRounds) setImmediate(resolve);
      else setTimeout(resolve, 0);
    });
    const now = accepted();
    if (now > before || isResting() || acceptors.some(({ handshakes }) => handshakes > 0)) rounds = 0;
    before = now;
  }
}

/**
 * Replaces the stack of an error by its text. For the places in it, the runtime opens the files of the code, and ends
 * the process if there is no free file descriptor.
 */
function withoutPlaces(error: unknown): unknown {
  if (error instanceof Error) Object.defineProperty(error, "stack", { value: String(error) });
  return error;
}
