/**
 * The options of `connect()`, with their checks and defaults, and the client that they open, over the sockets of any
 * runtime. Each runtime has its own entry point with the same `connect()`.
 *
 * In: options, and the sockets of the runtime. Out: the options of an `RpcClient`; a {@linkcode Client}. Refused:
 * options that are unknown, of the wrong kind or out of range; an address that cannot be reached.
 */

import { BUILT_IN_NUMBERS, MAX_ALIVE_MS, MIN_ALIVE_MS } from "../codec/message.ts";
import type { RpcError } from "../errors.ts";
import type { Commands } from "../handlers/command.ts";
import {
  checkLimit,
  checkOptions,
  DEFAULT_ALIVE_MS,
  DEFAULT_HOSTNAME,
  DEFAULT_LIMITS,
  DEFAULT_PORT,
  DEFAULT_TIMEOUT_MS,
  OPTION_KINDS,
  type OptionKind,
} from "../limits.ts";
import {
  type Address,
  DIAL_PORT,
  dialAddress,
  HOSTNAME,
  type Network,
  parseServer,
  PATH,
  type ServerPlace,
  textOf,
  WEB_SOCKET_URL,
} from "../transport/address.ts";
import { CLOCK, type Clock, systemClock } from "../transport/clock.ts";
import { type ClientTls, TLS, type TlsSource } from "../transport/tls.ts";
import type { Transport } from "../transport/transport.ts";
import type { AnyCommands, Listed, Served } from "./call_types.ts";
import type { Client } from "./client.ts";
import type { ClientMiddleware, Meta } from "./call_sender.ts";
import { signals } from "./calls.ts";
import { checkTimeout } from "./client_call.ts";
import { ClientFace } from "./client_face.ts";
import { RETRY_BUDGET, RetryBudget, type RetryBudgetOptions } from "./retries.ts";
import { type ClientState, RpcClient, type RpcClientOptions } from "./rpc_client.ts";
import type { ServersOptions } from "./servers.ts";

export { checkOptions }; // for testing.ts

/** The options of `connect()`. */
export interface ConnectOptions<C extends Served<C> = AnyCommands> {
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
  /**
   * The server's unix socket, instead of a name and a port. Needs `--allow-net=unix:PATH`, and `--allow-read` and
   * `--allow-write` for it.
   */
  path?: string;
  /** The server's WebSocket, instead of a name and a port: `wss://app.example/rpc`, or `ws://` without TLS. */
  url?: string;
  /**
   * Several servers instead of one: `["a.internal:1235", "[::1]:1235", "unix:/run/b.sock", "wss://c.example/rpc"]`, or
   * a function that returns them. A name without a port has 1235. The function is called again every 30 s while there
   * are calls, and after a lost connection. Of two random servers, each call goes to the one with fewer calls in
   * flight. A stream stays on its server. A server that fails gets no calls for a while, and must answer a PING before
   * it gets calls again.
   *
   * @example One of two servers is not running
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
   * Connections to each server, at most 64. With several, one client can use all workers of a port, because the system
   * gives each connection to one worker.
   *
   * @default {1}
   */
  connectionsPerServer?: number;
  /**
   * Uses TLS. `{}` trusts the runtime's authorities, and `ca` adds another one. `cert` and `key` are the client's own.
   * A function is called for each connection, so that it can return renewed certificates, for example from files.
   */
  tls?: TlsSource<ClientTls>;
  /**
   * The server's commands. The client then calls commands with a number by their number. With only their type,
   * `connect<typeof commands>()`, it calls all by name, and the server's code is not loaded.
   */
  commands?: C & Listed<C>;
  /**
   * Whether calls carry a `seq`, so that the server runs them in parallel and each can be cancelled. Without `seq`, for
   * servers such as the article's, replies are matched in order. Then there are no streams, and the server does not
   * learn that a call has ended by its timeout or signal.
   *
   * @default {true}
   */
  sequenced?: boolean;
  /**
   * How long a call waits for its reply by default, in milliseconds. `Infinity` means no limit. A stream, or a call
   * with `items`, only has to begin within this time.
   *
   * @default {30_000}
   */
  timeoutMs?: number;
  /**
   * The maximum number of calls in flight on a connection. Further calls wait in the client, so that a cancel always
   * gets through. The default is also that of a server, for one connection.
   *
   * @default {1_024}
   */
  maxInFlight?: number;
  /**
   * The largest payload in both directions, in bytes. The client sends this limit to the server, unless it is the
   * protocol's default of 57,310. With a larger limit, the server may use long frames. Without `seq`, the client does
   * not send it, and the maximum is 57,310.
   *
   * @default {1_048_576}
   */
  maxPayloadBytes?: number;
  /**
   * While a call is open, the client promises to send something at least this often, in milliseconds: 1,000 to
   * 3,600,000, or 0 for no promise. It sends PING after a quarter of this time. If the server does not answer within
   * another half of it, at least 2 s, the connection is lost: its calls and streams end with `CONNECTION_LOST`. If the
   * client breaks the promise, the server ends its calls, so that the handlers of a dead client do not continue.
   * Without `seq` there is no promise.
   *
   * @default {30_000}
   */
  aliveMs?: number;
  /**
   * Whether a call waits, within its timeout, while no server can be reached. With `false` it rejects at once with a
   * `CONNECTION_LOST` that is `retryable` and says why there is no connection. It still waits for the first attempt to
   * connect.
   *
   * @default {true}
   */
  waitForReady?: boolean;
  /**
   * Makes a connection, instead of TCP to `hostname` and `port`: one end of `memoryPair()`, TLS, a unix socket. It is
   * called again after each loss, with the server to connect to. The signal aborts when the connection is no longer
   * needed.
   */
  dial?: (signal: AbortSignal, server: string) => Promise<Transport>;
  /**
   * How many retries all calls together may use, so that retries do not make an outage worse: 20 % of the calls of the
   * last 10 s plus 10 per second. Above this limit, callers get the errors. With both at 0, the client resends nothing.
   *
   * @default {{ perCall: 0.2, perSecond: 10 }}
   */
  retryBudget?: RetryBudgetOptions;
  /**
   * Metadata for every call, such as a token, or a function that returns it for each call. A call's own `meta` is added
   * to it.
   */
  meta?: Meta | (() => Meta | Promise<Meta>);
  /** The middleware for every call, the outermost first. */
  middleware?: readonly ClientMiddleware[];
  /**
   * Whether to return without a connection. The first call then connects, and waits within its timeout for a server
   * that may start later.
   *
   * @default {false}
   */
  lazy?: boolean;
  /** Closes the client when it is aborted. */
  signal?: AbortSignal;
  /** Called with each new state, and with the error that caused it. If it throws, the error is uncaught. */
  onState?: (state: ClientState, error?: RpcError) => void;
  /** The clock. A test may stop it. */
  clock?: Clock;
  /**
   * Random numbers from 0 to 1 for the delays between connection attempts and of retries, and for the choice of a
   * server. A test may choose them.
   */
  random?: () => number;
}

