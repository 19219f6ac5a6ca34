/**
 * A server: listens, serves all connections, and shuts down gracefully.
 *
 * In: a server's state, listeners and transports. Out: every connection served; a report of the shutdown. Refused:
 * connections beyond the limit, and every new connection during a shutdown.
 */

import {
  checkOptions,
  DEFAULT_GRACE_MS,
  DEFAULT_HOSTNAME,
  DEFAULT_PORT,
  OPTION_KINDS,
  type OptionKind,
} from "../limits.ts";
import { Sweeper } from "../session/deadlines.ts";
import { serverTelemetry } from "../session/telemetry.ts";
import { acceptAll, untilAllAccepted } from "../transport/accept_loop.ts";
import type { Acceptor, Refusal } from "../transport/acceptor.ts";
import { FD, HOSTNAME, LISTEN_PORT, PATH } from "../transport/address.ts";
import { Origins } from "../transport/origins.ts";
import { checkPlace, listen, type ServerNetwork } from "../transport/listen.ts";
import { PROXIES } from "../transport/proxy_header.ts";
import { standardError } from "../transport/line_writer.ts";
import { type ServerTls, TLS, type TlsSource } from "../transport/tls.ts";
import { callSafely, checkTransport, closeTransport, type Transport } from "../transport/transport.ts";
import { GROUP, MODE } from "../transport/unix.ts";
import { upgrade, type UpgradeInfo } from "../transport/upgraded_web_socket.ts";
import type { CallerConnection } from "./caller_connection.ts";
import { refuseConnection, ServerConnection } from "./server_connection.ts";
import type { ServerStatistics } from "./server_info.ts";
import type { ServerOptions, ServerState } from "./server_state.ts";

/** After the grace period, how long the last replies may take to reach their callers. */
const CUT_MS = 500;

/** Where a server listens. */
export interface ListenOptions {
  /**
   * The address to listen on. `0.0.0.0` means all addresses of this machine.
   *
   * @default {"127.0.0.1"}
   */
  hostname?: string;
  /**
   * The port. 0 means any free port, see {@linkcode Listener.port}.
   *
   * @default {1235}
   */
  port?: number;
  /**
   * A unix socket, not an address and a port. Replaces the file of an earlier server, unless a server answers on it.
   * Needs `--allow-net=unix:PATH,unix:PATH.new/s`, `--allow-read=PATH,PATH.new` and `--allow-write=PATH,PATH.new`.
   */
  path?: string;
  /**
   * The mode of the unix socket's file, which determines who may connect.
   *
   * @default {0o600}
   */
  mode?: number;
  /**
   * The group of the unix socket's file, by name or by number. Use it with a mode such as `0o660`. The server's user
   * must be in the group. A name needs `--allow-read=/etc/group`.
   */
  group?: string | number;
  /**
   * The file descriptor of a socket that already listens, instead of an address and a port or a path. A socket unit of
   * systemd passes 3. Needs no permission. The socket stays open at a shutdown, and new clients wait.
   */
  fd?: number;
  /**
   * Uses TLS with this certificate and key. With `ca`, clients also need a certificate. A function is called now and at
   * each {@linkcode Server.renew}. It must answer within 60 s.
   */
  tls?: TlsSource<ServerTls>;
  /**
   * Lets several servers share a port, for example one per core. Each gets a part of the connections. Linux only, and
   * needs `--unstable-net`.
   *
   * @default {false}
   */
  reusePort?: boolean;
  /**
   * The proxies whose connections begin with a header of the PROXY protocol (1 or 2), before TLS: addresses and ranges,
   * such as `10.0.0.0/8`, and `unix` for every peer of a unix socket. The client in the header is then the `peer` of
   * the connection. These proxies must send the header, and others must not.
   *
   * @default {[]}
   */
  proxyProtocolFrom?: readonly string[];
}

