/**
 * Listens with TLS through `node:tls`, which is part of the runtime, for two things that `Deno.listenTls` cannot do:
 *
 * - ask a client for its certificate;
 * - send a small reply at once. `Deno.listenTls` cannot turn off Nagle's algorithm, so a reply that follows another
 *   one waits up to 40 ms for an acknowledgement.
 *
 * In: an address and certificates. Out: connections after their handshake and the check of the client. Refused: a
 * client that does not complete the handshake in time; it is closed and not reported.
 */

import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { MAX_TIMER_MS } from "../limits.ts";
import { identityOf } from "./certificate.ts";
import type { Clock, Timer } from "./clock.ts";
import type { Acceptor } from "./listen.ts";
import { ListenerWatch } from "./listener_watch.ts";
import { isDenied } from "./runtime.ts";
import { addressText } from "./tcp.ts";
import { askTls, messageOf, renewalProblem, type ServerTls, type TlsSource } from "./tls.ts";
import { peerOf, tlsTransport } from "./tls_socket.ts";
import type { Transport } from "./transport.ts";

/** The default number of concurrent handshakes. */
const MAX_HANDSHAKES = 512;

/** The types lack `reusePort`. */
type ListenOptions = Parameters<Server["listen"]>[0];

/** Options of the acceptor. */
export interface TlsListenOptions {
  /** The address. */
  hostname: string;
  /** The port; 0 picks a free one. */
  port: number;
  /** Lets several listeners share the port. */
  reusePort: boolean;
  /** The certificate, its key, and the authority for client certificates. */
  tls: TlsSource<ServerTls>;
  /** The time limit of a handshake. */
  handshakeTimeoutMs: number;
  /** The largest number of concurrent handshakes. One more ends the oldest, which is the least likely to complete. */
  maxHandshakes?: number;
  /** The largest number of open connections. */
  maxConnections: number;
  /** The clock. */
  clock: Clock;
}

/** Accepts clients that have completed the handshake. */
export class TlsAcceptor implements Acceptor {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  readonly #options: TlsListenOptions;
  readonly #server: Server;
  /** What new handshakes use. */
  #tls: ServerTls;
  readonly #handshakes: Handshakes;
  readonly #waiting: Transport[] = [];
  #accepting: PromiseWithResolvers<Transport> | undefined;
  #closed = false;
  readonly #watch: ListenerWatch;

