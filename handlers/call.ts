/**
 * One request on its way through a handler: its state, and how its handler is told that nobody wants the answer.
 *
 * In: a request, and the command it means. Out: whether it is settled, and a signal for its handler. What costs something
 * is made only when it is asked for: most handlers never look at their signal.
 */

import type { Request } from "../codec/message.ts";
import type { RpcError } from "../errors.ts";
import type { Clock } from "../transport/clock.ts";
import type { PeerCertificate } from "../transport/certificate.ts";
import type { Expiring } from "../session/timer_wheel.ts";
import type { HandlerResult, ReplyFields, ServerReport } from "./command.ts";
import type { RegisteredCommand } from "./registry.ts";

/** What a call needs to know of its connection. */
export interface CallHost {
  /** Who is at the other end. */
  readonly peer: string;
  /** What the peer's certificate says, if one was asked for. */
  readonly certificate: PeerCertificate | undefined;
  /** The server's clock. */
  readonly clock: Clock;
  /** The server's view of itself. */
  readonly view: ServerReport;
  /** Sends the items of a stream to the call's caller. Resolves with the final reply, after the last item. */
  sendItems(call: Call, items: AsyncIterable<unknown>): Promise<ReplyFields>;
  /** Told when the time of a call is up. */
  onExpired(call: Call): void;
  /** Told of an error that the call's caller does not hear of. */
  onError(call: Call, error: unknown): void;
  /** Told of what a handler threw after its caller had an answer. */
  onLateError(call: Call, error: unknown): void;
}

/** What a call needs only if it lasts: nearly all are answered at once, and a thousand of them may lie in one batch. */
interface Lasting {
  abortReason: RpcError | undefined;
  abortController: AbortController | undefined;
  onAborted: (() => void) | undefined;
  wake: (() => void) | undefined;
}

/** A request in flight. */
export class Call implements Expiring {
  /** Whether the final reply has been given; what the handler returns later is dropped. */
  settled = false;
  /** The code of its failure; `undefined` where it has succeeded. */
  code: string | undefined = undefined;
  /** The handler's own end, where a middleware stands before it and may answer earlier. */
  handled: Promise<HandlerResult> | undefined = undefined;
  #lastingOrNone: Lasting | undefined = undefined;

  constructor(
    readonly entry: RegisteredCommand,
    readonly request: Request,
    /** When the request came, on the server's clock. */
    readonly arrivedMs: number,
    /** When its time is up, or `Infinity`. */
    readonly deadlineMs: number,
    readonly owner: CallHost,
  ) {}

  get command(): string {
    return this.entry.name;
  }

  /** Why nobody wants the answer any more. */
  get abortReason(): RpcError | undefined {
    return this.#lastingOrNone?.abortReason;
  }

  get signal(): AbortSignal {
    const lasting = this.#lasting;
    if (lasting.abortController === undefined) {
      lasting.abortController = new AbortController();
      if (lasting.abortReason) lasting.abortController.abort(lasting.abortReason);
    }
    return lasting.abortController.signal;
  }

  expire(): void {
    this.owner.onExpired(this);
  }

  /** Tells the handler that nobody wants its answer. */
  abort(reason: RpcError): void {
    const lasting = this.#lasting;
    lasting.abortReason = reason;
    if (lasting.abortController) {
      abortSafely(lasting.abortController, reason, (error) => this.owner.onError(this, error));
    }
    lasting.onAborted?.();
    lasting.wake?.();
  }

  /** Calls back after the signal has been aborted: a stream ends by it. */
  onAborted(listener: () => void): void {
    this.#lasting.onAborted = listener;
  }

  /** Resolves when credit has come, or the call has ended. */
  untilWoken(): Promise<void> {
    return new Promise((resolve) => this.#lasting.wake = resolve);
  }

  wake(): void {
    this.#lastingOrNone?.wake?.();
  }

  get #lasting(): Lasting {
    return this.#lastingOrNone ??= {
      abortReason: undefined,
      abortController: undefined,
      onAborted: undefined,
      wake: undefined,
    };
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
