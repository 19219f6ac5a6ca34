/**
 * Counting: what STATS tells, kept where it happens.
 *
 * In: each event, as it happens. Out: plain numbers. A call costs a few additions, and a look at the bounds that it
 * exceeds; nothing is allocated.
 */

import type { CommandStatistics, ServerStatistics } from "./command.ts";

/**
 * The histogram of durations that is kept for each command: upper bounds in milliseconds, ascending, in steps of 2.5, 2
 * and 2 from a tenth of a millisecond to ten seconds. A duration counts at the first bound that it does not exceed; one
 * that exceeds them all has a place of its own behind the last.
 */
export const DURATION_BOUNDS_MS: readonly number[] = Object.freeze(
  [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000],
);

/** The same, for the loop that every call goes through: a frozen array is read up to ten times as slowly. */
const BOUNDS_MS = Float64Array.from(DURATION_BOUNDS_MS);

/** Codes that are counted apart for each command: a handler may take them from its callers, who could name any number. */
const MAX_CODES = 64;

/** Codes that are longer are not counted apart: they would make STATS too long to be sent. */
const MAX_CODE_CHARS = 64;

/** What all others are counted as. */
const OTHER_CODES = "OTHER";

/** Counts of one command. */
export class CommandCounts {
  /** Calls without a final reply yet. */
  inFlight = 0;
  /** Of these, those that have got it, and are counted with others soon. */
  uncounted = 0;
  #answered = 0;
  #totalMs = 0;
  #maxMs = 0;
  readonly #durations = new Array<number>(DURATION_BOUNDS_MS.length + 1).fill(0);
  readonly #errors = new Map<string, number>();

  /** A call got its final reply; or several did that have the same to tell. */
  answered(durationMs: number, code: string | undefined, calls = 1): void {
    this.inFlight -= calls;
    this.#answered += calls;
    this.#totalMs += calls * durationMs;
    if (durationMs > this.#maxMs) this.#maxMs = durationMs;
    let place = 0;
    while (durationMs > BOUNDS_MS[place]) place++;
    this.#durations[place] += calls;
    if (code !== undefined) this.failed(code);
  }

  /** A call that counted as answered could not be: its answer did not fit the wire. */
  failed(code: string): void {
    countCode(this.#errors, code, 1);
  }

  /** The counts as STATS tells them. */
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

/** Counts of one server, beside those of its commands. */
export class ServerCounts {
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

/** The counts of several servers as those of one: sums, but for the longest uptime and the slowest calls. */
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
    },
    lateReplies: sum(({ lateReplies }) => lateReplies),
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

/** Counts failures with a code, apart from others where there is room for that. */
function countCode(codes: Map<string, number>, code: string, count: number): void {
  const isApart = codes.has(code) || codes.size < MAX_CODES && code.length <= MAX_CODE_CHARS;
  const place = isApart ? code : OTHER_CODES;
  codes.set(place, (codes.get(place) ?? 0) + count);
}
