/**
 * Aborts the signals of handlers. In: a reason. Out: an aborted signal; errors of its listeners, by a callback.
 * Refused: nothing.
 */

import type { RpcError } from "../errors.ts";
import { catchListenerErrors } from "../transport/runtime.ts";

/** Makes a controller. If there is a reason already, its signal is aborted. */
export function abortedBy(reason: RpcError | undefined): AbortController {
  const controller = new AbortController();
  if (reason) controller.abort(reason);
  return controller;
}

/** Aborts a signal. Catches the errors of its listeners, because an uncaught error would end the process. */
export function abortSafely(controller: AbortController, reason: unknown, onError: (error: unknown) => void): void {
  catchListenerErrors(() => controller.abort(reason), onError);
}
