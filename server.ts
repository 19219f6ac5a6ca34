/**
 * The server's face: `serve()` on an address, `serveConnection()` on any transport. As a program: what
 * `deno task serve` starts.
 *
 * In: commands and limits. Out: a {@linkcode Server}. Refused: a limit out of range, a command defined twice, an
 * address in use; each by an error that says so.
 */

import { encodeFrame } from "./codec/encode.ts";
import { Reply, writeReply } from "./codec/message.ts";
import { RpcError } from "./errors.ts";
import type { ServerStatistics } from "./handlers/command.ts";
import { Connection } from "./handlers/connection.ts";
import { ServerState, type ServiceOptions } from "./handlers/server_state.ts";
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
import { acceptAll } from "./transport/accept_loop.ts";
import { standardError } from "./transport/standard_error.ts";
import { closeQuietly, type Transport, writeAll } from "./transport/transport.ts";
import { type ServerTls, TLS } from "./transport/tls.ts";

/** How often connections are looked at for a frame, a silence or a write that takes too long. */
const SWEEP_MS = 500;

/** After the grace, how long the news of it may take to reach its callers. */
const CUT_MS = 500;

/** What `serve()` can be given: where to listen, beside everything in {@linkcode ServiceOptions}. */
export interface ServeOptions extends ServiceOptions {
  /**
   * The address to listen on; `0.0.0.0` is every one of this machine's.
   *
   * @default {"127.0.0.1"}
   */
  hostname?: string;
  /**
   * The port; 0 is any that is free, see {@linkcode Server.port}.
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

/** What each option must be, limits aside, whose ranges are checked with them. */
const SERVICE_OPTIONS: Record<keyof ServiceOptions, OptionKind> = {
  ...Object.fromEntries(LIMIT_NAMES.map((name) => [name, OPTION_KINDS.any])) as Record<keyof Limits, OptionKind>,
  commands: OPTION_KINDS.object,
  middleware: OPTION_KINDS.functions,
  onError: OPTION_KINDS.function,
  clock: OPTION_KINDS.object,
  worker: OPTION_KINDS.object,
};
const SERVE_OPTIONS: Record<keyof ServeOptions, OptionKind> = {
  ...{ hostname: HOSTNAME, port: LISTEN_PORT, path: PATH, tls: TLS, reusePort: OPTION_KINDS.boolean },
  ...SERVICE_OPTIONS,
};

/** How a shutdown went. */
export interface ShutdownReport {
  /** Calls that were in flight and got their answer. */
  finished: number;
  /** Calls that were in flight at the end of the grace, and were told so. */
  cut: number;
}

/** A server that listens. */
export interface Server extends AsyncDisposable {
  /** The address it listens on, or the path of its unix socket. */
  readonly hostname: string;
  /** The port it listens on; 0 for a unix socket. */
  readonly port: number;
  /** Address and port as text, `127.0.0.1:1235`. */
  readonly address: string;
  /** Resolves when the server has shut down. */
  readonly finished: Promise<void>;
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
 * const GREET = command({ handler: ({ name }: { name: string }) => ({ res: `Hello, ${name}!` }) });
 * const server = await serve({ port: 0, commands: { GREET } });
 * console.log(`listening on ${server.address}`);
 * await server.shutdown();
 * ```
 */
export async function serve(options: ServeOptions = {}): Promise<Server> {
  checkOptions(options, SERVE_OPTIONS);
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, path, tls, reusePort } = options;
  const service = new ServerState(options);
  const { limits: { frameTimeoutMs, maxConnections }, clock } = service;
  const address = { hostname, port, path, tls, reusePort };
  return new ListeningServer(
    service,
    await listen({ ...address, handshakeTimeoutMs: frameTimeoutMs, maxConnections, clock }),
  );
}

/**
 * Serves one connection over any transport: a socket of another kind, a pipe, a pair in memory.
 *
 * @param transport What carries its bytes; from now on, nobody else may use it.
 * @param options The commands, and what differs from the default limits.
 * @returns A promise that resolves when both directions have ended. It does not reject: what goes wrong on a
 * connection ends that connection.
 * @throws {RangeError} If a limit is out of range, or a command's number is taken twice.
 * @throws {TypeError} If a command is none, or its name is taken twice.
 *
 * @example A request as bytes, without a socket
 * ```ts
 * import { memoryPair, serveConnection } from "./mod.ts";
 *
 * const [here, there] = memoryPair();
 * const served = serveConnection(there);
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
export async function serveConnection(transport: Transport, options: ServiceOptions = {}): Promise<void> {
  checkOptions(options, SERVICE_OPTIONS);
  const service = new ServerState(options);
  const sweeper = new Sweeper(service);
  await new Connection(service, transport).run();
  sweeper.stop();
}

class ListeningServer implements Server {
  readonly hostname: string;
  readonly port: number;
  readonly finished: Promise<void>;
  readonly #service: ServerState;
  readonly #acceptor: Acceptor;
  readonly #sweeper: Sweeper;
  readonly #accepting: Promise<void>;
  readonly #finish: () => void;
  #shutdown: Promise<ShutdownReport> | undefined;
  #graceEnds: (() => void) | undefined;

