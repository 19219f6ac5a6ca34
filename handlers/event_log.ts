/**
 * Writes the events of a server to stderr, one line for each.
 *
 * In: errors of any kind, with their origin, and other events. Out: one line for each; for similar errors and warnings,
 * one line a second with the latest and a count of the others. Data from a peer cannot start a line, move the cursor,
 * or make the server wait. Refused: nothing; an error that cannot be shown gives a line that says so.
 */

import type { Clock, Timer } from "../transport/clock.ts";
import { inspect } from "../transport/runtime.ts";
import { standardError } from "../transport/line_writer.ts";
import { cut, type EventName, EVENTS, isLogged, type LogEvent, logLine, type LogStyle } from "./log_line.ts";

/** The origin of an error that was not sent to the peer. */
export interface ErrorOrigin {
  /** The peer, if the error belongs to a connection. */
  peer?: string;
  /** The command, if one was running. */
  command?: string;
}

/** The shortest time between two lines of one kind. */
const LINE_EVERY_MS = 1_000;

/** The maximum number of kinds at a time: a handler may give every error a different name. */
const MAX_KINDS = 64;

/** How many errors of a chain of causes are written. */
const MAX_ERRORS = 8;

/** The kind of all further errors. */
const OTHER_KINDS = "other";

/** Recent events of one kind. */
interface Kind {
  timer: Timer;
  /** Makes the latest unwritten event. `count` is the number of unwritten events. */
  latest?: () => LogEvent;
  count: number;
}

/** Writes events as lines. */
export class EventLog {
  /** The format of the lines, and which events are logged. */
  readonly style: LogStyle;
  readonly #clock: Clock;
  readonly #write: (line: string) => void;
  readonly #kinds = new Map<string, Kind>();

  /**
   * @param clock The clock for the intervals.
   * @param write Writes a line. Must not throw, and must not wait.
   * @param style The format of the lines, and which events are logged.
   */
  constructor(clock: Clock, write: (line: string) => void, style: LogStyle = {}) {
    this.#clock = clock;
    this.#write = write;
    this.style = style;
  }

  /** Writes an error at once, or counts it. Never throws. */
  add(error: unknown, origin: ErrorOrigin, event: EventName = origin.command ? "handler_error" : "server_error"): void {
    if (isLogged(event, this.style)) {
      this.#limit(`${event} ${kindOf(error, origin)}`, () => eventOf(error, origin, event));
    }
  }

  /** Writes another event at once, or counts it. Events of the level `debug` are never counted. */
  note(event: LogEvent): void {
    if (!isLogged(event.event, this.style)) return;
    if (EVENTS[event.event] === "debug") this.#write(logLine(event, this.style));
    else this.#limit(`${event.event} ${event.code}`, () => event);
  }

  /** Writes the counted errors and stops all timers. */
  close(): void {
    for (const kind of this.#kinds.values()) {
      this.#clock.clearTimer(kind.timer);
      this.#writeLatest(kind);
    }
    this.#kinds.clear();
  }

  /** Writes the first event of a kind at once, and then the latest every second. */
  #limit(kindName: string, event: () => LogEvent): void {
    const wanted = cut(kindName);
    const name = this.#kinds.has(wanted) || this.#kinds.size < MAX_KINDS ? wanted : OTHER_KINDS;
    const kind = this.#kinds.get(name);
    if (kind === undefined) {
      this.#kinds.set(name, { timer: this.#later(name), count: 0 });
      this.#write(logLine(event(), this.style));
    } else {
      kind.latest = event;
      kind.count++;
    }
  }

  #later(name: string): Timer {
    return this.#clock.setTimer(
      () => {
        const kind = this.#kinds.get(name);
        if (kind !== undefined && this.#writeLatest(kind)) kind.timer = this.#later(name);
        else this.#kinds.delete(name);
      },
      LINE_EVERY_MS,
      false,
    );
  }

  /** Writes the latest event of a kind. Returns whether there was one. */
  #writeLatest(kind: Kind): boolean {
    const { latest, count } = kind;
    if (latest === undefined) return false;
    kind.latest = undefined;
    kind.count = 0;
    this.#write(logLine({ ...latest(), more: count > 1 ? count - 1 : undefined }, this.style));
    return true;
  }
}

/** Returns a function that writes lines to stderr. It reports dropped lines in the same format. */
export function writerOf(style: LogStyle): (line: string) => void {
  const dropped = (count: number) =>
    logLine({ event: "lines_dropped", message: `dropped ${count} lines: stderr was blocked or full` }, style);
  return (line) => standardError.write(line, dropped);
}

/** Errors of one kind have the same command and the same class. */
function kindOf(error: unknown, { command = "" }: ErrorOrigin): string {
  try {
    const { name } = error as { name?: unknown };
    return `${command} ${typeof name === "string" ? name : typeof error} ${codeOf(error) ?? ""}`;
  } catch {
    return `${command} ${typeof error}`;
  }
}

function eventOf(error: unknown, { peer, command }: ErrorOrigin, event: EventName): LogEvent {
  const stack = textOf(error);
  return { event, peer, command, code: codeOf(error), message: stack.split("\n", 1)[0], stack };
}

function codeOf(error: unknown): string | undefined {
  try {
    const { code } = error as { code?: unknown };
    return typeof code === "string" ? code : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The text of an error and of those behind it. Each may be any value, even one that throws when it is read, and one may
 * be behind itself.
 */
function textOf(error: unknown): string {
  const texts: string[] = [];
  const shown = new Set<unknown>();
  for (const waiting = [error]; waiting.length > 0 && texts.length < MAX_ERRORS;) {
    const next = waiting.shift();
    if (shown.has(next)) continue;
    shown.add(next);
    try {
      texts.push(next instanceof Error ? String(next.stack ?? next) : `thrown: ${inspect(next)}`);
      waiting.unshift(...errorsBehind(next));
    } catch {
      texts.push("thrown: something that cannot be shown");
    }
  }
  return texts.join("\ncaused by: ");
}

/** What an error hides: its cause, the errors that it stands for, and the two of a `using` that has failed. */
function errorsBehind(error: unknown): unknown[] {
  if (!(error instanceof Error)) return [];
  const { cause, errors, error: later, suppressed } = error as Partial<AggregateError & SuppressedError>;
  const others = error instanceof AggregateError && Array.isArray(errors) ? errors.slice(0, MAX_ERRORS) : [];
  const pair = error.name === "SuppressedError" ? [later, suppressed] : [];
  return [cause, ...others, ...pair].filter((each) => each !== undefined);
}
