/**
 * What a handler and a middleware see of a call: what is documented, and no way to change the call itself.
 *
 * In: the call. Out: its {@linkcode Context}.
 */

import type { Clock } from "../transport/clock.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Call } from "./call.ts";
import type { Context, ServerReport } from "./command.ts";

const NO_META: Readonly<Record<string, string>> = Object.freeze({});

/** One call's context. */
export class CallContext implements Context {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  get command(): string {
    return this.#call.command;
  }

  get params(): Readonly<Record<string, unknown>> {
    return this.#call.request.params;
  }

  get meta(): Readonly<Record<string, string>> {
    return this.#call.request.meta ?? NO_META;
  }

  get peer(): string {
    return this.#call.owner.peer;
  }

  get certificate(): PeerCertificate | undefined {
    return this.#call.owner.certificate;
  }

  get clock(): Clock {
    return this.#call.owner.clock;
  }

  get server(): ServerReport {
    return this.#call.owner.view;
  }

  get signal(): AbortSignal {
    return this.#call.signal;
  }

  // A getter, so that a handler can take it out of the context: ({ sleep }, { remaining }) => ...
  get remaining(): () => number {
    const { deadlineMs, owner: { clock } } = this.#call;
    return () => deadlineMs === Infinity ? Infinity : Math.max(0, deadlineMs - clock.now());
  }
}
