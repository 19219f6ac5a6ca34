/**
 * The path of a call from its caller to the engine. `call`, `reply`, `outcome` and `stream` are each a function that
 * takes a command's name, and an object with a method for each name. Then comes the client's middleware.
 *
 * In: calls by name. Out: replies, results, outcomes, items. Parameters are encoded before the first middleware runs,
 * so the caller may change its objects at once. Refused: mistakes of a middleware.
 */

import { kindOf } from "../codec/errors.ts";
import type { Fields } from "../codec/message.ts";
import { type ErrorCode, RpcError } from "../errors.ts";
import type { ReplyFields } from "../handlers/command.ts";
import { checkTimeout } from "../limits.ts";
import type { Clock } from "../transport/clock.ts";
import type { CallEncoder, CallOptions, CallPolicy, ItemSource, MaybeItems, StreamOptions } from "./call_options.ts";
import type { ClientStatistics } from "./calls.ts";
import { dropItems } from "./outgoing_items.ts";
import type { ClientState } from "./rpc_client.ts";
import type { ServerStatus } from "./servers.ts";

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
 * @returns The reply that the caller gets.
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
  /** Makes a call. Resolves with the reply, or with its result alone. */
  call(name: string, params: unknown, options: MaybeItems<CallOptions>, wantsResult?: boolean): Promise<unknown>;
  /** Reads a stream. */
  stream(name: string, params: unknown, options: MaybeItems<StreamOptions>): ItemStream;
}

/** A stream that is read. */
type ItemStream = AsyncGenerator<unknown, unknown, void>;

/** Sends the calls of a client. */
export class CallSender {
  readonly #engine: CallEngine;
  readonly #before: Before;

  constructor(engine: CallEngine, before: Before) {
    this.#engine = engine;
    this.#before = before;
  }

  /** Makes a call. Resolves with the reply, or with its result alone. */
  call(name: string, params: unknown, options: MaybeItems<CallOptions> = {}, wantsResult?: boolean): Promise<unknown> {
    if (this.#isPlain) return this.#engine.call(name, params, this.#withMeta(options), wantsResult);
    const reply = this.#through(name, params, options);
    return wantsResult ? reply.then(({ res }) => res) : reply;
  }

  /** An async function, so that parameters that cannot be sent reject. It still encodes them before it returns. */
  async #through(name: string, params: unknown, options: MaybeItems<CallOptions>): Promise<ReplyFields> {
    const { clock, policy } = this.#engine.settings;
    const timeoutMs = checkTimeout(options.timeoutMs ?? (options.items === undefined ? policy.timeoutMs : Infinity));
    const endMs = clock.now() + timeoutMs;
    let state: "before" | "sent" | "over" = "before";
    try {
      const passed = this.#pass(this.#outgoing(name, params, options), (meta, given) => {
        if (state === "over" && options.items !== undefined) throw tooLate();
        state = "sent";
        return this.#engine.call(name, given, {
          ...options,
          meta,
          timeoutMs: Math.ceil(endMs - clock.now()),
        }) as Promise<ReplyFields>;
      });
      // After the call is sent, it handles its timeout and its signal itself.
      return await inTime(passed, () => state === "sent", { clock, timeoutMs, signal: options.signal });
    } finally {
      if (state === "before") dropItems(options.items);
      state = "over";
    }
  }

  /** Reads a stream. */
  stream(
    name: string,
    params?: unknown,
    options: MaybeItems<StreamOptions> = {},
  ): AsyncGenerator<unknown, unknown, void> {
    if (this.#isPlain) return this.#engine.stream(name, params, this.#withMeta(options));
    try {
      const call = this.#outgoing(name, params, options);
      return withDrop(this.#items(call, options), options.items);
    } catch (error) {
      dropItems(options.items);
      throw error;
    }
  }

  /** Whether a call can be sent at once, without a middleware or a function for `meta`. */
  get #isPlain(): boolean {
    return this.#before.middleware.length === 0 && typeof this.#before.meta !== "function";
  }

  #withMeta<Options extends CallOptions | StreamOptions>(options: Options): Options {
    const { meta } = this.#before;
    return meta === undefined ? options : { ...options, meta: { ...meta as Meta, ...options.meta } };
  }

  /** A copy of the call, so that the caller may change its objects. */
  #outgoing(name: string, params: unknown, { meta, signal }: CallOptions | StreamOptions): OutgoingCall {
    const { encoder, settings } = this.#engine;
    const copy = encoder.copyParams(name, params, settings.maxPayloadBytes);
    return { command: name, params: copy, meta: { ...meta }, signal };
  }

  async #pass(call: OutgoingCall, send: (meta: Meta, params: unknown) => Promise<ReplyFields>): Promise<ReplyFields> {
    const { meta, middleware } = this.#before;
    const own = typeof meta === "function" ? await meta() : meta;
    const pass = async (call: OutgoingCall, index: number): Promise<ReplyFields> => {
      if (index === middleware.length) return await send(call.meta, call.params);
      let passed: Promise<ReplyFields> | undefined;
      const next = (given: { readonly meta?: Meta } = {}) => {
        passed ??= pass({ ...call, meta: { ...call.meta, ...given.meta } }, index + 1);
        passed.catch(ignore); // the middleware need not wait for it
        return passed;
      };
      return wholeReply(await middleware[index](call, next));
    };
    return await pass({ ...call, meta: { ...own, ...call.meta } }, 0);
  }

  /** The middleware runs as long as the stream does. */
  async *#items(
    call: OutgoingCall,
    options: MaybeItems<StreamOptions>,
  ): AsyncGenerator<unknown, unknown, void> {
    const opened = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<ReplyFields>();
    ended.promise.catch(ignore);
    let stream: ItemStream | undefined;
    const passed = this.#pass(call, (meta, params) => {
      stream = this.#engine.stream(call.command, params, { ...options, meta });
      opened.resolve();
      return ended.promise;
    });
    try {
      await Promise.race([opened.promise, passed]);
    } finally {
      if (stream === undefined) dropItems(options.items);
    }
    if (stream !== undefined) { // else a middleware has answered
      try {
        ended.resolve({ res: yield* stream as ItemStream });
      } catch (error) {
        ended.reject(error); // a middleware may answer in its place
      } finally {
        ended.resolve({ res: undefined }); // the reader has left
      }
    }
    return (await passed).res;
  }
}