  private constructor(server: Server, tls: ServerTls, options: TlsListenOptions) {
    const { address: hostname, port } = server.address() as { address: string; port: number };
    this.hostname = hostname;
    this.port = port;
    this.address = addressText({ transport: "tcp", hostname, port });
    this.#options = options;
    this.#server = server;
    this.#tls = tls;
    this.#handshakes = new Handshakes(options);
    server.on("connection", (socket: Socket) => {
      this.#watch.report();
      this.#handshakes.begin(socket);
    });
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    server.on("secureConnection", (socket) => this.#take(socket));
    server.on("error", ignore); // from now on only from listening again, which is checked
    this.#watch = new ListenerWatch({
      ...{ hostname, port, reusePort: options.reusePort, clock: options.clock },
      onLooked: (peer) => this.#handshakes.abandon(peer),
      onDeaf: () => this.#listenAnew(),
    });
  }

  /** Starts listening. */
  static async listen(options: TlsListenOptions): Promise<TlsAcceptor> {
    const { hostname, port, reusePort, maxConnections } = options;
    const tls = await ask(options.tls, "Cannot use TLS");
    const { cert, key, ca } = tls;
    // Deno's listener first: its errors are the same as without TLS. It also resolves a name; Node's listener would
    // throw outside the call if the address is not allowed.
    const first = Deno.listen({ hostname, port, reusePort });
    const address = first.addr.hostname;
    first.close();
    if (address !== hostname) Deno.listen({ hostname: address, port, reusePort }).close();
    const mutual = ca !== undefined;
    const server = createServer(
      {
        ...{ cert, key, ca, requestCert: mutual, rejectUnauthorized: mutual, allowHalfOpen: true, noDelay: true },
        handshakeTimeout: MAX_TIMER_MS, // `Handshakes` has the limit: Node's would leave the socket open
      } as Parameters<typeof createServer>[0],
    );
    server.maxConnections = maxConnections + (options.maxHandshakes ?? MAX_HANDSHAKES) + 1;
    const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen({ host: address, port, reusePort } as ListenOptions, resolve);
    await listening;
    server.off("error", reject);
    return new TlsAcceptor(server, tls, options);
  }

  accept(): Promise<Transport> {
    const next = this.#waiting.shift();
    if (next !== undefined) return Promise.resolve(next);
    if (this.#closed) return Promise.reject(new Deno.errors.BadResource("the listener is closed"));
    this.#accepting = Promise.withResolvers();
    return this.#accepting.promise;
  }

  get handshakes(): number {
    return this.#handshakes.size;
  }

  async renew(): Promise<void> {
    const { tls: source } = this.#options;
    if (typeof source !== "function") return;
    const cannot = `Cannot renew the certificate of ${this.address}, which stays in use`;
    const tls = await ask(source, cannot);
    const problem = renewalProblem(this.#tls, tls);
    if (problem !== undefined) throw new TypeError(`${cannot}: ${problem}`);
    // All three: without `ca` the runtime would reject every client.
    const { cert, key, ca } = tls;
    this.#server.setSecureContext({ cert, key, ca });
    this.#tls = tls;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.close();
    this.#watch.close();
    this.#handshakes.endAll();
    this.#accepting?.reject(new Deno.errors.BadResource("the listener is closed"));
    for (const transport of this.#waiting) transport.close();
  }

  #take(socket: TLSSocket): void {
    this.#handshakes.end(socket);
    const mutual = this.#tls.ca !== undefined;
    const certificate = mutual ? identityOf(socket.getPeerCertificate()) : undefined;
    // A resumed session does not check its certificate again, which may have expired.
    if (this.#closed || mutual && !(socket.authorized && certificate !== undefined)) {
      socket.destroy();
      return;
    }
    const transport = tlsTransport(socket, { certificate });
    const accepting = this.#accepting;
    this.#accepting = undefined;
    if (accepting) accepting.resolve(transport);
    else this.#waiting.push(transport);
  }

  #listenAnew(): void {
    const { hostname, port } = this;
    this.#server.close();
    this.#server.listen({ host: hostname, port, reusePort: this.#options.reusePort } as ListenOptions);
  }
}

/** The options of TLS; a missing permission is thrown as it is. */
async function ask(source: TlsSource<ServerTls>, cannot: string): Promise<ServerTls> {
  try {
    return await askTls(source);
  } catch (error) {
    throw isDenied(error) ? error : new TypeError(`${cannot}: ${messageOf(error)}`, { cause: error });
  }
}

/** The connections in their handshake. */
class Handshakes {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #most: number;
  /** By the peer's address: the only thing that the sockets before and after the handshake have in common. */
  readonly #sockets = new Map<string, { socket: Socket; timer: Timer }>();

  constructor({ clock, handshakeTimeoutMs, maxHandshakes = MAX_HANDSHAKES }: TlsListenOptions) {
    this.#clock = clock;
    this.#timeoutMs = handshakeTimeoutMs;
    this.#most = maxHandshakes;
  }

  get size(): number {
    return this.#sockets.size;
  }

  begin(socket: Socket): void {
    if (this.#sockets.size >= this.#most) {
      const [[oldest]] = this.#sockets;
      this.abandon(oldest);
    }
    const peer = peerOf(socket);
    const timer = this.#clock.setTimer(() => this.abandon(peer), this.#timeoutMs, false);
    this.#sockets.set(peer, { socket, timer });
    socket.on("error", ignore); // errors during the handshake are not reported
    socket.once("close", () => {
      if (this.#sockets.get(peer)?.socket === socket) this.#forget(peer);
    });
  }

  end(socket: TLSSocket): void {
    this.#forget(peerOf(socket));
  }

  endAll(): void {
    for (const peer of [...this.#sockets.keys()]) this.abandon(peer);
  }

  /** Ends a handshake if it is still running. */
  abandon(peer: string): void {
    this.#sockets.get(peer)?.socket.destroy();
    this.#forget(peer);
  }

  #forget(peer: string): void {
    const handshake = this.#sockets.get(peer);
    if (handshake) this.#clock.clearTimer(handshake.timer);
    this.#sockets.delete(peer);
  }
}

function ignore(): void {}
