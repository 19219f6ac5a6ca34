/**
 * Gives handlers and middleware a view of a call, without access to its internals.
 *
 * In: the call. Out: its {@linkcode Context}. Refused: nothing.
 */

import type { Request } from "../codec/message.ts";
import type { RpcError } from "../errors.ts";
import type { Clock } from "../transport/clock.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { CallerConnection } from "./caller_connection.ts";
import type { Context, ReplyFields } from "./command.ts";
import type { ServerReport } from "./server_info.ts";
import type { RegisteredCommand } from "./registry.ts";

/**
 * The name of the method that tells a middleware how a call has ended. Every copy of the library has the same symbol, and
 * no value that a middleware passes on can have this name by accident.
 */
export const ON_END: unique symbol = Symbol.for("packline.onEnd");

const NO_META: Readonly<Record<string, string>> = Object.freeze({});

/** A call, as its context and the middleware see it. */
export interface Invocation {
  readonly entry: RegisteredCommand;
  readonly request: Request;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  readonly draining: AbortSignal;
  /** Why the call is over, if it has ended before its handler. */
  readonly abortReason: RpcError | undefined;
  readonly items: { readonly reader: AsyncIterable<unknown> } | undefined;
  readonly owner: {
    readonly caller: CallerConnection;
    readonly server: { readonly clock: Clock; readonly report: ServerReport };
  };
  /** A middleware or the handler behind it begins: another middleware may answer before its end. */
  beginPart(): void;
  /** It has ended. */
  endPart(): void;
  /** Sends a stream. Resolves with the final reply. */
  sendItems(items: AsyncIterable<unknown>): Promise<ReplyFields>;
  /** Resolves when the call is over, with the code that its caller got; `undefined` if it succeeded. */
  readonly ended: Promise<string | undefined>;
  /** Reports an error that is not sent to the caller. */
  report(error: unknown): void;
  /** A handler threw after its caller got an answer. */
  onLateError(error: unknown): void;
}

/** The context of one call. */
export class CallContext implements Context {
  readonly #call: Invocation;

  constructor(call: Invocation) {
    this.#call = call;
  }

  get command(): string {
    return this.#call.entry.name;
  }

  get params(): Readonly<Record<string, unknown>> {
    return this.#call.request.params;
  }

  get meta(): Readonly<Record<string, string>> {
    return this.#call.request.meta ?? NO_META;
  }

  get peer(): string {
    return this.#call.owner.caller.peer;
  }

  get certificate(): PeerCertificate | undefined {
    return this.#call.owner.caller.certificate;
  }

  get connection(): CallerConnection {
    return this.#call.owner.caller;
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

  get draining(): AbortSignal {
    return this.#call.draining;
  }

  get items(): AsyncIterable<unknown> | undefined {
    return this.#call.items?.reader;
  }

  // A getter, so that a handler can destructure it: ({ sleep }, { remaining }) => ...
  get remaining(): () => number {
    const { deadlineMs, owner: { server: { clock } } } = this.#call;
    return () => deadlineMs === Infinity ? Infinity : Math.max(0, deadlineMs - clock.now());
  }

  /**
   * Calls back when the call is over, with the code that its caller got; `undefined` if it succeeded. An error of the
   * callback, which may be async, is reported, and changes nothing for the caller.
   */
  [ON_END](tell: (code: string | undefined) => unknown): void {
    const call = this.#call;
    call.ended.then(tell).catch((error) => call.report(error));
  }
}