/**
 * A generator that is ended before its first `next()` runs none of its code. Then this function ends the caller's
 * stream.
 */
function withDrop<Stream extends AsyncGenerator<unknown, unknown, void>>(
  stream: Stream,
  items: ItemSource | undefined,
): Stream {
  if (items === undefined) return stream;
  let hasBegun = false;
  const { next, return: leave } = stream;
  return Object.assign(stream, {
    next() {
      hasBegun = true;
      return next.call(stream);
    },
    return(value: unknown) {
      if (!hasBegun) dropItems(items);
      hasBegun = true;
      return leave.call(stream, value);
    },
  });
}

/** Applies the timeout and the signal of a call while a middleware, or the function for `meta`, runs. */
function inTime<Reply>(
  passed: Promise<Reply>,
  isSent: () => boolean,
  { clock, timeoutMs, signal }: { clock: Clock; timeoutMs: number; signal: AbortSignal | undefined },
): Promise<Reply> {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const end = (code: ErrorCode, text: string, cause?: unknown) => {
    if (!isSent()) reject(new RpcError(code, `${text}, and the call was not sent`, { retryable: true, cause }));
  };
  const onAbort = () => end("CANCELLED", "the caller's signal was aborted", signal?.reason);
  const onTimer = () => end("TIMEOUT", `the client's middleware took ${timeoutMs} ms`);
  const timer = timeoutMs === Infinity ? undefined : clock.setTimer(onTimer, timeoutMs, true);
  signal?.addEventListener("abort", onAbort, { once: true });
  passed.catch(ignore); // it may fail after the end
  return Promise.race([passed, ended]).finally(() => {
    if (timer !== undefined) clock.clearTimer(timer);
    signal?.removeEventListener("abort", onAbort);
  });
}

/** Checks the reply of a middleware, which may be its own. */
function wholeReply(answer: ReplyFields): ReplyFields {
  if (typeof answer === "object" && answer !== null) return answer;
  throw new TypeError(`the middleware returned ${kindOf(answer)}: return what next() gives, or { res: value }`);
}

function tooLate(): RpcError {
  return new RpcError("CANCELLED", "the call had ended, and so had its items");
}

function ignore(): void {}

/** A function that takes a name, with a method for each name. */
type ByName<Options, Result> =
  & ((name: string, params?: unknown, options?: Options) => Result)
  & { readonly [name: string]: (params?: unknown, options?: Options) => Result };

/** How a call ended. */
type Outcome = { ok: true; value: unknown } | { ok: false; error: RpcError };

/** The part of a client's engine that users see. */
export interface Engine extends CallEngine {
  /** See `Client.state`. */
  readonly state: ClientState;
  /** See `Client.servers`. */
  readonly servers: readonly ServerStatus[];
  /** See `Client.statistics`. */
  statistics(): ClientStatistics;
  /** See `Client.close`. */
  close(): Promise<void>;
}

/** The client of one engine. */
export class ClientFace implements AsyncDisposable {
  readonly call: ByName<MaybeItems<CallOptions>, Promise<unknown>>;
  readonly reply: ByName<MaybeItems<CallOptions>, Promise<Fields>>;
  readonly outcome: ByName<MaybeItems<CallOptions>, Promise<Outcome>>;
  readonly stream: ByName<MaybeItems<StreamOptions>, AsyncGenerator<unknown, unknown, void>>;
  readonly #engine: Engine;

  constructor(engine: Engine, before: Before) {
    this.#engine = engine;
    const sender = new CallSender(engine, before);
    this.call = byName((name, params, options) => sender.call(name, params, options, true));
    this.reply = byName((name, params, options) => sender.call(name, params, options) as Promise<Fields>);
    this.outcome = byName((name, params, options) => sender.call(name, params, options, true).then(success, failure));
    this.stream = byName((name, params, options) => sender.stream(name, params, options));
  }

  get state(): ClientState {
    return this.#engine.state;
  }

  get servers(): readonly ServerStatus[] {
    return this.#engine.servers;
  }

  statistics(): ClientStatistics {
    return this.#engine.statistics();
  }

  close(): Promise<void> {
    return this.#engine.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function success(value: unknown): Outcome {
  return { ok: true, value };
}

/** A mistake of the program is still thrown. */
function failure(error: unknown): Outcome {
  if (error instanceof RpcError) return { ok: false, error };
  throw error;
}

function byName<Options, Result>(
  invoke: (name: string, params?: unknown, options?: Options) => Result,
): ByName<Options, Result> {
  const methods = new Map<string, (params?: unknown, options?: Options) => Result>();
  return new Proxy(invoke, {
    get(target, name) {
      // With a method `then`, it would count as a promise when it is awaited or returned.
      if (typeof name === "symbol" || name === "then") return target[name as never];
      let method = methods.get(name);
      if (method === undefined) {
        method = (params, options) => invoke(name, params, options);
        methods.set(name, method);
      }
      return method;
    },
  }) as ByName<Options, Result>;
}
