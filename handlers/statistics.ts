/**
 * Counts the events that STATS reports.
 *
 * In: events. Out: numbers. A call costs a few additions and comparisons; nothing is allocated. Refused: nothing.
 */

import { countCode } from "../session/collections.ts";
import type { CommandStatistics, ServerStatistics } from "./server_info.ts";

/**
 * The upper bounds of each command's duration histogram, in milliseconds, ascending from 0.1 ms to 10 s in steps of
 * 2.5, 2 and 2. A duration counts in the first bucket that it does not exceed; a last bucket counts longer ones.
 */
export const DURATION_BOUNDS_MS: readonly number[] = Object.freeze(
  [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000],
);

/** A copy for the hot loop: reading a frozen array is up to ten times as slow. */
const BOUNDS_MS = Float64Array.from(DURATION_BOUNDS_MS);

/** The counts of one command. */
export class CommandCounts {
  /** Calls without a final reply. */
  inFlight = 0;
  /** Calls in `inFlight` that are answered and about to be counted. */
  uncounted = 0;
  #answered = 0;
  #totalMs = 0;
  #maxMs = 0;
  readonly #durations = new Array<number>(DURATION_BOUNDS_MS.length + 1).fill(0);
  readonly #errors = new Map<string, number>();

  /** Counts a final reply, or several with the same duration and code. */
  answered(durationMs: number, code: string | undefined, calls = 1): void {
    this.inFlight -= calls;
    this.#answered += calls;
    this.#totalMs += calls * durationMs;
    if (durationMs > this.#maxMs) this.#maxMs = durationMs;
    let place = 0;
    while (durationMs > BOUNDS_MS[place]) place++;
    this.#durations[place] += calls;
    if (code !== undefined) countCode(this.#errors, code, calls);
  }

  /** The counts as STATS reports them. */
  snapshot(): CommandStatistics {
    return {
      calls: this.#answered,
      errors: Object.fromEntries(this.#errors),
      inFlight: this.inFlight,
      totalMs: this.#totalMs,
      maxMs: this.#maxMs,
      durations: [...this.#durations],
    };
  }
}

/** The counts of one server, without the counts of its commands. */
export class ServerCounts {
  connectionsAccepted = 0;
  connectionsRefused = 0;
  bytesReceived = 0;
  bytesSent = 0;
  badFrames = 0;
  invalidMessages = 0;
  truncatedStreams = 0;
  unknownCommands = 0;
  overloaded = 0;
  lateReplies = 0;
}

/** Sums the counts of several servers. For uptimes and slowest calls, takes the maximum. */
export function sumStatistics(first: ServerStatistics, ...others: ServerStatistics[]): ServerStatistics {
  const all = [first, ...others];
  const sum = (valueOf: (part: ServerStatistics) => number) => all.reduce((total, part) => total + valueOf(part), 0);
  const names = new Set(all.flatMap(({ commands }) => Object.keys(commands)));
  return {
    uptime: Math.max(...all.map(({ uptime }) => uptime)),
    connections: {
      open: sum(({ connections }) => connections.open),
      accepted: sum(({ connections }) => connections.accepted),
      refused: sum(({ connections }) => connections.refused),
    },
    inFlight: sum(({ inFlight }) => inFlight),
    bytes: { received: sum(({ bytes }) => bytes.received), sent: sum(({ bytes }) => bytes.sent) },
    refused: {
      badFrame: sum(({ refused }) => refused.badFrame),
      invalidMessage: sum(({ refused }) => refused.invalidMessage),
      truncated: sum(({ refused }) => refused.truncated),
      unknownCommand: sum(({ refused }) => refused.unknownCommand),
      overloaded: sum(({ refused }) => refused.overloaded),
    },
    lateReplies: sum(({ lateReplies }) => lateReplies),
    draining: all.some(({ draining }) => draining),
    limits: {
      maxConnections: sum(({ limits }) => limits.maxConnections),
      maxInFlightTotal: sum(({ limits }) => limits.maxInFlightTotal),
    },
    commands: Object.fromEntries(
      [...names].map((name) => [
        name,
        sumOfCommand(all.flatMap(({ commands }) => Object.hasOwn(commands, name) ? commands[name] : [])),
      ]),
    ),
  };
}

function sumOfCommand(parts: CommandStatistics[]): CommandStatistics {
  const sum = new CommandCounts().snapshot();
  const codes = new Map<string, number>();
  for (const { calls, errors, inFlight, totalMs, maxMs, durations } of parts) {
    sum.calls += calls;
    sum.inFlight += inFlight;
    sum.totalMs += totalMs;
    sum.maxMs = Math.max(sum.maxMs, maxMs);
    for (const [place, count] of durations.entries()) sum.durations[place] += count;
    for (const [code, count] of Object.entries(errors)) countCode(codes, code, count);
  }
  return { ...sum, errors: Object.fromEntries(codes) };
}
