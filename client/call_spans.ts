/**
 * The parts of traces that the calls of a client are, where telemetry is on. They are no fields of a call, for which every call
 * would pay, and a page.
 *
 * In: a call and its span. Out: the span. Refused: nothing.
 */

import { type CallSpan, clientTelemetry } from "../session/telemetry.ts";
import type { ClientCall } from "./client_call.ts";

const spans = clientTelemetry && new WeakMap<ClientCall, CallSpan>();

/** Gives a call its span, before it begins. */
export function setSpan(call: ClientCall, span: CallSpan | undefined): void {
  if (span !== undefined) spans?.set(call, span);
}

/** The span of a call; none where telemetry is off. */
export function spanOf(call: ClientCall): CallSpan | undefined {
  return spans?.get(call);
}

/** A call was sent to a server, and so its items may be. Their source runs in its span. */
export function startItems(call: ClientCall, peer: string, server: string): void {
  const { items } = call;
  const span = spanOf(call);
  span?.reaches(peer, server);
  if (span === undefined || items === undefined) items?.start();
  else span.run(() => items.start());
}
