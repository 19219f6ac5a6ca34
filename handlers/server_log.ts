/**
 * The log of one server: passes errors that are not sent to a peer to the user's hook, and all else to stderr.
 *
 * In: errors with their origin, and other events. Out: a line for each, or for an error a call of the hook, which is not
 * awaited; if the hook fails, a line. Refused: nothing.
 */

import type { Clock } from "../transport/clock.ts";
import { type ErrorOrigin, EventLog, writerOf } from "./event_log.ts";
import type { EventName, LogEvent, LogStyle } from "./log_line.ts";

/** The log of one server. */
export class ServerLog {
  readonly style: LogStyle;
  readonly #log: EventLog;
  readonly #hook: ((error: unknown, origin: ErrorOrigin) => void) | undefined;

  /**
   * @param clock The clock, by which similar lines are held back.
   * @param style How a line looks, and what is one.
   * @param hook Receives each error in place of stderr.
   */
  constructor(clock: Clock, style: LogStyle, hook?: (error: unknown, origin: ErrorOrigin) => void) {
    this.style = style;
    this.#log = new EventLog(clock, writerOf(style), style);
    this.#hook = hook;
  }

  /** Logs an event that is no error. Never throws. */
  note(event: LogEvent): void {
    this.#log.note(event);
  }

  /** Reports an error. Never throws. */
  report(error: unknown, origin: ErrorOrigin, event?: EventName): void {
    const hook = this.#hook;
    if (hook === undefined) return this.#log.add(error, origin, event);
    const failed = (hookError: unknown) => {
      this.#log.add(error, origin, event);
      this.#log.add(hookError, { command: "onError" });
    };
    try {
      // An async function is also of this type, so handle a promise.
      const done: unknown = hook(error, origin);
      if (done !== undefined) Promise.resolve(done).catch(failed);
    } catch (hookError) {
      failed(hookError);
    }
  }

  /** Stops all timers. */
  close(): void {
    this.#log.close();
  }
}
