/**
 * The errors that no peer is told, as lines on stderr.
 *
 * In: errors of any kind, and where they came from. Out: a line for each, or, where one kind comes often, one line a second
 * with the latest of them and how many more there were. Nothing that a peer has sent can start a line, move a cursor, or
 * make the server wait. Refused: nothing; an error that cannot be shown is a line that says so.
 */

import { printable } from "../codec/printable.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import { standardError } from "../transport/standard_error.ts";
import { inspect } from "../transport/runtime.ts";

/** Where an error came from that the peer was not told about. */
export interface ErrorOrigin {
  /** Who was connected, if the error belongs to a connection. */
  peer?: string;
  /** Which command ran, if one did. */
  command?: string;
}

/** How often one kind of error is a line. */
const LINE_EVERY_MS = 1_000;

/** Kinds that are told apart at a time: a handler may give each error a name of its own. */
const MAX_KINDS = 64;

/** Stands for all kinds beyond those. */
const OTHER_KINDS = "other";

/** Longer lines are cut: a message may hold all that a peer has sent. */
const MAX_LINE_CHARS = 4_000;

/** Errors of one kind, for as long as they come. */
interface Kind {
  timer: Timer;
  /** The latest that has not been written, and how many there were. */
  latest?: { error: unknown; origin: ErrorOrigin };
  count: number;
}

/** Writes errors as lines. */
export class ErrorLog {
  readonly #clock: Clock;
  readonly #write: (line: string) => void;
  readonly #kinds = new Map<string, Kind>();

  /**
   * @param clock Whose time.
   * @param write Takes a line. Must not throw, and must not wait.
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

  /** Writes what has been counted; no timer is left. */
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

  /** Says whether there was one. */
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

/** What is counted together: the same command, and the same class of error. */
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
  // Cut before it is looked through: it may be megabytes.
  const shown = text.length > MAX_LINE_CHARS ? `${text.slice(0, MAX_LINE_CHARS)}…` : text;
  return printable(`packline: error${where && ` ${where}`}: ${shown.replaceAll(/\s*\n\s*/g, " | ")}`);
}

/** What to show of an error, which may be anything: a look at it must not throw in turn. */
function textOf(error: unknown): string {
  try {
    return error instanceof Error ? String(error.stack ?? error) : `thrown: ${inspect(error)}`;
  } catch {
    return "thrown: something that cannot be shown";
  }
}
