/**
 * Where errors go that no peer is told: to the user's hook, or to the log.
 *
 * In: errors, and where they came from. Out: each to the hook, which cannot break anything and is not waited for.
 */

import type { Clock } from "../transport/clock.ts";
import { ErrorLog, type ErrorOrigin } from "./error_log.ts";

/** The errors of one server. */
export class ErrorReporter {
  readonly #log: ErrorLog;
  readonly #hook: (error: unknown, origin: ErrorOrigin) => void;

  /** @param hook Takes each error; by default, the log does. */
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
      // The type says that it returns nothing; an async function is one all the same.
      const done: unknown = this.#hook(error, origin);
      if (done !== undefined) Promise.resolve(done).catch(failed);
    } catch (hookError) {
      failed(hookError);
    }
  }

  /** No timer is left. */
  close(): void {
    this.#log.close();
  }
}
