/**
 * The server's face: `createServer()`, which serves any connection that it is given, and `serve()`, which listens as well.
 * As a program: what `deno task serve` starts.
 *
 * In: commands and limits. Out: a {@linkcode Server}. Refused: a limit out of range, a command defined twice, an
 * address in use; each by an error that says so.
 */

import { encodeFrame } from "./codec/encode.ts";
import { Reply } from "./codec/message.ts";
import { writeReply } from "./codec/write_message.ts";
import { RpcError } from "./errors.ts";
import type { ServerStatistics } from "./handlers/server_info.ts";
import type { CallerConnection } from "./handlers/caller_connection.ts";
import { ServerConnection } from "./handlers/server_connection.ts";
import { type ServerOptions, ServerState } from "./handlers/server_state.ts";
import {
  checkOptions,
  DEFAULT_GRACE_MS,
  DEFAULT_HOSTNAME,
  DEFAULT_PORT,
  LIMIT_NAMES,
  type Limits,
  MAX_TIMER_MS,
  OPTION_KINDS,
  type OptionKind,
} from "./limits.ts";
import { HOSTNAME, LISTEN_PORT, PATH } from "./transport/address.ts";
import { type Acceptor, listen } from "./transport/listen.ts";
import { Sweeper } from "./session/sweeper.ts";
import { acceptAll } from "./transport/accept_loop.ts";
import { standardError } from "./transport/standard_error.ts";
import { closeTransport, type Transport, writeAll } from "./transport/transport.ts";
import { type ServerTls, TLS } from "./transport/tls.ts";

/** After the grace, how long the news of it may take to reach its callers. */
const CUT_MS = 500;

/** Where a server listens. */
export interface ListenOptions {
  /**
   * The address to listen on; `0.0.0.0` is every one of this machine's.
   *
   * @default {"127.0.0.1"}
   */
  hostname?: string;
  /**
   * The port; 0 is any that is free, see {@linkcode Listener.port}.
   *
   * @default {1235}
   */
  port?: number;
  /**
   * A unix socket to listen on, in place of an address and a port. Its file gets mode 0600; one that an earlier server
   * left behind is replaced, one on which a server answers is not. Needs `--allow-read` and `--allow-write` for it.
   */
  path?: string;
  /** Speaks TLS, with this certificate and key; with `ca`, clients need a certificate as well. */
  tls?: ServerTls;
  /**
   * Lets several servers listen on the same port, each for its part of the connections: one a core. Linux only, and
   * needs `--unstable-net`.
   *
   * @default {false}
   */
  reusePort?: boolean;
}

/** What `serve()` can be given: what a server is, and where it listens. */
export interface ServeOptions extends ServerOptions, ListenOptions {}

/** What each option must be, limits aside, whose ranges are checked with them. */
const SERVER_OPTIONS: Record<keyof ServerOptions, OptionKind> = {
  ...Object.fromEntries(LIMIT_NAMES.map((name) => [name, OPTION_KINDS.any])) as Record<keyof Limits, OptionKind>,
  commands: OPTION_KINDS.object,
  middleware: OPTION_KINDS.functions,
  onConnect: OPTION_KINDS.function,
  onClose: OPTION_KINDS.function,
  checkResults: OPTION_KINDS.boolean,
  onError: OPTION_KINDS.function,
  clock: OPTION_KINDS.object,
  worker: OPTION_KINDS.object,
};
const LISTEN_OPTIONS: Record<keyof ListenOptions, OptionKind> = {
  ...{ hostname: HOSTNAME, port: LISTEN_PORT, path: PATH, tls: TLS, reusePort: OPTION_KINDS.boolean },
};

/** Where a server is listening. */
export interface Listener {
  /** The address it listens on, or the path of its unix socket. */
  readonly hostname: string;
  /** The port it listens on; 0 for a unix socket. */
  readonly port: number;
  /** Address and port as text, `127.0.0.1:1235`. */
  readonly address: string;
}

/** How a shutdown went. */
export interface ShutdownReport {
  /** Calls that were in flight and got their answer. */
  finished: number;
  /** Calls that were in flight at the end of the grace, and were told so. */
  cut: number;
}

