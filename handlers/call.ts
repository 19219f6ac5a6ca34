/**
 * One request on its way through a handler: its state, and how its handler is told that nobody wants the answer.
 *
 * In: a request, and the command it means. Out: the {@linkcode Context} that its handler sees. What costs something is
 * made only when it is asked for: most handlers never look at their signal.
 */

import type { Request } from "../codec/message.ts";
import type { RpcError } from "../errors.ts";
import type { Clock } from "../transport/clock.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Expiring } from "../transport/deadlines.ts";
import type { Answer, Context, ReplyFields, ServerView } from "./command.ts";
import { CallContext } from "./context.ts";
import type { Entry } from "./mod.ts";

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
  /** Sends the items of a stream to the call's caller. Resolves with the final reply, after the last item. */
  sendItems(call: Call, items: AsyncIterable<unknown>): Promise<ReplyFields>;
  /** Told when the time of a call is up. */
  onExpired(call: Call): void;
  /** Told of an error that the call's caller does not hear of. */
  onError(call: Call, error: unknown): void;
  /** Told of what a handler threw after its caller had an answer. */
  onLateError(call: Call, error: unknown): void;
}

/** A request in flight. */
export class Call implements Expiring {
  /** Whether the final reply has been given; what the handler returns later is dropped. */
  settled = false;
  /** The code of its failure; `undefined` where it has succeeded. */
  code: string | undefined = undefined;
  /** Items that may still be sent; `undefined` where only TCP holds a stream back. */
  credit: number | undefined;
  /** Called when credit comes: a stream waits for it. */
  wake: (() => void) | undefined = undefined;
  /** Called after the signal has been aborted: a stream ends by it. */
  onAborted: (() => void) | undefined = undefined;
  /** The handler's own end, where a middleware stands before it and may answer earlier. */
  handled: Promise<Answer> | undefined = undefined;
  /** Why nobody wants the answer any more. */
  abortReason: RpcError | undefined = undefined;
  #abortController: AbortController | undefined;
  #context: Context | undefined;

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

  /** What the handler and the middleware see: one object, which a middleware may keep notes by. */
  get context(): Context {
    return this.#context ??= new CallContext(this);
  }

  get signal(): AbortSignal {
    if (this.#abortController === undefined) {
      this.#abortController = new AbortController();
      if (this.abortReason) this.#abortController.abort(this.abortReason);
    }
    return this.#abortController.signal;
  }

  expire(): void {
    this.owner.onExpired(this);
  }

  /** Tells the handler that nobody wants its answer. */
  abort(reason: RpcError): void {
    this.abortReason = reason;
    if (this.#abortController) {
      abortSafely(this.#abortController, reason, (error) => this.owner.onError(this, error));
    }
    this.onAborted?.();
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