/** What each option of `listen()` must be. */
export const LISTEN_OPTIONS: Record<keyof ListenOptions, OptionKind> = {
  ...{ hostname: HOSTNAME, port: LISTEN_PORT, path: PATH, mode: MODE, group: GROUP, fd: FD },
  ...{ tls: TLS, reusePort: OPTION_KINDS.boolean, proxyProtocolFrom: PROXIES },
};

/** Where a server is listening. */
export interface Listener {
  /** The address it listens on, or the path of its unix socket. */
  readonly hostname: string;
  /** The port it listens on; 0 for a unix socket. */
  readonly port: number;
  /** Address and port as text, such as `127.0.0.1:1235`. */
  readonly address: string;
}

/** How a shutdown went. */
export interface ShutdownReport {
  /** Calls that were in flight and got their answer. */
  finished: number;
  /** Calls that were still in flight at the end of the grace period. They failed. */
  cut: number;
}

/** A server. All its connections, from all its addresses, share its limits, its counts and its shutdown. */
export interface Server extends AsyncDisposable {
  /** Resolves when the server has shut down. */
  readonly finished: Promise<void>;
  /**
   * Listens, and serves every connection. A server may listen on several addresses.
   *
   * @param options Where to listen.
   * @returns Where it listens.
   * @throws {RangeError} If the port is out of range.
   * @throws {TypeError} If an option is unknown or invalid, or excludes another, if the certificate or its key is
   * invalid, or if the server has been shut down.
   * @throws {Deno.errors.AddrInUse} If another program listens on this address.
   */
  listen(options?: ListenOptions): Promise<Listener>;
  /**
   * Serves one connection over any transport: a socket of another kind, a pipe, a pair in memory.
   *
   * @param transport The connection. From now on, only the server may use it.
   * @returns A promise of the end of both directions. An error on a connection only ends that connection.
   * @throws {TypeError} If it is no transport. The promise rejects for no other reason.
   *
   * @example A request as bytes, without a socket
   * ```ts
   * import { createServer, memoryPair } from "../mod.ts";
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
  /**
   * Opens a WebSocket for an HTTP request: a handler for `Deno.serve`, beside other routes, or for `deno serve`.
   * `webOrigins` lists the allowed pages. A peer is disconnected if more than `maxHeldBytes` of its data waits. On
   * packline's own port, the server stops reading instead.
   *
   * @param request The request.
   * @param info What the HTTP server knows about it. `remoteAddr` becomes the `peer`.
   * @returns The answer: 101, 400, 403 for a page that is not allowed or without `webOrigins`, 426 for a request without an
   * upgrade, or 503 without room and during a shutdown.
   * @throws {TypeError} In Node and Bun, which have no upgrade in `fetch`. There, listen with `webOrigins`.
   *
   * @example Beside other routes
   * ```ts
   * import { connect, createServer } from "../mod.ts";
   *
   * await using server = createServer({ webOrigins: ["https://app.example"] });
   * await using http = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request, info) => {
   *   return new URL(request.url).pathname === "/rpc" ? server.fetch(request, info) : new Response("a page");
   * });
   * await using client = await connect({ url: `ws://127.0.0.1:${http.addr.port}/rpc` });
   * console.assert(await client.call.PING() === "PONG");
   * ```
   */
  readonly fetch: (request: Request, info?: UpgradeInfo) => Response;
  /**
   * Calls each function that returns a certificate (`tls`) again. New handshakes use the new certificate. Open
   * connections do not change.
   *
   * @returns A promise that resolves when all have been called. It does not reject: an invalid certificate, such as one
   * that has expired or does not match its key, goes to `onError`, and the old one stays.
   */
  renew(): Promise<void>;
  /** The counts that STATS returns. */
  statistics(): ServerStatistics;
  /**
   * Shuts the server down: accepts no more connections, and answers the calls in flight. Clients with `notice` get a
   * notice, and are served until they leave. Others get `SHUTTING_DOWN` for new requests. `draining` of each handler
   * aborts. At the end of the grace period, the remaining calls are cut: the handler's signal aborts, and the caller
   * gets `CANCELLED`, or `GOING_AWAY` for a stream. It does not wait for the cleanup of handlers whose calls are over. A
   * second call with a shorter grace period shortens the first.
   *
   * @param options `graceMs`: how long to wait for calls in flight, in milliseconds, 10,000 by default.
   * @returns How many calls in flight were finished, and how many were cut.
   * @throws {RangeError} If `graceMs` is out of range: from 0 to the maximum of a timer, 2,147,483,647.
   * @throws {TypeError} If an option is unknown or of another kind.
   */
  shutdown(options?: { graceMs?: number }): Promise<ShutdownReport>;
}

