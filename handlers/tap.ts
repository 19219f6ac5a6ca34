/**
 * The readers of TAP, and what a server tells them of its calls.
 *
 * In: calls at their end. Out: reports, each with a few calls and the number of the others. What a reader cannot take is
 * counted and not kept. Nothing of a call is told but who made it, its command, its code, its time and its bytes. Refused: a
 * reader more than {@linkcode MAX_TAPS}.
 */

import { RpcError } from "../errors.ts";

/** The name of the command, whose own calls are not told. */
export const TAP_NAME = "TAP";

/** The number of readers: each costs every call a little. */
const MAX_TAPS = 8;

/** The largest number of calls in one report. With five reports a second this is more than people can read, and costs a server little. */
const REPORT_CALLS = 100;

/** Names and codes of peers are cut to so many characters: a request may hold a megabyte of them. */
const MAX_NAME_CHARS = 64;

const TOO_MANY = new RpcError("OVERLOADED", `${MAX_TAPS} clients tap this server already`);

/** One call, at its end. */
export interface TappedCall {
  /** When it ended, as ISO 8601. */
  time: string;
  /** Who has called. */
  peer: string;
  /** The command; of one that the server does not have, what the caller has sent; `null` if it could not be read. */
  command: string | null;
  /** The error code; `null` if it succeeded. */
  code: string | null;
  /** Milliseconds from arrival to the final reply. */
  ms: number;
  /** The frames of the request and of the caller's items. */
  receivedBytes: number;
  /** The frames of the items and of the final reply. */
  sentBytes: number;
}

/** What a tap has seen since its last report. */
export interface TapReport {
  calls: TappedCall[];
  /** How many more there were. */
  leftOut: number;
  /** Which of several workers tells this; in the first report. */
  worker?: number;
}

/** A command, as a filter knows it. */
interface Named {
  readonly name: string;
}

/** Which calls a reader wants. */
export interface TapFilter {
  /** Those of this command; `undefined`: all. */
  readonly command: Named | undefined;
  /** Those that took at least so long. */
  readonly slowMs: number;
}

/** One reader. */
export class Tap {
  /** How many more calls the next report takes; 0 while the reader cannot take one. */
  room = 0;
  readonly #filter: TapFilter;
  #calls: TappedCall[] = [];
  #leftOut = 0;

  constructor(filter: TapFilter) {
    this.#filter = filter;
  }

  /** Whether there is nothing to report. */
  get isEmpty(): boolean {
    return this.#calls.length === 0 && this.#leftOut === 0;
  }

  /** Whether the reader wants calls of this command, if they are slow enough. */
  isAbout(command: Named | undefined): boolean {
    const { command: wanted } = this.#filter;
    return wanted === undefined ? command?.name !== TAP_NAME : command === wanted;
  }

  /** Whether the reader wants such a call. */
  selects(command: Named | undefined, ms: number): boolean {
    return ms >= this.#filter.slowMs && this.isAbout(command);
  }

  /** Takes a call into the next report. */
  take(call: TappedCall): void {
    this.#calls.push(call);
    this.room--;
  }

  /** Counts calls. */
  leaveOut(calls: number): void {
    this.#leftOut += calls;
  }

  /** What was seen since the last time. */
  report(): TapReport {
    const report = { calls: this.#calls, leftOut: this.#leftOut };
    this.#calls = [];
    this.#leftOut = 0;
    return report;
  }
}

/** All readers of one server. */
export class Taps {
  /** Whether there are any. */
  isOn = false;
  /** The room of the reader that has most. It is all that a call looks at while nobody taps. */
  room = 0;
  #taps: Tap[] = [];

  /** Adds a reader, who takes no call yet. */
  open(filter: TapFilter): Tap {
    if (this.#taps.length >= MAX_TAPS) throw TOO_MANY;
    const tap = new Tap(filter);
    this.#taps.push(tap);
    this.isOn = true;
    return tap;
  }

  /** The reader takes a report: calls are kept for it. */
  gather(tap: Tap): void {
    tap.room = REPORT_CALLS;
    this.#findRoom();
  }

  /** The next report of a reader, which takes no calls before it gathers again. */
  report(tap: Tap): TapReport {
    tap.room = 0;
    this.#findRoom();
    return tap.report();
  }

  /** Removes a reader. */
  close(tap: Tap): void {
    this.#taps = this.#taps.filter((other) => other !== tap);
    this.isOn = this.#taps.length > 0;
    this.#findRoom();
  }

  /** Whether a call of this command may be in a report. */
  wants(command: Named): boolean {
    return this.#taps.some((tap) => tap.room > 0 && tap.isAbout(command));
  }

  /**
   * A call has ended.
   *
   * @param command Its command, if the server has it.
   * @param ms How long it took.
   * @param describe Tells the rest, if anybody takes it.
   */
  see(command: Named | undefined, ms: number, describe: () => Omit<TappedCall, "time" | "ms">): void {
    let call: TappedCall | undefined;
    for (const tap of this.#taps) {
      if (!tap.selects(command, ms)) continue;
      if (tap.room === 0) tap.leaveOut(1);
      else tap.take(call ??= tapped(describe(), ms));
    }
    if (call !== undefined) this.#findRoom();
  }

  /** Calls have ended that no report has room for. */
  leaveOut(command: Named, ms: number, calls: number): void {
    for (const tap of this.#taps) if (tap.selects(command, ms)) tap.leaveOut(calls);
  }

  #findRoom(): void {
    // Not by Math.max(), whose result V8 keeps as a float.
    let most = 0;
    for (const { room } of this.#taps) if (room > most) most = room;
    this.room = most;
  }
}

function tapped({ peer, command, code, ...bytes }: Omit<TappedCall, "time" | "ms">, ms: number): TappedCall {
  return { time: new Date().toISOString(), peer, command: short(command), code: short(code), ms, ...bytes };
}

/** A text that keeps no longer one in memory, as a slice of it would. */
function short(text: string | null): string | null {
  if (text === null || text.length <= MAX_NAME_CHARS) return text;
  return `${Array.from(text.slice(0, 2 * MAX_NAME_CHARS)).slice(0, MAX_NAME_CHARS).join("")}…`;
}
