/**
 * The client's face: `connect()`, and the types that carry a command's parameters and reply to its caller.
 *
 * In: an address, or any other way to get a transport; the commands, as a value or as a type alone. Out: a
 * {@linkcode Client}. Refused: an address that cannot be reached; options that are none; names and parameters that the
 * commands do not have, by the compiler.
 */

import { BUILT_IN_NUMBERS, MAX_ALIVE_MS, MIN_ALIVE_MS } from "../codec/message.ts";
import type { RpcError } from "../errors.ts";
import type { Commands } from "../handlers/command.ts";
import type { BuiltIns } from "../handlers/registry.ts";
import type { AnyCommands, ByName, Outcome } from "./call_types.ts";
import {
  checkLimit,
  checkOptions,
  checkTimeout,
  DEFAULT_ALIVE_MS,
  DEFAULT_HOSTNAME,
  DEFAULT_LIMITS,
  DEFAULT_PORT,
  DEFAULT_TIMEOUT_MS,
  OPTION_KINDS,
  type OptionKind,
} from "../limits.ts";
import { DIAL_PORT, HOSTNAME, parseServer, PATH } from "../transport/address.ts";
import { ClientFace } from "./client_face.ts";
import type { ClientMiddleware, Meta, OutgoingCall } from "./middleware.ts";
import type { LinkState } from "./link.ts";
import { RETRY_BUDGET, RetryBudget, type RetryBudgetOptions } from "./retry_budget.ts";
import { type ClientState, RpcClient } from "./rpc_client.ts";
import type { ServersOptions, ServerStatus } from "./servers.ts";
import type { ClientStatistics, SentCalls } from "./statistics.ts";
import { type Clock, systemClock } from "../transport/clock.ts";
import { dialAddress, textOf } from "../transport/dial.ts";
import type { Transport } from "../transport/transport.ts";
import type { StreamOptions } from "./incoming_stream.ts";
import type { CallOptions } from "./client_call.ts";
import { type ClientTls, TLS } from "../transport/tls.ts";

export type { CallOptions, ClientMiddleware, ClientState, Meta, OutgoingCall, ServerStatus, StreamOptions };
export type { AnyCommands, BuiltIns, ClientStatistics, LinkState, Outcome, RetryBudgetOptions, SentCalls };
export { type DnsOptions, dnsServers } from "../transport/resolve.ts";

