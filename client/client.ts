/**
 * The typed client that users see. `client_face.ts` implements it.
 *
 * In: nothing. Out: the type. Refused, by the compiler: names and parameters that the commands do not have.
 */

import type { AnyCommands, CallsOf, Served } from "./call_types.ts";
import type { ClientState } from "./rpc_client.ts";
import type { ServerStatus } from "./servers.ts";
import type { ClientStatistics } from "./calls.ts";

/**
 * A connected client. After a lost connection, it reconnects as soon as a call needs it. If the server had answered
 * before, this happens within half a second, but at most once in 10 s. Otherwise the delay grows up to 2 s. Delays are
 * random, so that the clients of a server do not all return at the same time. Each new connection must answer a PING
 * before it gets calls. A call that was not sent yet waits for the connection, within its timeout. A call that was sent
 * rejects, unless it is marked `idempotent`. The client resends a call that the server has refused and not started: on
 * another connection at once, or after a delay if the server is `OVERLOADED`.
 *
 * An open call or stream keeps the program running. A client without open calls does not, even if it is not closed.
 */
export interface Client<C extends Served<C> = AnyCommands> extends AsyncDisposable {
  /**
   * Calls a command and returns its result: `client.call.GREET({ name: "Ada" }, { timeoutMs: 500 })`, or
   * `client.call("GREET", { name: "Ada" })` if the name is known only at run time, or is one that JavaScript reads
   * itself: `then`, `toString`, `valueOf`, `toJSON`; and if a client has no types of its commands under the compiler's
   * `noUncheckedIndexedAccess`. Every call settles once. Parameters are encoded before it returns, so objects and
   * buffers may be reused at once. The options follow the parameters, see `CallOptions`.
   *
   * The option `items` is the stream for a command that takes one: an array, a generator, a `ReadableStream`. The
   * client reads the next item when the handler takes it, so an upload reads its file only as fast as the server does.
   * When the call has ended for any reason, the client calls `return()` of `items`. An error that `items` throws
   * rejects the call. Such a call has no timeout without `timeoutMs`, and is not resent after the handler has taken an
   * item.
   *
   * It rejects with an {@linkcode RpcError}: with the server's code, or with `TIMEOUT`, `CANCELLED` (by the signal,
   * whose reason is the `cause`), `CONNECTION_LOST`, `CLOSED` or `BAD_REPLY`, or with `OVERLOADED` if 256 MiB of calls
   * already wait to be sent. `retryable` is true only if the server has not started the call. It rejects with a
   * `TypeError` if an option is unknown or of another kind, or if the parameters, `meta` or an item cannot be sent, such
   * as a `Date` or a `Map`. The text names the option or the field. It rejects with a `RangeError` if the timeout is not
   * a number, or if the request is larger than `maxPayloadBytes`.
   *
   * @example A deadline and a cancelled call
   * ```ts
   * import { command, connect, RpcError, serve } from "../mod.ts";
   * import { assertEquals, assertRejects } from "@std/assert";
   *
   * const commands = { HANG: command(() => new Promise<string>(() => {})) };
   * await using server = await serve({ port: 0, commands });
   * await using client = await connect<typeof commands>({ port: server.port });
   *
   * const late = await assertRejects(() => client.call.HANG({}, { timeoutMs: 20 }), RpcError);
   * assertEquals(late.code, "TIMEOUT");
   *
   * const patience = new AbortController();
   * const slow = client.call.HANG({}, { signal: patience.signal });
   * patience.abort();
   * const cancelled = await assertRejects(() => slow, RpcError);
   * assertEquals(cancelled.code, "CANCELLED");
   * ```
   */
  readonly call: CallsOf<C, "call">;

  /**
   * Like `call`, but returns the whole reply: `{ res, ... }`, with the fields that the handler has set beside its
   * result.
   */
  readonly reply: CallsOf<C, "reply">;

  /**
   * Like `call`, but resolves with an {@linkcode Outcome} in place of an {@linkcode RpcError}. Errors have the codes and
   * data types that the command's `errors` declare. It rejects only for a mistake of the program: with a `TypeError` or
   * `RangeError` as `call` does, or with what the caller's `items`, a function `meta` or a middleware has thrown.
   *
   * @example A misspelt code does not compile
   * ```ts
   * import { command, connect, RpcError, serve } from "../mod.ts";
   *
   * const FIND = command({
   *   errors: { NO_SUCH_PLACE: null },
   *   handler({ place }: { place: string }): number {
   *     throw new RpcError("NO_SUCH_PLACE", `there is no ${place}`);
   *   },
   * });
   * await using server = await serve({ port: 0, commands: { FIND } });
   * await using client = await connect({ port: server.port, commands: { FIND } });
   * const found = await client.outcome.FIND({ place: "Atlantis" });
   * if (found.ok || found.error.code !== "NO_SUCH_PLACE") throw new Error("a surprise");
   * ```
   */
  readonly outcome: CallsOf<C, "outcome">;

  /**
   * Reads a stream: `client.stream.COUNT({ to: 3 })`. The request is sent when the loop asks for the first item, and
   * the server sends at most `credit` items in advance. If you leave the loop, by `break` or otherwise, the handler
   * ends. The options follow the parameters: credit in items, timeoutMs for the whole stream (no limit by default, but
   * the stream must begin within the client's timeout), signal, meta, and `items` for a stream in both directions.
   *
   * If the connection is lost, or the server shuts down, a stream with `tracked()` items resumes automatically: the
   * client resends the request with the parameter `after`, the id of the last item, within its `retryBudget`. Three
   * losses without a new item end the stream.
   *
   * The generator returns the handler's return value. It throws the errors of {@linkcode Client.call}, and `BAD_REPLY`
   * for a command that answers once, unless it answers `null`, as a stream without items does. Items that arrived before
   * a lost connection come first. It throws a `RangeError` if the credit is out of range, and a `TypeError` if the client
   * is not `sequenced`.
   *
   * @example The first three of many
   * ```ts
   * import { command, connect, serve } from "../mod.ts";
   *
   * const COUNT = command(async function* () { for (let n = 1;; n++) yield n; });
   * await using server = await serve({ port: 0, commands: { COUNT } });
   * await using client = await connect({ port: server.port, commands: { COUNT } });
   * for await (const n of client.stream.COUNT()) {
   *   if (n === 3) break;
   * }
   * ```
   */
  readonly stream: CallsOf<C, "stream">;

  /** The current state of the client. */
  readonly state: ClientState;

  /**
   * The servers, each with its state and its calls in flight. With `connectionsPerServer`, a server has several
   * entries.
   */
  readonly servers: readonly ServerStatus[];

  /** The outcomes of all calls so far. `servers` has them for each server. */
  statistics(): ClientStatistics;

  /**
   * Closes the client: open calls reject with `CLOSED`, the server gets a cancel for those that were sent, and the
   * connections end. A second call does nothing more. A program that does not call this also ends: only open calls and
   * streams keep it alive.
   *
   * @returns A promise that resolves when everything is closed. It does not reject.
   */
  close(): Promise<void>;
}