const SERVERS: OptionKind = {
  is: (value) => typeof value === "function" || OPTION_KINDS.texts.is(value) && (value as string[]).length > 0,
  must: "be an array of servers, or a function that finds them",
};

/** What is more than nothing is checked at each call. Its errors do not show the value, which may be a secret. */
const META: OptionKind = {
  is: Boolean,
  must: 'be an object of texts, as { token: "…" }, or a function that gives one',
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

/** What each option must be. Numbers with a range are checked where they are used. */
export const CONNECT_OPTIONS: Record<keyof ConnectOptions, OptionKind> = {
  ...{ hostname: HOSTNAME, port: DIAL_PORT, path: PATH, url: WEB_SOCKET_URL, tls: TLS },
  ...{ commands: OPTION_KINDS.commands, sequenced: OPTION_KINDS.boolean, clock: CLOCK },
  ...{ servers: SERVERS, connectionsPerServer: CONNECTIONS, aliveMs: ALIVE, waitForReady: OPTION_KINDS.boolean },
  ...{ dial: OPTION_KINDS.function, onState: OPTION_KINDS.function, random: OPTION_KINDS.function },
  ...{ meta: META, middleware: OPTION_KINDS.functions, retryBudget: RETRY_BUDGET },
  ...{ lazy: OPTION_KINDS.boolean, signal: OPTION_KINDS.signal },
  ...{ timeoutMs: OPTION_KINDS.number, maxInFlight: OPTION_KINDS.any, maxPayloadBytes: OPTION_KINDS.any },
};

/**
 * Checks the options of `connect()`, and adds the defaults.
 *
 * @param options The options.
 * @param network The sockets of the runtime.
 * @returns The options of the engine, except `onState`.
 * @throws {RangeError} If a number is out of range.
 * @throws {TypeError} If an option is unknown or invalid, or excludes another.
 */
export function resolveConnectOptions(
  options: ConnectOptions,
  network: Network,
): Omit<RpcClientOptions, "onState"> {
  checkOptions(options, CONNECT_OPTIONS);
  const { timeoutMs = DEFAULT_TIMEOUT_MS, maxInFlight = DEFAULT_LIMITS.maxInFlight } = options;
  const { maxPayloadBytes = DEFAULT_LIMITS.maxPayloadBytes } = options;
  return {
    ...serversOf(options, network),
    numbers: numbersOf(options.commands ?? {}),
    retryBudget: new RetryBudget(options.retryBudget),
    sequenced: options.sequenced ?? true,
    maxInFlight: checkLimit("maxInFlight", maxInFlight),
    aliveMs: options.aliveMs ?? DEFAULT_ALIVE_MS,
    policy: { idempotent: false, waitForReady: options.waitForReady ?? true, timeoutMs: checkedDefault(timeoutMs) },
    maxPayloadBytes: checkLimit("maxPayloadBytes", maxPayloadBytes),
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
  };
}

/**
 * Opens a client.
 *
 * @param options The options of `connect()`.
 * @param network The sockets of the runtime.
 * @returns The client, connected unless it is `lazy`.
 */
export async function openClient<C extends Served<C>>(
  options: ConnectOptions<C>,
  network: Network,
): Promise<Client<C>> {
  const settings = resolveConnectOptions(options, network);
  const { signal, onState } = options;
  const close = { handleEvent: () => void client.close() };
  const engine = new RpcClient({
    ...settings,
    onState: signal === undefined ? onState : (state, error) => {
      if (state === "closed") signals.delete(signal, close); // the signal may outlive many clients
      onState?.(state, error);
    },
  });
  const client = new ClientFace(engine, { meta: options.meta, middleware: [...options.middleware ?? []] });
  if (signal?.aborted) void client.close();
  else if (signal !== undefined) signals.add(signal, close);
  if (!options.lazy) await engine.open();
  return client as unknown as Client<C>;
}

/** Where the servers are, and how a connection to one is made. */
function serversOf(
  options: ConnectOptions,
  network: Network,
): Pick<ServersOptions, "servers" | "connectionsPerServer" | "dial"> {
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, path, url, tls, servers, connectionsPerServer = 1 } =
    options;
  const address = options.hostname ?? options.port;
  const parts = address ?? path;
  if (url !== undefined && parts !== undefined) {
    throw new TypeError("Cannot use url together with hostname, port or path: it says where the server is");
  }
  if (path !== undefined && address !== undefined) {
    throw new TypeError("Cannot use path together with hostname or port: it says where the server is");
  }
  if (options.dial !== undefined && (parts ?? url ?? tls) !== undefined) {
    throw new TypeError("Cannot use dial together with hostname, port, path, url or tls: it makes the connection");
  }
  const withTls = (place: ServerPlace): Address => {
    if (tls !== undefined && place.path !== undefined) {
      throw new TypeError(`Cannot use tls with ${textOf(place)}: a unix socket has no TLS`);
    }
    if (tls === undefined || !place.url?.startsWith("ws:")) return { ...place, tls };
    throw new TypeError(`Cannot use tls with ${place.url}: the URL of a WebSocket with TLS begins with wss://`);
  };
  if (servers === undefined) {
    const address = withTls(url === undefined ? { hostname, port, path } : parseServer(url, port));
    const dial = options.dial ?? ((signal) => dialAddress(network, address, signal));
    return { servers: [options.dial === undefined ? textOf(address) : "the server"], connectionsPerServer, dial };
  }
  if ((parts ?? url) !== undefined) {
    throw new TypeError("Cannot use servers together with hostname, port, path or url: name all of them in servers");
  }
  if (options.dial !== undefined) return { servers, connectionsPerServer, dial: options.dial };
  const dial = (signal: AbortSignal, server: string) =>
    dialAddress(network, withTls(parseServer(server, port)), signal);
  const checked = (found: readonly string[]) => {
    if (OPTION_KINDS.texts.is(found)) { for (const server of found) withTls(parseServer(server, port)); }
    return found; // what is no list is refused where it is used
  };
  if (typeof servers !== "function") return { servers: checked(servers), connectionsPerServer, dial };
  return { servers: async () => checked(await servers()), connectionsPerServer, dial };
}

/** A default timeout of 0 is a mistake, because every call would time out. */
function checkedDefault(timeoutMs: unknown): number {
  if (checkTimeout(timeoutMs) > 0) return timeoutMs as number;
  throw new RangeError(
    `Cannot use ${timeoutMs} as timeoutMs of a client: it must be above 0, and Infinity means no limit`,
  );
}

function numbersOf(commands: Commands): Map<string, number> {
  const numbers = new Map(BUILT_IN_NUMBERS);
  for (const [name, command] of Object.entries(commands)) {
    const number = OPTION_KINDS.object.is(command) ? command.number : 0; // which is no command's
    if (number === undefined) continue;
    if (!(Number.isSafeInteger(number) && number > 0)) {
      throw new TypeError(`Cannot use commands: "${name}" is not a command; make it with command()`);
    }
    numbers.set(name, number);
  }
  return numbers;
}
