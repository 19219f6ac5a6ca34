/**
 * Writes errors that are not sent to a peer to stderr, one line each.
 *
 * In: errors of any kind, with their origin. Out: one line for each; if one kind is frequent, one line a second with
 * the latest error and a count of the others. Data from a peer cannot start a line, move the cursor, or make the server
 * wait. Refused: nothing; an error that cannot be shown gives a line that says so.
 */

import { printable } from "../codec/printable.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import { standardError } from "../transport/standard_error.ts";
import { inspect } from "../transport/runtime.ts";

/** The origin of an error that was not sent to the peer. */
export interface ErrorOrigin {
  /** The peer, if the error belongs to a connection. */
  peer?: string;
  /** The command, if one was running. */
  command?: string;
}

/** The shortest time between two lines of one kind. */
const LINE_EVERY_MS = 1_000;

/** The maximum of kinds at a time: a handler may give every error a different name. */
const MAX_KINDS = 64;

/** The kind of all further errors. */
const OTHER_KINDS = "other";

/** Longer lines are cut: a message may contain a peer's whole input. */
const MAX_LINE_CHARS = 4_000;

/** Recent errors of one kind. */
interface Kind {
  timer: Timer;
  /** The latest error that was not written, and the number of unwritten errors. */
  latest?: { error: unknown; origin: ErrorOrigin };
  count: number;
}

/** Writes errors as lines. */
export class ErrorLog {
  readonly #clock: Clock;
  readonly #write: (line: string) => void;
  readonly #kinds = new Map<string, Kind>();

  /**
   * @param clock The clock for the intervals.
   * @param write Writes a line. Must not throw, and must not wait.
   */
  constructor(clock: Clock, write: (line: string) => void = (line) => standardError.write(line)) {
    this.#clock = clock;
    this.#write = write;
  }

  /** Writes an error at once, or counts it. Never throws. */
  add(error: unknown, origin: ErrorOrigin): void {
    const wanted = kindOf(error, origin);
    const name = this.#kinds.has(wanted) || this.#kinds.size < MAX_KINDS ? wanted : OTHER_KINDS;
    const kind = this.#kinds.get(name);
    if (kind === undefined) {
      this.#kinds.set(name, { timer: this.#later(name), count: 0 });
      this.#write(lineOf(error, origin));
    } else {
      kind.latest = { error, origin };
      kind.count++;
    }
  }

  /** Writes the counted errors and stops all timers. */
  close(): void {
    for (const kind of this.#kinds.values()) {
      this.#clock.clearTimer(kind.timer);
      this.#writeLatest(kind);
    }
    this.#kinds.clear();
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

  /** Returns whether there was one. */
  #writeLatest(kind: Kind): boolean {
    const { latest, count } = kind;
    if (latest === undefined) return false;
    kind.latest = undefined;
    kind.count = 0;
    const more = count > 1 ? ` (and ${(count - 1).toLocaleString("en-US")} more like this)` : "";
    this.#write(lineOf(latest.error, latest.origin) + more);
    return true;
  }
}

/** Errors of one kind have the same command and the same class. */
function kindOf(error: unknown, { command = "" }: ErrorOrigin): string {
  try {
    const { code, name } = error as { code?: unknown; name?: unknown };
    return `${command} ${typeof name === "string" ? name : typeof error} ${typeof code === "string" ? code : ""}`;
  } catch {
    return `${command} ${typeof error}`;
  }
}

function lineOf(error: unknown, { peer, command }: ErrorOrigin): string {
  const where = [command && `in ${command}`, peer && `for ${peer}`].filter(Boolean).join(" ");
  const text = textOf(error);
  // Cut first: it may be megabytes long.
  const shown = text.length > MAX_LINE_CHARS ? `${text.slice(0, MAX_LINE_CHARS)}…` : text;
  return printable(`packline: error${where && ` ${where}`}: ${shown.replaceAll(/\s*\n\s*/g, " | ")}`);
}

/** The text of an error, which may be any value, even one that throws when it is read. */
function textOf(error: unknown): string {
  try {
    return error instanceof Error ? String(error.stack ?? error) : `thrown: ${inspect(error)}`;
  } catch {
    return "thrown: something that cannot be shown";
  }
}
