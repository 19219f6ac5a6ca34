/**
 * Counting: what STATS tells, kept where it happens.
 *
 * In: each event, as it happens. Out: plain numbers. Nothing here costs more than an addition a call.
 */

import type { CommandStatistics } from "./command.ts";

/** Counts of one command. */
export class CommandCounts {
  /** Calls without a final reply yet. */
  inFlight = 0;
  #answered = 0;
  #totalMs = 0;
  #maxMs = 0;
  readonly #errors = new Map<string, number>();

  /** A call got its final reply. */
  answered(durationMs: number, code: string | undefined): void {
    this.inFlight--;
    this.#answered++;
    this.#totalMs += durationMs;
    if (durationMs > this.#maxMs) this.#maxMs = durationMs;
    if (code !== undefined) this.failed(code);
  }

  /** A call that counted as answered could not be: its answer did not fit the wire. */
  failed(code: string): void {
    this.#errors.set(code, (this.#errors.get(code) ?? 0) + 1);
  }

  /** The counts as STATS tells them. */
  snapshot(): CommandStatistics {
    return {
      calls: this.#answered,
      errors: Object.fromEntries(this.#errors),
      inFlight: this.inFlight,
      totalMs: this.#totalMs,
      maxMs: this.#maxMs,
    };
  }
}

/** Counts of one server, beside those of its commands. */
export class ServerCounts {
  connectionsOpen = 0;
  connectionsAccepted = 0;
  connectionsRefused = 0;
  bytesReceived = 0;
  bytesSent = 0;
  badFrames = 0;
  invalidMessages = 0;
  truncatedStreams = 0;
  unknownCommands = 0;
  lateReplies = 0;
}
