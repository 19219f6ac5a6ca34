/**
 * The client that users see. `call`, `reply`, `outcome` and `stream` are each a function that takes a command's name,
 * and an object with a method for each name.
 *
 * In: calls by name. Out: replies, results, outcomes, items. Refused: what `call_sender.ts` refuses.
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import type { CallOptions, MaybeItems, StreamOptions } from "./call_options.ts";
import { type Before, type CallEngine, CallSender } from "./call_sender.ts";
import type { ClientStatistics } from "./calls.ts";
import type { ServerStatus } from "./servers.ts";

/** A function that takes a name, with a method for each name. */
type ByName<Options, Result> =
  & ((name: string, params?: unknown, options?: Options) => Result)
  & { readonly [name: string]: (params?: unknown, options?: Options) => Result };

/** How a call ended. */
type Outcome = { ok: true; value: unknown } | { ok: false; error: RpcError };

/** The part of a client's engine that users see. */
export interface Engine extends CallEngine {
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
  readonly #sender: CallSender;

  constructor(engine: Engine, before: Before) {
    this.#engine = engine;
    const sender = this.#sender = new CallSender(engine, before);
    this.call = byName((name, params, options) => sender.call(name, params, options, true));
    this.reply = byName((name, params, options) => sender.call(name, params, options) as Promise<Fields>);
    this.outcome = byName((name, params, options) => sender.call(name, params, options, true).then(success, failure));
    this.stream = byName((name, params, options) => sender.stream(name, params, options));
  }

  get state(): Engine["state"] {
    return this.#engine.state;
  }

  get servers(): readonly ServerStatus[] {
    return this.#engine.servers;
  }

  statistics(): ClientStatistics {
    return this.#engine.statistics();
  }

  close(): Promise<void> {
    const closed = this.#engine.close();
    this.#sender.onClosed();
    return closed;
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
  // The language reads some names itself: to await a value, or to write it as text or as JSON.
  const methods: Record<string | symbol, unknown> = Object.create(null);
  return new Proxy(invoke, {
    get: (target, name) =>
      methods[name] ??= typeof name === "symbol" || /^(then|toJSON|toString|valueOf)$/.test(name)
        ? target[name as never]
        : (params?: unknown, options?: Options) => invoke(name, params, options),
  }) as ByName<Options, Result>;
}