/** The implementation of {@linkcode Server}. */
export class PacklineServer implements Server {
  readonly #state: ServerState;
  readonly #options: Pick<ServerOptions, "onConnect" | "onClose" | "random">;
  /** The pages that may open a WebSocket. */
  readonly #origins: Origins | undefined;
  readonly #network: ServerNetwork;
  readonly #sweeper: Sweeper;
  readonly #acceptors: Acceptor[] = [];
  /** The loops that take connections from the acceptors. */
  readonly #accepting: Promise<void>[] = [];
  readonly #finished = Promise.withResolvers<void>();
  /** Renewals run one at a time, in order, so that the latest certificate is used. */
  #renewing = Promise.resolve();
  #shutdown: Promise<ShutdownReport> | undefined;
  #graceEnds: (() => void) | undefined;

  constructor(state: ServerState, options: ServerOptions, network: ServerNetwork) {
    this.#state = state;
    this.#options = options;
    this.#origins = options.webOrigins && new Origins(options.webOrigins);
    this.#network = network;
    this.#sweeper = new Sweeper(state.clock, state.connections);
    const { counts, load, connections } = state;
    const unobserve = serverTelemetry?.observe(() => ({
      calls: load.handlers,
      connections: connections.size,
      bytesReceived: counts.bytesReceived,
      bytesSent: counts.bytesSent,
    }));
    if (unobserve) void this.finished.then(unobserve);
  }

  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  async listen(options: ListenOptions = {}): Promise<Listener> {
    checkOptions(options, LISTEN_OPTIONS);
    checkPlace(options);
    const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, ...more } = options;
    const { limits: { frameTimeoutMs, maxConnections }, clock } = this.#state;
    const rest = () => this.#state.restBeforeConnection();
    this.#refuseToListenAfterShutdown();
    const acceptor = await listen(this.#network, {
      ...{ ...more, hostname, port, handshakeTimeoutMs: frameTimeoutMs, maxConnections, clock, origins: this.#origins },
      rest,
      onRefused: (refusal) => this.#noteRefusal(refusal),
    });
    if (this.#shutdown !== undefined) acceptor.close();
    this.#refuseToListenAfterShutdown();
    this.#acceptors.push(acceptor);
    this.#accepting.push(acceptAll(acceptor, {
      onConnection: (transport) => void this.accept(transport),
      onError: (error) => this.#state.log.report(error, {}, "accept_failed"),
      rest,
      clock,
    }));
    return { hostname: acceptor.hostname, port: acceptor.port, address: acceptor.address };
  }

  #noteRefusal({ reason, ...refusal }: Refusal): void {
    this.#state.log.note({ ...refusal, message: `is refused: ${reason}` });
  }

  readonly fetch = (request: Request, info?: UpgradeInfo): Response => {
    const { clock, limits: { maxHeldBytes: maxUnreadBytes, frameTimeoutMs: openTimeoutMs } } = this.#state;
    const refuses = (peer: string | undefined) => this.#state.refusalOf(peer) !== undefined;
    const options = { origins: this.#origins, maxUnreadBytes, openTimeoutMs, clock, refuses };
    const { response, transport, refusal } = upgrade(request, info, options);
    if (transport !== undefined) void this.accept(transport);
    if (refusal !== undefined) this.#noteRefusal(refusal);
    return response;
  };

  async accept(transport: Transport): Promise<void> {
    const state = this.#state;
    checkTransport(transport, "the argument of accept()");
    const refusal = state.refusalOf(transport.peer);
    if (refusal !== undefined) return await refuseConnection(transport, refusal, state);
    const connection = this.#begin(transport);
    if (connection === undefined) return;
    state.connections.add(connection);
    state.counts.connectionsAccepted++;
    this.#sweeper.start();
    const { peer } = connection.caller;
    state.log.note({ event: "connection_opened", peer, message: "is connected" });
    void this.#tell(this.#options.onConnect, connection.caller);
    const released = callSafely(() => transport.released, (error) => state.log.report(error, { peer }));
    await connection.run();
    if (released === undefined) state.connections.delete(connection);
    void this.#tell(this.#options.onClose, connection.caller);
    state.log.note({ event: "connection_closed", peer, message: `is gone: ${connection.endReason}` });
    await released;
    state.connections.delete(connection);
  }

  /** Begins a connection. An error, such as one of the user's clock, ends only this connection. */
  #begin(transport: Transport): ServerConnection | undefined {
    try {
      return new ServerConnection(this.#state, transport, this.#options.random ?? Math.random);
    } catch (error) {
      this.#state.log.report(error, { peer: transport.peer });
      closeTransport(transport);
    }
  }

  /** Calls a hook. An error of the hook, which may be async, is reported, and ends nothing. */
  async #tell(hook: ServerOptions["onConnect"], connection: CallerConnection): Promise<void> {
    try {
      await hook?.(connection);
    } catch (error) {
      this.#state.log.report(error, { peer: connection.peer });
    }
  }

  renew(): Promise<void> {
    return this.#renewing = this.#renewing.then(async () => {
      for (const acceptor of this.#acceptors) {
        await acceptor.renew?.().catch((error) => this.#state.log.report(error, {}, "renewal_failed"));
      }
    });
  }

  statistics(): ServerStatistics {
    return this.#state.report.statistics();
  }

  shutdown(options: { graceMs?: number } = {}): Promise<ShutdownReport> {
    checkOptions(options, { graceMs: OPTION_KINDS.grace });
    const { graceMs = DEFAULT_GRACE_MS } = options;
    const { clock } = this.#state;
    const timer = clock.setTimer(() => this.#graceEnds?.(), graceMs, true);
    this.#shutdown ??= this.#drain(graceMs);
    return this.#shutdown.finally(() => clock.clearTimer(timer));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  #refuseToListenAfterShutdown(): void {
    if (this.#shutdown !== undefined) throw new TypeError("Cannot listen: it has been shut down");
  }

  async #drain(graceMs: number): Promise<ShutdownReport> {
    const state = this.#state;
    const { clock, counts, yieldBudget } = state;
    const endMs = clock.now() + graceMs;
    const graceEnded = new Promise<void>((resolve) => this.#graceEnds = resolve);
    state.drain.isWaiting = true;
    for (const acceptor of this.#acceptors) acceptor.hide?.();
    const isResting = () => yieldBudget.isResting;
    await untilAllAccepted(this.#acceptors, () => counts.connectionsAccepted, isResting, graceMs, clock);
    for (const acceptor of this.#acceptors) acceptor.close();
    // Refuse only after the port is closed: a client that is refused earlier could connect here again, and be reset.
    await Promise.all(this.#accepting);
    state.drain.isRefusing = true;
    for (const connection of state.connections) connection.drain(Math.max(0, endMs - clock.now()));
    const ended = Promise.all([...state.connections].map((connection) => connection.ended));
    await Promise.race([ended, graceEnded]);
    state.drain.isWaiting = false;
    for (const connection of state.connections) state.drain.cutCalls += connection.cut("the server has shut down");
    const timer = clock.setTimer(
      () => {
        for (const connection of state.connections) connection.close();
      },
      CUT_MS,
      true,
    );
    await ended;
    clock.clearTimer(timer);
    this.#sweeper.stop();
    state.close();
    await standardError.flush(); // the program may end now
    this.#finished.resolve();
    return { finished: state.drain.finishedCalls, cut: state.drain.cutCalls };
  }
}
