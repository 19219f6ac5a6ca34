/**
 * What a handler and a middleware see of a call: what is documented, and no way to change the call itself.
 *
 * In: the call. Out: its {@linkcode Context}.
 */

import type { Request } from "../codec/message.ts";
import type { Clock } from "../transport/clock.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Context, ReplyFields, ServerReport } from "./command.ts";
import type { RegisteredCommand } from "./registry.ts";

const NO_META: Readonly<Record<string, string>> = Object.freeze({});

/** What the middleware and the handler need to know of a call. */
export interface Invocation {
  readonly command: string;
  readonly entry: RegisteredCommand;
  readonly request: Request;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly owner: {
    readonly connection: { readonly peer: string; readonly certificate: PeerCertificate | undefined };
    readonly server: { readonly clock: Clock; readonly report: ServerReport };
  };
  /** The handler's own end, if a middleware stands before it, which may answer earlier. */
  handled: Promise<ReplyFields> | undefined;
  /** Sends a stream. Resolves with the final reply. */
  sendItems(items: AsyncIterable<unknown>): Promise<ReplyFields>;
  /** Told of what a handler threw after its caller had an answer. */
  onLateError(error: unknown): void;
}

/** One call's context. */
export class CallContext implements Context {
  readonly #call: Invocation;

  constructor(call: Invocation) {
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
    return this.#call.owner.connection.peer;
  }

  get certificate(): PeerCertificate | undefined {
    return this.#call.owner.connection.certificate;
  }

  get clock(): Clock {
    return this.#call.owner.server.clock;
  }

  get server(): ServerReport {
    return this.#call.owner.server.report;
  }

  get signal(): AbortSignal {
    return this.#call.signal;
  }

  // A getter, so that a handler can take it out of the context: ({ sleep }, { remaining }) => ...
  get remaining(): () => number {
    const { deadlineMs, owner: { server: { clock } } } = this.#call;
    return () => deadlineMs === Infinity ? Infinity : Math.max(0, deadlineMs - clock.now());
  }
}
