/**
 * The path of a call from its caller to the engine, through the client's middleware.
 *
 * In: calls. Out: replies, results, items. Parameters are encoded before the first middleware runs, so the caller may
 * change its objects at once. Every call ends, whatever a middleware does: by its reply, its time, its signal or the
 * end of the client. Refused: mistakes of a middleware.
 */

import { isPlain, kindOf } from "../codec/errors.ts";
import { type ErrorCode, markReceived, RpcError } from "../errors.ts";
import type { ReplyFields } from "../handlers/command.ts";
import { DONE, type ItemResult } from "../session/item_queue.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import type { CallEncoder, CallOptions, CallPolicy, MaybeItems, StreamOptions } from "./call_options.ts";
import type { Abortable, Watcher } from "./calls.ts";
import { checkTimeout } from "./client_call.ts";
import { dropItems, orDrop } from "./outgoing_items.ts";
import type { ClientState } from "./rpc_client.ts";

/** The metadata of a call. */
export type Meta = Readonly<Record<string, string>>;

/** A call that the client is about to send. */
export interface OutgoingCall {
  /** The command's name. */
  readonly command: string;
  /** The parameters. */
  readonly params: Readonly<Record<string, unknown>>;
  /** Its metadata so far. */
  readonly meta: Meta;
  /** The caller's signal. */
  readonly signal: AbortSignal | undefined;
}

/**
 * A middleware for all calls of a client.
 *
 * @param call The call.
 * @param next Sends the call once. A second call returns the same promise. `meta` is added to the call's metadata. It
 * resolves with the whole reply. For a stream, it resolves after the last item, with the handler's return value as
 * `res`. It rejects like the call.
 * @returns The reply that the caller gets. When the call's time is over, its signal is aborted or the client is closed,
 * the caller waits no longer than a second after `next()` has settled, and not at all if nothing was sent.
 */
export type ClientMiddleware = (
  call: OutgoingCall,
  next: (given?: { readonly meta?: Meta }) => Promise<ReplyFields>,
) => ReplyFields | Promise<ReplyFields>;

/** The metadata and the middleware for all calls of a client. */
export interface Before {
  /** Metadata for every call, or a function that returns it for each call. */
  readonly meta: Meta | (() => Meta | Promise<Meta>) | undefined;
  readonly middleware: readonly ClientMiddleware[];
}

/** The part of a client's engine that its calls use. */
export interface CallEngine {
  readonly settings: { readonly clock: Clock; readonly policy: CallPolicy; readonly maxPayloadBytes: number };
  readonly encoder: CallEncoder;
  readonly signals: Watcher;
  /** See `Client.state`. */
  readonly state: ClientState;
  /** Makes a call. Resolves with the reply, or with its result alone. */
  call(name: string, params: unknown, options: MaybeItems<CallOptions>, wantsResult?: boolean): Promise<unknown>;
  /** Reads a stream. */
  stream(name: string, params: unknown, options: MaybeItems<StreamOptions>): ItemStream;
}

/** A stream that is read. */
type ItemStream = AsyncGenerator<unknown, unknown, void>;

/** Gives a call to the engine. */
type Send = (params: unknown, options: MaybeItems<CallOptions>) => Promise<ReplyFields>;

/** How long a middleware may take, in milliseconds, after `next()` has settled, even if the call's time is over. */
const LAST_MS = 1_000;

/** Sends the calls of a client. */
export class CallSender {
  readonly engine: CallEngine;
  readonly before: Before;
  /** The calls whose time runs here, not in the engine. */
  readonly waiting = new Set<Abortable>();

  constructor(engine: CallEngine, before: Before) {
    this.engine = engine;
    this.before = before;
  }

  /** Makes a call. Resolves with the reply, or with its result alone. */
  call(name: string, params: unknown, options: MaybeItems<CallOptions> = {}, wantsResult?: boolean): Promise<unknown> {
    if (this.#isPlain) return this.engine.call(name, params, this.#withMeta(options), wantsResult);
    const reply = this.#reply(name, params, options);
    return wantsResult ? reply.then(({ res }) => res) : reply;
  }

  /** An async function, so that parameters that cannot be sent reject. It still encodes them before it returns. */
  async #reply(name: string, params: unknown, options: MaybeItems<CallOptions>): Promise<ReplyFields> {
    const passage = new Passage(this, name, params, options, options?.items !== undefined);
    return await passage.run((params, options) => this.engine.call(name, params, options) as Promise<ReplyFields>);
  }

