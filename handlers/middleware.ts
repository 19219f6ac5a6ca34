/**
 * The way of a call through the middleware to its handler.
 *
 * In: a call. Out: what answers it: the handler's answer, or a middleware's.
 */

import type { Context, HandlerResult, ReplyFields } from "./command.ts";
import { CallContext, type Invocation } from "./context.ts";
import { isStream } from "./item_sender.ts";
import { validated } from "./validation.ts";

/**
 * Something that stands before the handlers: it may look at a call, answer it itself by throwing an `RpcError` or
 * returning a reply, or pass it on.
 *
 * @param request The call: command, parameters, meta, peer, signal.
 * @param next Passes it on, to the next middleware or to the handler, once: called again, it answers the same. It
 * resolves with the final reply, or rejects with the handler's error. The items of a stream go to the caller meanwhile: so
 * a stream has ended by then, and `res` is what its handler has returned.
 * @returns The final reply: what `next()` resolved with, or another. A handler that still runs keeps its place among the
 * calls in flight; what it throws goes to the error hook.
 */
export type Middleware = (request: Context, next: () => Promise<ReplyFields>) => HandlerResult | Promise<HandlerResult>;

/** The middleware of one server. */
export class MiddlewareChain {
  readonly #middleware: readonly Middleware[];

  /** @param middleware The first is the outermost. */
  constructor(middleware: readonly Middleware[]) {
    this.#middleware = middleware;
  }

  /** Runs the middleware and the handler. */
  answer(call: Invocation): unknown {
    const context = new CallContext(call);
    return this.#middleware.length === 0 ? invoke(call, context) : this.#pass(call, context, 0);
  }

  async #pass(call: Invocation, context: Context, index: number): Promise<HandlerResult> {
    const middleware = this.#middleware[index];
    if (middleware === undefined) return await (call.handled = this.#handle(call, context));
    let answered = false;
    let passed: Promise<HandlerResult> | undefined;
    const next = () => {
      if (passed === undefined) {
        passed = this.#pass(call, context, index + 1);
        // The middleware may have not waited for it; an error that nobody catches would end the process.
        passed.catch((error) => {
          if (answered) call.onLateError(error);
        });
      }
      return passed;
    };
    try {
      return await middleware(context, next as () => Promise<ReplyFields>);
    } finally {
      answered = true;
    }
  }

  /** Runs a handler to its end: of a stream, that is its final reply. */
  async #handle(call: Invocation, context: Context): Promise<HandlerResult> {
    const answer = await (invoke(call, context) as HandlerResult | Promise<HandlerResult>);
    return isStream(answer) ? await call.sendItems(answer) : answer;
  }
}

/** Checks the parameters, and runs the handler. */
function invoke({ entry, request: { params } }: Invocation, context: Context): unknown {
  const { handler, schema } = entry.command;
  if (schema === undefined) return handler(params as never, context);
  const valid = validated(schema, params);
  if (valid instanceof Promise) return valid.then((params) => handler(params as never, context));
  return handler(valid as never, context);
}
