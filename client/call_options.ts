/**
 * Options of one call, and the interface of the encoder of requests.
 *
 * In: nothing. Out: the types. Refused, by the compiler: options that a call, a stream or a call with items does not
 * have.
 */

import type { Fields } from "../codec/message.ts";
import type { Span } from "../codec/frame.ts";
import type { EncodedRequest } from "../codec/write_message.ts";

/** Options of one call. */
export interface CallOptions {
  /**
   * How long to wait for the reply, in milliseconds on the monotonic clock; `Infinity` for no limit. The time begins at
   * the end of the event loop's turn in which the call is made. The server gets the limit too, and then stops the
   * handler. If it is `0` or less, the call is not sent, so you can pass on the rest of another deadline.
   *
   * @default {the client's `timeoutMs`; for a stream, or a call with `items`, `Infinity`}
   */
  timeoutMs?: number;
  /** Cancels the call: it rejects immediately with `CANCELLED`, and the server gets a cancel. */
  signal?: AbortSignal;
  /** Metadata, such as a token or a `traceparent`. Handlers and middleware of the server can read it. */
  meta?: Record<string, string>;
  /**
   * Whether the server may run the command twice without harm. If so, and the connection is lost after the call was
   * sent, the client resends it within its timeout, if its `retryBudget` allows. After the third lost connection the
   * call fails, because the call itself may crash the server.
   *
   * @default {false}
   */
  idempotent?: boolean;
  /**
   * Whether to wait for a connection. With `false`, the call rejects with `CONNECTION_LOST` as soon as no server can be
   * reached; the error is `retryable` and says why.
   *
   * @default {the client's `waitForReady`}
   */
  waitForReady?: boolean;
  /**
   * Sends a second copy of an `idempotent` call to another server if there is no answer after this time, in
   * milliseconds, and the client's `retryBudget` allows. The first answer wins, and the other copy is cancelled. A copy
   * that is refused or lost is no answer while the other one runs. Choose a time that few calls need, such as the 95th
   * percentile.
   *
   * @default {no second copy}
   */
  hedgeAfterMs?: number;
}

/** Options of one stream. */
export interface StreamOptions extends Omit<CallOptions, "idempotent" | "hedgeAfterMs"> {
  /**
   * Whether the server may begin the stream twice without harm. If so, and the connection is lost or the server shuts
   * down before the first item, the client starts the stream again, within its `retryBudget` and at most twice.
   * After an item, a stream resumes only if the item is `tracked()`: without an id, items would come twice.
   *
   * @default {false}
   */
  idempotent?: boolean;
  /**
   * How many unread items may wait in the client. The server sends more as they are read. If items are large, fewer
   * wait: the items of one stream take at most 4 MiB.
   *
   * @default {256}
   */
  credit?: number;
}

/** The source of a caller's stream: an array, a generator, an async iterable or a `ReadableStream`. */
export type ItemSource<Item = unknown> = (Iterable<Item> & object) | AsyncIterable<Item>;

/**
 * Options of a call or a stream whose command takes a stream from the caller. Such a call can be neither `idempotent`
 * nor hedged, because items are not sent twice.
 */
export type WithItems<Options, Item> = Omit<Options, "idempotent" | "hedgeAfterMs"> & {
  /**
   * The caller's stream. The client reads an item when the server takes it, and encodes it before it reads the next
   * one. It sends the byte chunks of a `ReadableStream` in pieces of at most 64 KiB. After the call has ended, the
   * client calls `return()` of the source, so another attempt needs a new generator. If the source throws, the call
   * rejects with that error, and the server is notified.
   */
  items: ItemSource<Item>;
};

/** Options of a call or a stream whose command has no known type. */
export type MaybeItems<Options> = Options & {
  /** The caller's stream, see {@linkcode WithItems}. */
  items?: ItemSource;
};

/** How to handle a call that cannot be sent, is lost with its connection, or takes long. */
export interface CallPolicy {
  /** Whether the call may be resent after it was lost. */
  readonly idempotent: boolean;
  /** Whether the call waits while no server can be reached. */
  readonly waitForReady: boolean;
  /** The timeout, in milliseconds. */
  readonly timeoutMs: number;
}

/** The part of the client that its requests use. */
export interface GivenOwner {
  readonly settings: { readonly sequenced: boolean; readonly maxPayloadBytes: number; readonly policy: CallPolicy };
  /** The number of a command, or its name if it has no number. */
  cmdOf(name: string): number | string;
}

/** Encodes requests and items. */
export interface CallEncoder {
  /** The request of a call; `credit` is the initial credit of a stream. */
  encodeCall(owner: GivenOwner, name: string, params: unknown, options: MaybeItems<CallOptions>, credit?: number): Span;
  /** The request of a stream that resumes after its last item. */
  encodeResumed(request: EncodedRequest, place: { after: number | string; credit: number }): Span;
  /** The value of an item that may have to be sent again. */
  encodeItem(item: unknown, maxPayloadBytes: number): Span;
  /**
   * A copy of the parameters, so that the caller may change its objects while middleware runs. Also checks the options,
   * which the engine gets only after that.
   */
  copyParams(name: string, params: unknown, maxPayloadBytes: number, options: MaybeItems<CallOptions>): Fields;
}