  /** Reads a stream. */
  stream(name: string, params?: unknown, options: MaybeItems<StreamOptions> = {}): ItemStream {
    if (this.#isPlain) return this.engine.stream(name, params, this.#withMeta(options));
    return new PassedStream(
      new Passage(this, name, params, options, true),
      (params, options) => this.engine.stream(name, params, options),
    );
  }

  /** The client was closed. The engine ends the calls that it has; all others end here. */
  onClosed(): void {
    for (const call of this.waiting) call.handleEvent();
  }

  /** Whether a call can be sent at once, without a middleware or a function for `meta`. */
  get #isPlain(): boolean {
    return this.before.middleware.length === 0 && typeof this.before.meta !== "function";
  }

  #withMeta<Options extends CallOptions | StreamOptions>(options: Options): Options {
    const { meta } = this.before;
    return meta === undefined ? options : { ...options, meta: merged(meta as Meta, options.meta) };
  }
}

/**
 * A call on its way through the middleware. A middleware, or the function for `meta`, may keep it, so its time, its
 * signal and the end of the client are watched here, except while the engine has it: the engine's errors say more.
 */
class Passage implements Abortable {
  readonly #sender: CallSender;
  readonly #call: OutgoingCall;
  readonly #options: MaybeItems<CallOptions>;
  readonly #timeoutMs: number;
  readonly #isStreaming: boolean;
  readonly #outcome = Promise.withResolvers<ReplyFields>();
  #state: "before" | "sent" | "over" = "before";
  /** When its time is over. A stream, or a call with items, may have a limit only for its start. */
  #endMs = Infinity;
  #timer: Timer | undefined;

  /** Copies the call, so that the caller may change its objects. If it cannot be sent, ends its items and throws. */
  constructor(
    sender: CallSender,
    command: string,
    params: unknown,
    options: MaybeItems<CallOptions>,
    isStreaming: boolean,
  ) {
    const { encoder, settings: { maxPayloadBytes, policy } } = sender.engine;
    const copy = orDrop(options, () => encoder.copyParams(command, params, maxPayloadBytes, options));
    const { meta, signal, timeoutMs } = options;
    this.#sender = sender;
    this.#options = { ...options };
    this.#isStreaming = isStreaming;
    this.#timeoutMs = orDrop(options, () => checkTimeout(timeoutMs ?? policy.timeoutMs));
    this.#call = { command, params: copy, meta: merged(meta), signal };
  }

  /** Begins. Resolves with the reply of the outermost middleware. */
  run(send: Send): Promise<ReplyFields> {
    const { promise, resolve, reject } = this.#outcome;
    if (this.#isCut) {
      this.handleEvent();
    } else {
      this.#endMs = this.#clock.now() + this.#timeoutMs;
      this.#pass(send).then((reply) => this.#end(resolve, reply), (error) => this.#end(reject, error));
    }
    return promise;
  }

  /** The caller wants no reply any more. */
  leave(): void {
    this.#end(this.#outcome.resolve, { res: undefined });
  }

  /** The time is over, the signal is aborted, or the client is closed. */
  handleEvent(): void {
    const retryable = this.#state === "before";
    const { signal } = this.#call;
    const end = (code: ErrorCode, text: string) => {
      const state = retryable ? "the call was not sent" : "a middleware kept the reply";
      this.#end(
        this.#outcome.reject,
        markReceived(new RpcError(code, `${text}, and ${state}`, { retryable, cause: signal?.reason })),
      );
    };
    if (signal?.aborted) end("CANCELLED", "the caller's signal was aborted");
    else if (this.#isCut) end("CLOSED", "the client was closed");
    else end("TIMEOUT", `the client's middleware took ${this.#timeoutMs} ms`);
  }

