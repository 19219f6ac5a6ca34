/**
 * Passes errors that are not sent to a peer to the user's hook or to the log.
 *
 * In: errors with their origin. Out: a call of the hook, which is not awaited; if the hook fails, a line in the log.
 * Refused: nothing.
 */

import type { Clock } from "../transport/clock.ts";
import { ErrorLog, type ErrorOrigin } from "./error_log.ts";

/** The error reporter of one server. */
export class ErrorReporter {
  readonly #log: ErrorLog;
  readonly #hook: (error: unknown, origin: ErrorOrigin) => void;

  /** @param hook Receives each error; the default is the log. */
  constructor(clock: Clock, hook?: (error: unknown, origin: ErrorOrigin) => void) {
    this.#log = new ErrorLog(clock);
    this.#hook = hook ?? ((error, origin) => this.#log.add(error, origin));
  }

  /** Reports an error. Never throws. */
  report(error: unknown, origin: ErrorOrigin): void {
    const failed = (hookError: unknown) => {
      this.#log.add(error, origin);
      this.#log.add(hookError, { command: "onError" });
    };
    try {
      // An async function is also of this type, so handle a promise.
      const done: unknown = this.#hook(error, origin);
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