/** What `connect()` can be given. */
export interface ConnectOptions<C extends Commands = AnyCommands> {
  /**
   * The server's name or address.
   *
   * @default {"127.0.0.1"}
   */
  hostname?: string;
  /**
   * The server's port.
   *
   * @default {1235}
   */
  port?: number;
  /** The server's unix socket, in place of a name and a port. Needs `--allow-read` and `--allow-write` for it. */
  path?: string;
  /**
   * Several servers, in place of one: `["a.internal:1235", "[::1]:1235", "unix:/run/b.sock"]`; or a function that finds
   * them, and is asked again every 30 s while calls are made, and after a loss. Each call goes to the better of two by calls
   * in flight; a stream stays where it began. A server that fails sits out, and must answer a PING before it gets calls again.
   *
   * @example One of two servers is not there
   * ```ts
   * import { connect, serve } from "../mod.ts";
   * import { assertEquals } from "@std/assert";
   *
   * await using server = await serve({ port: 0 });
   * await using client = await connect({ servers: ["127.0.0.1:9", `127.0.0.1:${server.port}`] });
   * assertEquals(await client.call.PING(), "PONG");
   * assertEquals(client.servers[1].state, "open");
   * ```
   */
  servers?: readonly string[] | (() => readonly string[] | Promise<readonly string[]>);
  /**
   * Connections to each server. More than one lets one client use all workers of a port: the system gives each
   * connection to one of them.
   *
   * @default {1}
   */
  connectionsPerServer?: number;
  /** Speaks TLS: `{}` trusts whom the runtime trusts, `ca` another authority; `cert` and `key` are the client's own. */
  tls?: ClientTls;
  /**
   * The commands as the server has them: those with a number then go by it. With their type alone,
   * `connect<typeof commands>()`, all go by name and no code of the server's is loaded.
   */
  commands?: C;
  /**
   * Whether calls carry a `seq`, so that many are answered side by side and each can be cancelled. Without it, for
   * servers such as the article's, replies are matched in order; there are no streams, and an end of a call by its
   * timeout or signal is not told to the server.
   *
   * @default {true}
   */
  sequenced?: boolean;
  /**
   * How long a call waits for its reply, in milliseconds, unless it says something else; `Infinity` is without end.
   *
   * @default {30_000}
   */
  timeoutMs?: number;
  /**
   * Calls that may be unanswered on the wire; those above it wait here, so that a cancel always gets through. As many
   * as a server takes from one connection.
   *
   * @default {1_024}
   */
  maxInFlight?: number;
  /**
   * The largest payload, either way, in bytes. The server is told, unless it is 57,310, which it takes for granted; above
   * that it may then use long frames. Without `seq` nothing is told, and it is 57,310 at the most.
   *
   * @default {1_048_576}
   */
  maxPayloadBytes?: number;
  /**
   * While a call is open, the server hears from this client at least this often, in milliseconds: 1,000 to 3,600,000, or 0
   * for no such promise. It is kept by a PING after a quarter of the time, and a server that does not answer in another half of it
   * is lost: its calls and streams end with `CONNECTION_LOST`. The server in turn ends what breaks the promise, so that the
   * handlers of a client that vanished do not run on. Without `seq` there is none.
   *
   * @default {30_000}
   */
  aliveMs?: number;
  /**
   * Whether a call waits, within its time, while no server can be reached. With `false` it rejects at once with a
   * `CONNECTION_LOST` that is `retryable` and says why there is no connection; while the first dial runs, it waits for that.
   *
   * @default {true}
   */
  waitForReady?: boolean;
  /**
   * Makes a connection, in place of TCP to `hostname` and `port`: one end of `memoryPair()`, TLS, a unix socket. Asked
   * again after each loss, with the server that is wanted. The signal is aborted when nobody wants the connection any more.
   */
  dial?: (signal: AbortSignal, server: string) => Promise<Transport>;
  /**
   * How many retries all calls together may take, so that an outage is not multiplied: 20 % of the calls and 10 a second, over
   * the last 10 s. Beyond that, callers get the errors as they come. With both at 0, nothing is sent again.
   *
   * @default {{ perCall: 0.2, perSecond: 10 }}
   */
  retryBudget?: RetryBudgetOptions;
  /** What goes with every call, such as a token; or a function that makes it, asked for each call. A call's own is added to it. */
  meta?: Meta | (() => Meta | Promise<Meta>);
  /** Stands before every call, the first one outermost. */
  middleware?: readonly ClientMiddleware[];
  /**
   * Whether to return before there is a connection: the first call dials, and waits within its timeout for a server that may
   * start later.
   *
   * @default {false}
   */
  lazy?: boolean;
  /** Closes the client when it is aborted. */
  signal?: AbortSignal;
  /** Told of each new state, and of the error that led to it. What it throws is nobody's to catch. */
  onState?: (state: ClientState, error?: RpcError) => void;
  /** The clock to go by; a test may hold it still. */
  clock?: Clock;
  /** Numbers from 0 to 1 for the jitter between dials; a test may say which. */
  random?: () => number;
}

const SERVERS: OptionKind = {
  is: (value) => typeof value === "function" || OPTION_KINDS.texts.is(value) && (value as string[]).length > 0,
  must: "be an array of servers, or a function that finds them",
};

const MAX_CONNECTIONS = 64;
const CONNECTIONS: OptionKind = {
  is: (value) => Number.isInteger(value) && value as number >= 1 && value as number <= MAX_CONNECTIONS,
  must: `be a whole number from 1 to ${MAX_CONNECTIONS}`,
};

const ALIVE: OptionKind = {
  is: (value) =>
    value === 0 || Number.isInteger(value) && value as number >= MIN_ALIVE_MS && value as number <= MAX_ALIVE_MS,
  must: `be 0, or a whole number from ${MIN_ALIVE_MS} to ${MAX_ALIVE_MS}`,
};

/** What each option must be, numbers in a range aside, which are checked where they are used. */
const CONNECT_OPTIONS: Record<keyof ConnectOptions, OptionKind> = {
  ...{ hostname: HOSTNAME, port: DIAL_PORT, path: PATH, tls: TLS },
  ...{ commands: OPTION_KINDS.object, sequenced: OPTION_KINDS.boolean, clock: OPTION_KINDS.object },
  ...{ servers: SERVERS, connectionsPerServer: CONNECTIONS, aliveMs: ALIVE, waitForReady: OPTION_KINDS.boolean },
  ...{ dial: OPTION_KINDS.function, onState: OPTION_KINDS.function, random: OPTION_KINDS.function },
  ...{ meta: OPTION_KINDS.any, middleware: OPTION_KINDS.functions, retryBudget: RETRY_BUDGET },
  ...{ lazy: OPTION_KINDS.boolean, signal: OPTION_KINDS.object },
  ...{ timeoutMs: OPTION_KINDS.any, maxInFlight: OPTION_KINDS.any, maxPayloadBytes: OPTION_KINDS.any },
};

