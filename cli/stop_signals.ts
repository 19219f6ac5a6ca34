/**
 * Handles the signals that end a server, and SIGHUP, which can renew its certificates.
 *
 * In: a running server. Out: its shutdown. Refused: nothing. If certificates can be renewed, SIGHUP does that, unless
 * the terminal has closed; otherwise it ends the server like the other signals. The first signal starts a shutdown. A
 * second one ends the process at once, with the exit code that a shell reports for it: 129 for SIGHUP, 130 for SIGINT,
 * 143 for SIGTERM. The same signal within 100 ms counts as a copy of the first. Under `nohup`, SIGHUP does not end the
 * server.
 */

import type { ShutdownReport } from "../handlers/server.ts";
import { endNow } from "./end.ts";
import { watchTerminal } from "./hangup.ts";
import { EXIT_CODES } from "./interrupt.ts";
import type { Renewal } from "./renewal.ts";
import type { ServiceSettings } from "./service_flags.ts";
import { logEvent } from "./service_log.ts";

type StopSignal = "SIGHUP" | "SIGINT" | "SIGTERM";

/**
 * How long after the first signal the same one counts as a copy. Ctrl-C reaches the server from the terminal, and again
 * through `deno task`.
 */
const COPIES_MS = 100;

/** A server that can be shut down. */
interface Stoppable {
  /** The certificates, if they can be renewed. */
  readonly renewal?: Pick<Renewal, "look" | "stop">;
  shutdown(options: { graceMs: number }): Promise<ShutdownReport>;
  /** Kills the processes that would outlive this one. */
  kill?(): void;
}

/** Shuts down at the first signal, ends the process at the second one. Resolves after the shutdown. */
export async function shutDownOnSignal(
  server: Stoppable,
  hangupIsIgnored: boolean,
  { graceMs, log }: Pick<ServiceSettings, "graceMs" | "log">,
): Promise<ShutdownReport> {
  const { promise: ended, resolve } = Promise.withResolvers<ShutdownReport>();
  let first: { signal: Deno.Signal; atMs: number } | undefined;
  const stop = (signal: StopSignal) => {
    const nowMs = performance.now();
    if (first === undefined) {
      first = { signal, atMs: nowMs };
      const message = `stopping within ${graceMs / 1000} s; a second signal ends it at once`;
      const noted = logEvent({ event: "stopping", message }, log);
      server.renewal?.stop();
      // The process ends after this, and unwritten lines would be lost.
      resolve(server.shutdown({ graceMs }).finally(() => noted));
    } else if (signal !== first.signal || nowMs - first.atMs > COPIES_MS) {
      server.kill?.();
      void server.shutdown({ graceMs: 0 });
      endNow(EXIT_CODES[signal]);
    }
  };
  // Windows lacks the other signals.
  const signals: StopSignal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM", "SIGHUP"];
  const terminalHasClosed = watchTerminal();
  // Without a listener for SIGHUP the runtime would end the process, even under nohup.
  const hangUp = () => {
    if (!hangupIsIgnored && (server.renewal === undefined || terminalHasClosed())) stop("SIGHUP");
    else void server.renewal?.look();
  };
  for (const signal of signals) Deno.addSignalListener(signal, signal === "SIGHUP" ? hangUp : () => stop(signal));
  return await ended;
}
