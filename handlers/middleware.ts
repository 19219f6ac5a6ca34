/**
 * Passes a call through the middleware to its handler.
 *
 * In: a call. Out: the answer of the handler or of a middleware. Refused, by a `TypeError`: a middleware's answer that is
 * no reply, and what cannot be passed on. By `INVALID_PARAMS`: a call without the stream that its command takes.
 */

import { isPlain } from "../codec/errors.ts";
import { inspect } from "../transport/runtime.ts";
import { type Context, type Middleware, type Next, REPLY, type ReplyFields, replyOf } from "./command.ts";
import { CallContext, type Invocation } from "./context.ts";
import { isStream, isThenable } from "./item_sender.ts";
import type { RegisteredCommand } from "./registry.ts";
import { withoutItems } from "./refusals.ts";
import { checkedResult, validated } from "./validation.ts";

/** Rounds of microtasks from a handler that does not wait to its reply: without middleware; with some; for each one. */
const ROUNDS_OF_HANDLER = 1;
const ROUNDS_OF_CHAIN = 3;
const ROUNDS_OF_MIDDLEWARE = 5;

/** The middleware of one server. */
export class MiddlewareChain {
  readonly #middleware: readonly Middleware[];
  readonly #checksResults: boolean;

  /**
   * @param middleware The first is the outermost.
   * @param checksResults Whether to check results with the schemas of their commands.
   */
  constructor(middleware: readonly Middleware[], checksResults = false) {
    this.#middleware = middleware;
    this.#checksResults = checksResults;
  }

  /** Runs the middleware and the handler. Returns the handler's answer, or a promise of a reply. */
  answer(call: Invocation): unknown {
    const context = new CallContext(call);
    const own = call.entry.command.middleware;
    if (this.#middleware.length === 0 && (own === undefined || own.length === 0)) return this.#invoke(call, context);
    return this.#pass(call, context, own === undefined ? this.#middleware : [...this.#middleware, ...own], 0);
  }

  /** After this many rounds of microtasks, a call that is not answered waits for something. */
  roundsOf({ command }: RegisteredCommand): number {
    const middleware = this.#middleware.length + (command.middleware?.length ?? 0);
    return middleware === 0 ? ROUNDS_OF_HANDLER : ROUNDS_OF_CHAIN + middleware * ROUNDS_OF_MIDDLEWARE;
  }

  async #pass(
    call: Invocation,
    context: Context,
    chain: readonly Middleware[],
    index: number,
  ): Promise<ReplyFields> {
    const middleware = chain[index];
    let answered = false;
    let passed: Promise<ReplyFields> | undefined;
    const next = (given?: object) => {
      if (passed === undefined) {
        passed = answered
          ? Promise.reject(
            new TypeError(`Cannot pass on a call of ${call.entry.name}: this middleware has answered it`),
          )
          : this.#next(call, given === undefined ? context : withGiven(call, context, given), chain, index + 1);
        // The middleware may not have awaited it, and an uncaught error would end the process.
        passed.catch((error) => {
          if (answered) call.onLateError(error);
        });
      }
      return passed;
    };
    call.beginPart();
    try {
      return wholeReply(await middleware(context, next as Next));
    } finally {
      answered = true;
      call.endPart();
    }
  }

  /** A call that has ended, while a middleware checked who sent it, is not begun. */
  #next(call: Invocation, context: Context, chain: readonly Middleware[], index: number): Promise<ReplyFields> {
    if (call.abortReason !== undefined) return Promise.reject(call.abortReason);
    return index < chain.length ? this.#pass(call, context, chain, index) : this.#handle(call, context);
  }

  /** Runs a handler to its end. The end of a stream is its final reply. */
  async #handle(call: Invocation, context: Context): Promise<ReplyFields> {
    call.beginPart();
    try {
      const answer = await this.#invoke(call, context);
      return isStream(answer) ? await call.sendItems(answer) : replyOf(answer);
    } finally {
      call.endPart();
    }
  }

  /** Checks the parameters, and the stream if the command takes one. Then runs the handler. */
  #invoke(call: Invocation, context: Context): unknown {
    const { entry, request: { params, hasItems } } = call;
    const { handler, schema, items, result } = entry.command;
    if (items !== undefined && !hasItems) throw withoutItems(entry.name);
    if (schema === undefined && !this.#checksResults) return handler(params as never, context); // the usual case
    const run = this.#checksResults && result !== undefined
      ? (params: unknown) => checkedResult(result, handler(params as never, context))
      : (params: unknown) => handler(params as never, context);
    if (schema === undefined) return run(params);
    const valid = validated(schema, params);
    if (!isThenable(valid)) return run(valid);
    return valid.then((params) => {
      if (call.abortReason !== undefined) throw call.abortReason; // it has ended meanwhile
      return run(params);
    });
  }
}

/** Adds what a middleware passed on to the context, for later middleware and the handler. */
function withGiven(call: Invocation, context: Context, given: object): Context {
  if (!isPlain(given)) {
    throw new TypeError(`Cannot pass on ${inspect(given, 0)}: its methods would be lost; use next({ name: value })`);
  }
  for (const name of Object.keys(given)) {
    if (name in CallContext.prototype) {
      throw new TypeError(`Cannot pass on "${name}": every context has that name already`);
    }
  }
  return Object.assign(new CallContext(call), context, given);
}

/** Checks the answer of a middleware, which may be its own reply. */
function wholeReply(answer: ReplyFields): ReplyFields {
  if (typeof answer === "object" && answer !== null && "res" in answer) return { ...answer, [REPLY]: answer };
  throw new TypeError(`the middleware returned ${inspect(answer, 0)}: return what next() gives, or reply(value, {})`);
}