  constructor(service: ServerState, acceptor: Acceptor) {
    this.#service = service;
    this.#acceptor = acceptor;
    this.hostname = acceptor.hostname;
    this.port = acceptor.port;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#finish = resolve;
    this.#sweeper = new Sweeper(service);
    this.#accepting = acceptAll(acceptor, {
      onConnection: (transport) => this.#serve(transport),
      onError: (error) => service.report(error, {}),
      clock: service.clock,
    });
  }

  get address(): string {
    return this.#acceptor.address;
  }

  statistics(): ServerStatistics {
    return this.#service.statistics();
  }

  shutdown({ graceMs = DEFAULT_GRACE_MS }: { graceMs?: number } = {}): Promise<ShutdownReport> {
    if (!(graceMs >= 0 && graceMs <= MAX_TIMER_MS)) {
      throw new RangeError(
        `Cannot use ${graceMs} as graceMs: it must be a number of milliseconds from 0 to ${MAX_TIMER_MS}`,
      );
    }
    const timer = this.#service.clock.setTimer(() => this.#graceEnds?.(), graceMs, true);
    this.#shutdown ??= this.#drain();
    return this.#shutdown.finally(() => this.#service.clock.clearTimer(timer));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  #serve(transport: Transport): void {
    const service = this.#service;
    if (service.connections.size >= service.limits.maxConnections) {
      service.counts.connectionsRefused++;
      void refuse(transport);
    } else {
      void new Connection(service, transport).run();
    }
  }

  async #drain(): Promise<ShutdownReport> {
    const service = this.#service;
    const graceEnded = new Promise<void>((resolve) => this.#graceEnds = resolve);
    service.stopping = true;
    this.#acceptor.close();
    // Only then is the port given up: a client that is refused before would find its way back here, and be reset.
    await this.#accepting;
    service.draining = true;
    for (const connection of service.connections) connection.drain();
    const ended = Promise.all([...service.connections].map((connection) => connection.ended));
    await Promise.race([ended, graceEnded]);
    for (const connection of service.connections) connection.cut();
    const timer = service.clock.setTimer(
      () => {
        for (const connection of service.connections) connection.close();
      },
      CUT_MS,
      true,
    );
    await ended;
    service.clock.clearTimer(timer);
    this.#sweeper.stop();
    await standardError.flush(); // the program may end now
    this.#finish();
    return { finished: service.finishedCalls, cut: service.cutCalls };
  }
}

/** Looks at all connections of a service now and then. */
class Sweeper {
  readonly #service: ServerState;
  #timer: unknown;
  #lookedMs: number;

  constructor(service: ServerState) {
    this.#service = service;
    this.#lookedMs = service.clock.now();
    this.#schedule();
  }

  stop(): void {
    this.#service.clock.clearTimer(this.#timer as number);
    this.#service.close();
  }

  #schedule(): void {
    this.#timer = this.#service.clock.setTimer(
      () => {
        const nowMs = this.#service.clock.now();
        // After a computation or a stop of the process, what has come meanwhile has not been read yet.
        const isBehind = nowMs - this.#lookedMs > 2 * SWEEP_MS;
        this.#lookedMs = nowMs;
        for (const connection of this.#service.connections) connection.sweep(nowMs, isBehind);
        this.#schedule();
      },
      SWEEP_MS,
      false,
    );
  }
}

/** Tells a client that there is no room for its connection. */
async function refuse(transport: Transport): Promise<void> {
  const error = new RpcError("OVERLOADED", "the server has no room for another connection");
  try {
    await writeAll(transport, encodeFrame(new Reply(undefined, error, false), writeReply));
    await transport.closeWrite();
  } catch {
    // The client has left already.
  }
  closeQuietly(transport);
}

if (import.meta.main) {
  // Not awaited: that module imports this one, which must have come to its end by then.
  import("./cli/serve.ts").then(async ({ main }) => Deno.exit(await main(Deno.args)));
}
