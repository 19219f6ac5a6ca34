/**
 * One request on its way through a handler: what the handler and the middleware see of it.
 *
 * In: a request, and the command it means. Out: the {@linkcode Context}. What costs something is made only when it is
 * asked for: most handlers never look at their signal.
 */

import type { Request } from "../codec/message.ts";
import type { RpcError } from "../errors.ts";
import type { Clock } from "../transport/clock.ts";
import type { Expiring } from "../transport/deadlines.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Context, ServerView } from "./command.ts";
import type { Entry } from "./mod.ts";

const NO_META: Readonly<Record<string, string>> = Object.freeze({});

/** What a call needs to know of its connection. */
export interface CallOwner {
  /** Who is at the other end. */
  readonly peer: string;
  /** What the peer's certificate says, if one was asked for. */
  readonly certificate: PeerCertificate | undefined;
  /** The server's clock. */
  readonly clock: Clock;
  /** The server's view of itself. */
  readonly view: ServerView;
  /** Told when the time of a call is up. */
  onExpired(call: Call): void;
  /** Told of an error that the call's caller does not hear of. */
  onError(call: Call, error: unknown): void;
}

/** A request in flight. */
export class Call implements Context, Expiring {
  /** Whether the final reply has been given; what the handler returns later is dropped. */
  settled = false;
  /** Items that may still be sent; `undefined` where only TCP holds a stream back. */
  credit: number | undefined;
  /** Called when credit comes or the call is settled: a stream waits for it. */
  wake: (() => void) | undefined;
  #abortController: AbortController | undefined;
  #abortReason: RpcError | undefined;

  constructor(
    readonly entry: Entry,
    readonly request: Request,
    /** When the request came, on the server's clock. */
    readonly arrivedMs: number,
    /** When its time is up, or `Infinity`. */
    readonly deadlineMs: number,
    readonly owner: CallOwner,
  ) {
    this.credit = request.credit;
  }

  get command(): string {
    return this.entry.name;
  }

  get params(): Readonly<Record<string, unknown>> {
    return this.request.params;
  }

  get meta(): Readonly<Record<string, string>> {
    return this.request.meta ?? NO_META;
  }

  get peer(): string {
    return this.owner.peer;
  }

  get certificate(): PeerCertificate | undefined {
    return this.owner.certificate;
  }

  get clock(): Clock {
    return this.owner.clock;
  }

  get server(): ServerView {
    return this.owner.view;
  }

  get signal(): AbortSignal {
    if (this.#abortController === undefined) {
      this.#abortController = new AbortController();
      if (this.#abortReason) this.#abortController.abort(this.#abortReason);
    }
    return this.#abortController.signal;
  }

  // A getter, so that a handler can take it out of the context: ({ sleep }, { remaining }) => ...
  get remaining(): () => number {
    return () => this.deadlineMs === Infinity ? Infinity : Math.max(0, this.deadlineMs - this.clock.now());
  }

  expire(): void {
    this.owner.onExpired(this);
  }

  /** Tells the handler that nobody wants its answer. */
  abort(reason: RpcError): void {
    this.#abortReason = reason;
    if (this.#abortController) {
      abortSafely(this.#abortController, reason, (error) => this.owner.onError(this, error));
    }
    this.wake?.();
  }
}

/** What a listener throws, the runtime takes for an uncaught error, which would end the process. Here it is caught. */
function abortSafely(controller: AbortController, reason: unknown, onError: (error: unknown) => void): void {
  const caught = (event: ErrorEvent) => {
    event.preventDefault();
    onError(event.error);
  };
  // Only for so long: listeners are called before `abort()` returns.
  addEventListener("error", caught);
  controller.abort(reason);
  removeEventListener("error", caught);
}