/** A server: all its connections share its limits, its counts and its end, wherever they come from. */
export interface Server extends AsyncDisposable {
  /** Resolves when the server has shut down. */
  readonly finished: Promise<void>;
  /**
   * Listens, and serves every connection that comes. A server may listen in several places.
   *
   * @param options Where.
   * @returns Where it listens.
   * @throws {RangeError} If the port is out of range.
   * @throws {TypeError} If an option does not exist or is of another kind, if the certificate or its key is none, or if the
   * server has been shut down.
   * @throws {Deno.errors.AddrInUse} If something else listens there.
   */
  listen(options?: ListenOptions): Promise<Listener>;
  /**
   * Serves one connection over any transport: a socket of another kind, a pipe, a pair in memory.
   *
   * @param transport What carries its bytes; from now on, nobody else may use it.
   * @returns A promise that resolves when both directions have ended. It does not reject: what goes wrong on a connection ends
   * that connection.
   *
   * @example A request as bytes, without a socket
   * ```ts
   * import { createServer, memoryPair } from "./mod.ts";
   *
   * await using server = createServer();
   * const [here, there] = memoryPair();
   * const served = server.accept(there);
   * await here.write(new TextEncoder().encode("\x20\x26")); // a payload of 6 bytes follows
   * await here.write(Uint8Array.of(0x81, 0xa3, 0x63, 0x6d, 0x64, 0x01, 0x0a)); // { cmd: 1 }
   * await here.closeWrite();
   * const reply = new Uint8Array(100);
   * for (let bytes = await here.read(reply); bytes !== null; bytes = await here.read(reply)) {
   *   console.log(reply.subarray(0, bytes)); // { res: "PONG" }
   * }
   * await served;
   * ```
   */
  accept(transport: Transport): Promise<void>;
  /** The counts that STATS tells. */
  statistics(): ServerStatistics;
  /**
   * Ends the server in order: accepts no more, answers what is in flight, refuses what comes meanwhile with
   * `SHUTTING_DOWN`, then closes. At the end of the grace what still runs is cut: its handler's signal is aborted
   * and its caller gets `CANCELLED`. A second call with a shorter grace shortens the first.
   *
   * @param options `graceMs`: how long to wait for what is in flight, in milliseconds, 10,000 by default.
   * @returns How many calls in flight were finished, and how many were cut.
   * @throws {RangeError} If the grace is not a number of milliseconds from 0 to what a timer can hold.
   */
  shutdown(options?: { graceMs?: number }): Promise<ShutdownReport>;
}

/** A server that listens, as `serve()` gives it. */
export interface ListeningServer extends Server, Listener {}

/**
 * Listens, and serves every connection.
 *
 * @param options Where to listen, the commands, and what differs from the default limits.
 * @returns The server, listening.
 * @throws {RangeError} If a limit or the port is out of range, or a command's number is taken twice.
 * @throws {TypeError} If an option does not exist or is of another kind, or a command is none, or its name is taken twice.
 * @throws {TypeError} If the certificate or its key is none.
 * @throws {Deno.errors.AddrInUse} If something else listens there.
 *
 * @example A server of one's own in five lines
 * ```ts
 * import { command, serve } from "./mod.ts";
 *
 * const GREET = command(({ name }: { name: string }) => `Hello, ${name}!`);
 * const server = await serve({ port: 0, commands: { GREET } });
 * console.log(`listening on ${server.address}`);
 * await server.shutdown();
 * ```
 */
export async function serve(options: ServeOptions = {}): Promise<ListeningServer> {
  checkOptions(options, { ...LISTEN_OPTIONS, ...SERVER_OPTIONS });
  const { hostname, port, path, tls, reusePort, ...serverOptions } = options;
  const server = createServer(serverOptions);
  const listener = await server.listen({ hostname, port, path, tls, reusePort });
  return Object.assign(server, { hostname: listener.hostname, port: listener.port, address: listener.address });
}

/**
 * Makes a server that listens nowhere yet: give it connections by `accept()`, or let it `listen()`, as often as wanted.
 *
 * @param options The commands, and what differs from the default limits.
 * @returns The server.
 * @throws {RangeError} If a limit is out of range, or a command's number is taken twice.
 * @throws {TypeError} If an option does not exist or is of another kind, or a command is none, or its name is taken twice.
 *
 * @example One server on two ports
 * ```ts
 * import { createServer } from "./mod.ts";
 *
 * const server = createServer({ maxInFlight: 64 });
 * const { address } = await server.listen({ port: 0 });
 * const other = await server.listen({ port: 0 });
 * console.log(`listening on ${address} and ${other.address}`);
 * await server.shutdown();
 * ```
 */
export function createServer(options: ServerOptions = {}): Server {
  checkOptions(options, SERVER_OPTIONS);
  return new PacklineServer(new ServerState(options), options);
}

class PacklineServer implements Server {
  readonly finished: Promise<void>;
  readonly #state: ServerState;
  readonly #onConnect: ServerOptions["onConnect"];
  readonly #onClose: ServerOptions["onClose"];
  readonly #sweeper: Sweeper;
  readonly #acceptors: Acceptor[] = [];
  /** The loops that take connections from them. */
  readonly #accepting: Promise<void>[] = [];
  readonly #finish: () => void;
  #shutdown: Promise<ShutdownReport> | undefined;
  #graceEnds: (() => void) | undefined;

