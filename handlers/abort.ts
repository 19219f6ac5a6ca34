/**
 * Aborts the signals of handlers.
 *
 * In: a reason. Out: a signal that is aborted. Refused: nothing; what a listener throws is told to the caller.
 */

import type { RpcError } from "../errors.ts";

/** A new controller, which has aborted its signal if there is a reason already. */
export function abortedBy(reason: RpcError | undefined): AbortController {
  const controller = new AbortController();
  if (reason) controller.abort(reason);
  return controller;
}

/** Aborts a signal, and catches errors of its listeners: as uncaught errors they would end the process. */
export function abortSafely(controller: AbortController, reason: unknown, onError: (error: unknown) => void): void {
  const caught = (event: ErrorEvent) => {
    event.preventDefault();
    onError(event.error);
  };
  // Listeners run before `abort()` returns.
  addEventListener("error", caught);
  controller.abort(reason);
  removeEventListener("error", caught);
}
