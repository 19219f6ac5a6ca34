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

import type { AddressInfo, Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { MAX_TIMER_MS } from "../limits.ts";
import { identityOf } from "./certificate.ts";
import type { Clock, Timer } from "./clock.ts";
import type { Acceptor } from "./listen.ts";
import { isDenied } from "./runtime.ts";
import { NodeListener } from "./node_listener.ts";
import { addressText } from "./tcp.ts";
import { askTls, messageOf, renewalProblem, type ServerTls, type TlsSource } from "./tls.ts";
import { nodeTransport, peerOf } from "./tls_socket.ts";
import type { Transport } from "./transport.ts";

/** The default number of concurrent handshakes. */
const MAX_HANDSHAKES = 512;

/** Options of the acceptor. */
export interface TlsListenOptions {
  /** The address. */
  hostname: string;
  /** The port; 0 picks a free one. */
  port: number;
  /** Lets several listeners share the port. */
  reusePort: boolean;
  /** A listening socket, in place of an address and a port. */
  fd?: number;
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
  /** A socket that was given stays open: clients wait there for the next server. */
  readonly hide?: () => void;
  readonly #options: TlsListenOptions;
  readonly #server: Server;
  /** What new handshakes use. */
  #tls: ServerTls;
  readonly #listener: NodeListener;
  readonly #handshakes: Handshakes;

  private constructor(
    server: Server,
    tls: ServerTls,
    listener: NodeListener,
    { address: hostname, port }: AddressInfo,
    options: TlsListenOptions,
  ) {
    this.hostname = hostname;
    this.port = port;
    this.address = addressText({ transport: "tcp", hostname, port });
    this.#options = options;
    this.#server = server;
    this.#tls = tls;
    this.#listener = listener;
    this.#handshakes = new Handshakes(options);
    if (options.fd !== undefined) this.hide = () => listener.hide();
    server.on("connection", (socket: Socket) => this.#handshakes.begin(socket));
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    server.on("secureConnection", (socket) => this.#take(socket));
  }

  /** Starts listening. */
  static async listen(options: TlsListenOptions): Promise<TlsAcceptor> {
    const { maxConnections, clock } = options;
    const tls = await ask(options.tls, "Cannot use TLS");
    const { cert, key, ca } = tls;
    const mutual = ca !== undefined;
    const server = createServer(
      {
        ...{ cert, key, ca, requestCert: mutual, rejectUnauthorized: mutual, allowHalfOpen: true, noDelay: true },
        handshakeTimeout: MAX_TIMER_MS, // `Handshakes` has the limit: Node's would leave the socket open
      } as Parameters<typeof createServer>[0],
    );
    server.maxConnections = maxConnections + (options.maxHandshakes ?? MAX_HANDSHAKES) + 1;
    const place = options.fd === undefined ? placeOf(options) : { fd: options.fd };
    const listener = await NodeListener.listen(server, place, clock);
    if (listener.address !== undefined) return new TlsAcceptor(server, tls, listener, listener.address, options);
    listener.close();
    throw new TypeError("Cannot use TLS on a unix socket");
  }

  accept(): Promise<Transport> {
    return this.#listener.accept();
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
    this.#listener.close();
    this.#handshakes.endAll();
  }

  #take(socket: TLSSocket): void {
    this.#handshakes.end(socket);
    const mutual = this.#tls.ca !== undefined;
    const certificate = mutual ? identityOf(socket.getPeerCertificate()) : undefined;
    // A resumed session does not check its certificate again, which may have expired.
    if (mutual && !(socket.authorized && certificate !== undefined)) socket.destroy();
    else this.#listener.add(nodeTransport(socket, { certificate }));
  }
}

/**
 * Where Node is to listen. Deno's listener is asked first: its errors are the same as without TLS. It also resolves a
 * name; Node's listener would throw outside the call if the address is not allowed.
 */
function placeOf({ hostname, port, reusePort }: TlsListenOptions): { host: string; port: number; reusePort: boolean } {
  const first = Deno.listen({ hostname, port, reusePort });
  const host = first.addr.hostname;
  first.close();
  if (host !== hostname) Deno.listen({ hostname: host, port, reusePort }).close();
  return { host, port, reusePort };
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