  constructor(state: ServerState, { onConnect, onClose }: ServerOptions) {
    this.#state = state;
    this.#onConnect = onConnect;
    this.#onClose = onClose;
    this.#sweeper = new Sweeper(state.clock, state.connections);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#finish = resolve;
  }

  async listen(options: ListenOptions = {}): Promise<Listener> {
    checkOptions(options, LISTEN_OPTIONS);
    const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, path, tls, reusePort } = options;
    const { limits: { frameTimeoutMs, maxConnections }, clock } = this.#state;
    this.#refuseToListenAfterShutdown();
    const address = { hostname, port, path, tls, reusePort };
    const acceptor = await listen({ ...address, handshakeTimeoutMs: frameTimeoutMs, maxConnections, clock });
    if (this.#shutdown !== undefined) acceptor.close();
    this.#refuseToListenAfterShutdown();
    this.#acceptors.push(acceptor);
    this.#accepting.push(acceptAll(acceptor, {
      onConnection: (transport) => void this.accept(transport),
      onError: (error) => this.#state.errors.report(error, {}),
      clock,
    }));
    return { hostname: acceptor.hostname, port: acceptor.port, address: acceptor.address };
  }

  async accept(transport: Transport): Promise<void> {
    const state = this.#state;
    if (state.drain.isRefusing) return await refuse(transport, new RpcError("SHUTTING_DOWN"));
    if (state.connections.size >= state.limits.maxConnections) {
      state.counts.connectionsRefused++;
      return await refuse(transport, new RpcError("OVERLOADED", "the server has no room for another connection"));
    }
    const connection = new ServerConnection(state, transport);
    state.connections.add(connection);
    state.counts.connectionsAccepted++;
    this.#sweeper.start();
    this.#tell(this.#onConnect, connection.caller);
    await connection.run();
    state.connections.delete(connection);
    this.#tell(this.#onClose, connection.caller);
    if (state.connections.size === 0) this.#sweeper.stop();
  }

  /** What a hook throws is reported, and ends nothing. */
  #tell(hook: ServerOptions["onConnect"], connection: CallerConnection): void {
    try {
      hook?.(connection);
    } catch (error) {
      this.#state.errors.report(error, { peer: connection.peer });
    }
  }

  statistics(): ServerStatistics {
    return this.#state.report.statistics();
  }

  shutdown({ graceMs = DEFAULT_GRACE_MS }: { graceMs?: number } = {}): Promise<ShutdownReport> {
    if (!(graceMs >= 0 && graceMs <= MAX_TIMER_MS)) {
      throw new RangeError(
        `Cannot use ${graceMs} as graceMs: it must be a number of milliseconds from 0 to ${MAX_TIMER_MS}`,
      );
    }
    const { clock } = this.#state;
    const timer = clock.setTimer(() => this.#graceEnds?.(), graceMs, true);
    this.#shutdown ??= this.#drain();
    return this.#shutdown.finally(() => clock.clearTimer(timer));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  #refuseToListenAfterShutdown(): void {
    if (this.#shutdown !== undefined) throw new TypeError("Cannot listen: it has been shut down");
  }

  async #drain(): Promise<ShutdownReport> {
    const state = this.#state;
    const graceEnded = new Promise<void>((resolve) => this.#graceEnds = resolve);
    state.drain.phase = "stopping";
    for (const acceptor of this.#acceptors) acceptor.close();
    // Only then is the port given up: a client that is refused before would find its way back here, and be reset.
    await Promise.all(this.#accepting);
    state.drain.phase = "refusing";
    for (const connection of state.connections) connection.drain();
    const ended = Promise.all([...state.connections].map((connection) => connection.ended));
    await Promise.race([ended, graceEnded]);
    state.drain.phase = "cutting";
    for (const connection of state.connections) connection.cut();
    const timer = state.clock.setTimer(
      () => {
        for (const connection of state.connections) connection.close();
      },
      CUT_MS,
      true,
    );
    await ended;
    state.clock.clearTimer(timer);
    this.#sweeper.stop();
    state.close();
    await standardError.flush(); // the program may end now
    this.#finish();
    return { finished: state.drain.finishedCalls, cut: state.drain.cutCalls };
  }
}

/** Tells a client why its connection is not served. */
async function refuse(transport: Transport, error: RpcError): Promise<void> {
  try {
    await writeAll(transport, encodeFrame(new Reply(undefined, error, false), writeReply));
    await transport.closeWrite();
  } catch {
    // The client has left already.
  }
  closeTransport(transport);
}

if (import.meta.main) {
  // Not awaited: that module imports this one, which must have come to its end by then.
  import("./cli/serve.ts").then(async ({ main }) => Deno.exit(await main(Deno.args)));
}
