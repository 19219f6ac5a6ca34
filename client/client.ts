/**
 * A client as a user has it, typed: `client_face.ts` is what it is made of.
 *
 * In: nothing. Out: the type. Refused, by the compiler: names and parameters that the commands do not have.
 */

import type { Commands } from "../handlers/command.ts";
import type { AnyCommands, ByName } from "./call_types.ts";
import type { ClientState } from "./rpc_client.ts";
import type { ServerStatus } from "./servers.ts";
import type { ClientStatistics } from "./calls.ts";

/**
 * A client, connected. When its connection is lost, it dials again as soon as a call needs it: within half a second where
 * the server had answered, but not more than once in 10 s; else after a wait that grows up to 2 s. Each wait is random, so
 * that the clients of a server do not come back in one instant, and each new connection must answer a PING before it gets
 * calls. A call that was not sent yet waits for it, within its timeout; one that was sent rejects, unless it is marked
 * `idempotent`. What a server refuses unstarted goes elsewhere at once, or after a wait if the server is `OVERLOADED`.
 *
 * A client with nothing open does not keep the program running, closed or not; a call or a stream that is open does.
 */
export interface Client<C extends Commands = AnyCommands> extends AsyncDisposable {
  /**
   * Calls a command and gives its result: `client.call.GREET({ name: "Ada" }, { timeoutMs: 500 })`, or
   * `client.call("GREET", { name: "Ada" })` for a name that is known at run time only. Every call settles, once. Parameters are
   * encoded before it returns: objects and buffers may be used again at once. Then come options: timeoutMs, signal, meta,
   * idempotent.
   *
   * A command that takes a stream gets it by the option `items`: an array, a generator, a `ReadableStream`. The next item is asked for
   * when the handler takes it, so an upload reads its file no faster than the server does. When the call has ended, for whatever
   * reason, `items` is ended by its `return()`; what `items` throws rejects the call. Such a call has no timeout of its own, unless
   * `timeoutMs` says one, and is not sent again after the handler has taken an item.
   *
   * It rejects with an {@linkcode RpcError}: with the server's code; or `TIMEOUT`, `CANCELLED` (by the signal, whose reason is the
   * `cause`), `CONNECTION_LOST`, `CLOSED`, `BAD_REPLY`; or `OVERLOADED`, if 256 MiB of calls wait to be sent already.
   * `retryable` says whether the server has certainly not started it. With a `TypeError` if the parameters or `meta` cannot be
   * sent, such as a `Date` or a `Map`, or an item cannot; the text names the field. With a `RangeError` if the timeout is not a number, or the
   * request is larger than `maxPayloadBytes`.
   *
   * @example A deadline, and a caller who loses patience
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
  readonly call: ByName<C, "call">;

  /** The same, and gives the reply whole: `{ res, ... }`, with the fields that the handler has set beside its result. */
  readonly reply: ByName<C, "reply">;

  /**
   * The same, and gives an {@linkcode Outcome}, without a throw: errors have the codes and the data that the command's `errors` say.
   *
   * @example A code that is misspelt does not compile
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
  readonly outcome: ByName<C, "outcome">;

  /**
   * Reads a stream: `client.stream.COUNT({ to: 3 })`. The request is sent when the first item is asked for, and the server keeps
   * no more items ahead than `credit`. Leaving the loop, by `break` or otherwise, ends the handler. After the parameters come
   * options: credit in items, timeoutMs for the whole stream (by default there is none; but it must begin within the client's),
   * signal, meta, and `items` for a conversation.
   *
   * If the connection is lost, or the server goes away, a stream whose handler tracks its items goes on by itself: the same request is
   * sent again with the parameter `after`, the id of the last item, within the client's `retryBudget`. Three losses without a new item
   * end it.
   *
   * The generator's return value is the handler's. It throws as {@linkcode Client.call} rejects, and with `BAD_REPLY` for a command
   * that answers once; items that came before a lost connection are handed out first. A `RangeError` if the credit is out of
   * range; a `TypeError` if the client is not `sequenced`.
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
  readonly stream: ByName<C, "stream">;

  /** What the client is doing. */
  readonly state: ClientState;

  /** Its servers, each with its state and its calls in flight: a row for each of `connectionsPerServer`. */
  readonly servers: readonly ServerStatus[];

  /** What became of its calls so far. `servers` says it for each server. */
  statistics(): ClientStatistics;

  /**
   * Ends the client: calls that wait reject with `CLOSED`, the server is told, the connection ends. Again is the same.
   * A program that forgets this ends all the same: only open calls and streams keep it alive.
   *
   * @returns A promise that resolves when all is closed. It does not reject.
   */
  close(): Promise<void>;
}
