/**
 * The readers of TAP, and the reports that they get.
 *
 * In: calls at their end. Out: reports, each with some calls and the number of other calls. Calls that a reader cannot
 * take are counted, not kept. A report contains only the caller of a call, its command, its code, its time and its
 * bytes. Refused: more than {@linkcode MAX_TAPS} readers.
 */

import { shortened } from "../codec/text.ts";
import { RpcError } from "../errors.ts";

/** The name of the command. By default, its own calls are not reported. */
export const TAP_NAME = "TAP";

/** The maximum number of readers: each adds a little work to every call. */
const MAX_TAPS = 8;

/** The maximum number of calls in one report: at five reports a second, more than people can read, and little work. */
const REPORT_CALLS = 100;

/** Names of commands are cut to this many characters: a caller may invent one of a megabyte. Codes are short already. */
const MAX_NAME_CHARS = 64;

const TOO_MANY = new RpcError("OVERLOADED", `${MAX_TAPS} clients tap this server already`);

/** One call, at its end. */
export interface TappedCall {
  /** When it ended, as ISO 8601. */
  time: string;
  /** The address of the caller. */
  peer: string;
  /** The command, or what the caller sent if the server has no such command; `null` if it could not be read. */
  command: string | null;
  /** The error code; `null` if the call succeeded. */
  code: string | null;
  /** Milliseconds from arrival to the final reply. */
  ms: number;
  /** The bytes of the frames of the request and of the caller's items. */
  receivedBytes: number;
  /** The bytes of the frames of the items and of the final reply. */
  sentBytes: number;
}

/** What a tap has seen since its last report. */
export interface TapReport {
  calls: TappedCall[];
  /** How many other calls there were. */
  leftOut: number;
  /** Which of several workers reports this. Only in the first report. */
  worker?: number;
}

/** A command, as a filter knows it. */
interface Named {
  readonly name: string;
}

/** Which calls a reader wants. */
export interface TapFilter {
  /** Calls of this command; `undefined` means all calls. */
  readonly command: Named | undefined;
  /** Calls that took at least this long. */
  readonly slowMs: number;
}

/** One reader. */
class Tap {
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

  /** Whether the reader wants a call of this command and duration. */
  selects(command: Named | undefined, ms: number): boolean {
    return ms >= this.#filter.slowMs && this.isAbout(command);
  }

  /** Adds a call to the next report. */
  take(call: TappedCall): void {
    this.#calls.push(call);
    this.room--;
  }

  /** Counts calls that are not in the next report. */
  leaveOut(calls: number): void {
    this.#leftOut += calls;
  }

  /** What was seen since the last report. */
  report(): TapReport {
    const report = { calls: this.#calls, leftOut: this.#leftOut };
    this.#calls = [];
    this.#leftOut = 0;
    return report;
  }
}

/** All readers of one server. */
export class Taps {
  /** The room of the reader that has most. Without readers, a call checks nothing else. */
  room = 0;
  #taps: Tap[] = [];

  /** Whether there are any readers. */
  get isOn(): boolean {
    return this.#taps.length > 0;
  }

  /** Adds a reader, which takes no calls yet. */
  open(filter: TapFilter): Tap {
    if (this.#taps.length >= MAX_TAPS) throw TOO_MANY;
    const tap = new Tap(filter);
    this.#taps.push(tap);
    return tap;
  }

  /** Keeps calls for the next report of a reader. */
  gather(tap: Tap): void {
    tap.room = REPORT_CALLS;
    this.#findRoom();
  }

  /** The report of a reader, which then takes no calls until `gather()`. */
  report(tap: Tap): TapReport {
    tap.room = 0;
    this.#findRoom();
    return tap.report();
  }

  /** Removes a reader. */
  close(tap: Tap): void {
    this.#taps = this.#taps.filter((other) => other !== tap);
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
   * @param describe Returns the rest. Called only if a reader takes the call.
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

  /** Counts calls that have ended and that no report has room for. */
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
  return { time: new Date().toISOString(), peer, command: short(command), code, ms, ...bytes };
}

/** A short copy of a command's name. A slice would keep the whole text in memory. */
function short(text: string | null): string | null {
  if (text === null || text.length <= MAX_NAME_CHARS) return text;
  return Array.from(shortened(text, MAX_NAME_CHARS)).join("");
}
