/**
 * Aborts the signals of handlers. In: a reason. Out: an aborted signal; errors of its listeners, by a callback. Refused: nothing.
 */

import type { RpcError } from "../errors.ts";
import { catchListenerErrors } from "../transport/runtime.ts";

/** A new controller, which has aborted its signal if there is a reason already. */
export function abortedBy(reason: RpcError | undefined): AbortController {
  const controller = new AbortController();
  if (reason) controller.abort(reason);
  return controller;
}

/** Aborts a signal, and catches errors of its listeners: as uncaught errors they would end the process. */
export function abortSafely(controller: AbortController, reason: unknown, onError: (error: unknown) => void): void {
  catchListenerErrors(() => controller.abort(reason), onError);
}