  async #pass(send: Send): Promise<ReplyFields> {
    this.#watch(0);
    const { meta, middleware } = this.#sender.before;
    // Copied before the next call, whose function may change the same object; a promise has nothing to copy.
    const own = typeof meta === "function" ? await merged(meta() as Meta) : meta;
    const pass = async (call: OutgoingCall, index: number): Promise<ReplyFields> => {
      if (index === middleware.length) return await this.#send(call, send);
      let passed: Promise<ReplyFields> | undefined;
      const next = (given: { readonly meta?: Meta } = {}) => {
        passed ??= pass({ ...call, meta: merged(call.meta, given.meta) }, index + 1);
        passed.catch(ignore); // the middleware need not wait for it
        return passed;
      };
      return wholeReply(await middleware[index](call, next));
    };
    return await pass({ ...this.#call, meta: merged(own, this.#call.meta) }, 0);
  }

  /** After the end, only a call without streams may still be sent: the others have lost their items or their reader. */
  async #send({ meta, params }: OutgoingCall, send: Send): Promise<ReplyFields> {
    if (this.#isStreaming) {
      if (this.#state === "over") throw new RpcError("CANCELLED", "next() was late");
      if (this.#options.timeoutMs === undefined) this.#endMs = Infinity; // it only has to begin in time
    }
    if (this.#state === "before") this.#state = "sent";
    this.#unwatch();
    try {
      return await send(params, { ...this.#options, meta, timeoutMs: Math.ceil(this.#endMs - this.#clock.now()) });
    } finally {
      if (this.#state === "sent") this.#watch(LAST_MS);
    }
  }

  get #clock(): Clock {
    return this.#sender.engine.settings.clock;
  }

  /** Whether the end has come, whatever time is left. */
  get #isCut(): boolean {
    return this.#call.signal?.aborted || this.#sender.engine.state === "closed";
  }

  /** A middleware has the call: it may keep it until the end, and for so many milliseconds in any case. */
  #watch(leastMs: number): void {
    const { signal } = this.#call;
    const leftMs = this.#isCut ? 0 : this.#endMs - this.#clock.now();
    if (signal) this.#sender.engine.signals.add(signal, this);
    if (leftMs !== Infinity) {
      this.#timer = this.#clock.setTimer(() => this.handleEvent(), Math.max(leftMs, leastMs), true);
    }
    this.#sender.waiting.add(this);
  }

  /** The engine has the call, or it has ended. */
  #unwatch(): void {
    const { signal } = this.#call;
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    if (signal) this.#sender.engine.signals.delete(signal, this);
    this.#sender.waiting.delete(this);
  }

  /** Settles the call, unless it has ended. Items that nobody was given end here. */
  #end<Outcome>(settle: (outcome: Outcome) => void, outcome: Outcome): void {
    this.#unwatch();
    if (this.#state === "before") dropItems(this.#options.items);
    this.#state = "over";
    settle(outcome);
  }
}

const END = Promise.resolve<ItemResult>(DONE);

/**
 * A stream behind middleware, which runs as long as the stream does. It is no generator, because a generator would keep
 * `return()` waiting behind a pending `next()`.
 */
class PassedStream implements ItemStream {
  readonly #passage: Passage;
  /** Opens the engine's stream. */
  readonly #open: (params: unknown, options: MaybeItems<StreamOptions>) => ItemStream;
  /** What `next()` of the last middleware gives. */
  readonly #reply = Promise.withResolvers<ReplyFields>();
  /** The engine's stream, if a middleware has passed the call on. */
  #stream: ItemStream | undefined;
  /** See `#begin()`. */
  #opened: Promise<unknown> | undefined;
  /** What the next `next()` after the last item gives. */
  #outcome = END;

  constructor(passage: Passage, open: (params: unknown, options: MaybeItems<StreamOptions>) => ItemStream) {
    this.#passage = passage;
    this.#open = open;
  }

  async next(): Promise<ItemResult> {
    await (this.#opened ??= this.#begin());
    try {
      const item = await this.#stream?.next();
      if (item?.done === false) return item;
      this.#reply.resolve({ res: item?.value });
    } catch (error) {
      this.#reply.reject(error); // a middleware may answer in its place
    }
    const outcome = this.#outcome;
    this.#outcome = END;
    return await outcome;
  }

  /** Resolves when there is the engine's stream, or the end. */
  #begin(): Promise<unknown> {
    return new Promise<unknown>((resolve) => {
      const reply = this.#passage.run((params, options) => {
        this.#stream = this.#open(params, options);
        resolve(undefined);
        return this.#reply.promise;
      });
      this.#outcome = reply.then(({ res }) => ({ done: true, value: res }));
      this.#outcome.then(resolve, resolve);
    });
  }

  async return(value?: unknown): Promise<ItemResult> {
    this.#leave();
    return { done: true, value: await value };
  }

  throw(error: unknown): Promise<ItemResult> {
    this.#leave();
    return Promise.reject(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The reader has left. Nothing is waited for, not even a middleware. */
  #leave(): void {
    this.#outcome = this.#opened = END;
    this.#passage.leave();
    this.#reply.resolve({ res: undefined });
    void this.#stream?.return(undefined);
  }
}

/** Checks the reply of a middleware, which may be its own. */
function wholeReply(answer: ReplyFields): ReplyFields {
  if (typeof answer === "object" && answer !== null) return answer;
  throw new TypeError(`the middleware returned ${kindOf(answer)}: return { res: value }`);
}

/** Adds metadata. One that is no plain object, such as `Headers`, has nothing to spread: it is sent on to be refused. */
function merged(meta?: Meta, more?: Meta): Meta {
  return meta && !isPlain(meta) ? meta : more && !isPlain(more) ? more : { ...meta, ...more };
}

function ignore(): void {}