/**
 * A client, connected. When its connection is lost, it dials again as soon as a call needs it: within half a second where
 * the server had answered, but not more than once in 10 s; else after a wait that grows up to 5 s. Each wait is random, so
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
   * It rejects with an {@linkcode RpcError}: with the server's code; or `TIMEOUT`, `CANCELLED` (by the signal, whose reason is the
   * `cause`), `CONNECTION_LOST`, `CLOSED`, `BAD_REPLY`; or `OVERLOADED`, if 256 MiB of calls wait to be sent already.
   * `retryable` says whether the server has certainly not started it. With a `TypeError` if the parameters or `meta` cannot be
   * sent, such as a `Date` or a `Map`; the text names the field. With a `RangeError` if the timeout is not a number, or the
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
   * signal, meta.
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

/**
 * Connects to a server.
 *
 * @param options Where the server is, which commands it has, and what differs from the defaults.
 * @returns The client, connected.
 * @throws {RpcError} `CONNECTION_LOST`, if the server cannot be reached; its text says why, and `cause` holds the error.
 * @throws {Deno.errors.NotCapable} If the program may not use the network.
 * @throws {RangeError} If a limit, the port or the timeout is out of range.
 * @throws {TypeError} If an option does not exist, or is of another kind.
 *
 * @example A typed client without any code of the server's: names complete, replies are typed
 * ```ts
 * import { command, connect, serve } from "../mod.ts";
 *
 * const commands = { ADD: command(({ a, b }: { a: number; b: number }) => a + b) };
 * await using server = await serve({ port: 0, commands });
 *
 * await using client = await connect<typeof commands>({ port: server.port });
 * const sum = await client.call.ADD({ a: 1, b: 2 });
 * if (sum.toFixed(1) !== "3.0") throw new Error(`expected 3, got ${sum}`);
 * ```
 */
export async function connect<C extends Commands = AnyCommands>(options: ConnectOptions<C> = {}): Promise<Client<C>> {
  checkOptions(options, CONNECT_OPTIONS);
  const { signal, onState, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const close = () => void engine.close();
  const engine = new RpcClient({
    ...serversOf(options),
    numbers: numbersOf(options.commands ?? {}),
    retryBudget: new RetryBudget(options.retryBudget),
    sequenced: options.sequenced ?? true,
    timeoutMs: checkedDefault(timeoutMs),
    maxInFlight: checkLimit("maxInFlight", options.maxInFlight ?? DEFAULT_LIMITS.maxInFlight),
    aliveMs: options.aliveMs ?? DEFAULT_ALIVE_MS,
    policy: { idempotent: false, waitForReady: options.waitForReady ?? true },
    maxPayloadBytes: checkLimit("maxPayloadBytes", options.maxPayloadBytes ?? DEFAULT_LIMITS.maxPayloadBytes),
    onState: signal === undefined ? onState : (state, error) => {
      if (state === "closed") signal.removeEventListener("abort", close); // the signal may outlive many clients
      onState?.(state, error);
    },
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
  });
  if (signal?.aborted) close();
  else signal?.addEventListener("abort", close, { once: true });
  if (!options.lazy) await engine.open();
  return new ClientFace(engine, { meta: options.meta, middleware: options.middleware ?? [] }) as unknown as Client<C>;
}

/** Where the servers are, and how a connection to one is made. */
function serversOf(options: ConnectOptions): Pick<ServersOptions, "servers" | "connectionsPerServer" | "dial"> {
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, path, tls, servers, connectionsPerServer = 1 } = options;
  if (servers === undefined) {
    const address = { hostname, port, path, tls };
    const dial = options.dial ?? ((signal) => dialAddress(address, signal));
    return { servers: [options.dial === undefined ? textOf(address) : "the server"], connectionsPerServer, dial };
  }
  if ((options.hostname ?? options.port ?? path) !== undefined) {
    throw new TypeError("Cannot use servers together with hostname, port or path: name all of them in servers");
  }
  if (options.dial !== undefined) return { servers, connectionsPerServer, dial: options.dial };
  const dial = (signal: AbortSignal, server: string) => dialAddress({ ...parseServer(server, port), tls }, signal);
  const checked = (found: readonly string[]) => {
    for (const server of found) parseServer(server, port);
    return found;
  };
  if (typeof servers !== "function") return { servers: checked(servers), connectionsPerServer, dial };
  return { servers: async () => checked(await servers()), connectionsPerServer, dial };
}

/** A client whose every call were out of time is a mistake. */
function checkedDefault(timeoutMs: unknown): number {
  if (checkTimeout(timeoutMs) > 0) return timeoutMs as number;
  throw new RangeError(
    `Cannot use ${timeoutMs} as timeoutMs of a client: it must be above 0, and Infinity is without end`,
  );
}

function numbersOf(commands: Commands): Map<string, number> {
  const numbers = new Map(BUILT_IN_NUMBERS);
  for (const [name, { number }] of Object.entries(commands)) {
    if (number !== undefined) numbers.set(name, number);
  }
  return numbers;
}
