/**
 * Listens with TLS through `node:tls`, which is part of the runtime, for two things that `Deno.listenTls` cannot do:
 *
 * - ask a client for its certificate;
 * - send a small reply at once. `Deno.listenTls` cannot turn off Nagle's algorithm, so a reply that follows another one
 *   waits up to 40 ms for an acknowledgement.
 *
 * In: an address and certificates. Out: connections after their handshake and the check of the client. Refused, and
 * reported: a client that does not complete the handshake in time; a named proxy that does not send its header first.
 */

import type { AddressInfo, Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { MAX_TIMER_MS } from "../limits.ts";
import type { Acceptor, Refusal } from "./acceptor.ts";
import { identityOf, renewalProblem } from "./certificate.ts";
import type { Clock, Timer } from "./clock.ts";
import { NodeListener } from "./node_listener.ts";
import { type ByteSource, headerIsLate, Proxies, readProxyHeader } from "./proxy_header.ts";
import { isDenied, messageOf } from "./runtime.ts";
import { addressText } from "./address.ts";
import { askServerTls, isNoTls, reasonOf, type ServerTls, type TlsSource } from "./tls.ts";
import { nodeTransport, peerOf } from "./node_transport.ts";
import type { Transport } from "./transport.ts";

/** The default number of concurrent handshakes. */
const MAX_HANDSHAKES = 512;

/** The most fingerprints that are kept. Without its fingerprint, a client needs a new session. */
const MAX_CHECKED = 10_000;

/** Why a client's certificate is refused. The runtime does not tell which of these it is. */
const NOT_VALID = "its certificate is damaged, not valid now, not for clients, or not signed by an authority in ca";

/** Options of the acceptor. */
interface TlsListenOptions {
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
  /** The proxies whose connections begin with a header of the PROXY protocol, before the handshake. */
  proxyProtocolFrom?: readonly string[];
  /** The time limit of a handshake, including that header. */
  handshakeTimeoutMs: number;
  /** The largest number of concurrent handshakes. One more ends the oldest, which is the least likely to complete. */
  maxHandshakes?: number;
  /** The largest number of open connections. */
  maxConnections: number;
  /** Called before each handshake. Returns a promise if open connections come first. */
  rest?(): Promise<void> | undefined;
  /** The clock. */
  clock: Clock;
  /** Called with the reason if a connection is refused. */
  onRefused(refusal: Refusal): void;
}

/** Accepts clients that have completed the handshake. */
export class TlsAcceptor implements Acceptor {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  /** A socket from the system stays open, and clients wait there for the next server. */
  readonly hide?: () => void;
  readonly #options: TlsListenOptions;
  readonly #server: Server;
  /** The certificates for new handshakes. */
  #tls: ServerTls;
  /** After a change of the authorities: the clients whose certificates were checked since then, by fingerprint. */
  #checked: Set<string> | undefined;
  readonly #listener: NodeListener;
  readonly #handshakes: Handshakes;
  /** The runtime accepts all connections at once, but their handshakes begin one by one. */
  #begun = Promise.resolve();

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
    const proxies = new Proxies(options.proxyProtocolFrom ?? []);
    const [shakeHands] = server.listeners("connection") as ((socket: Socket) => void)[];
    server.off("connection", shakeHands); // the handshake comes after the header of a proxy
    server.on("connection", (socket: Socket) => {
      // A client that has already left has no address. Nothing would tell its end, and its socket would stay open.
      if (socket.remoteAddress === undefined) return void socket.destroy();
      const isOfProxy = proxies.has(socket.remoteAddress);
      this.#handshakes.begin(socket, isOfProxy ? "proxy_header" : "tls_failed");
      this.#begun = this.#begun.then(async () => {
        await options.rest?.();
        if (socket.destroyed) return;
        if (isOfProxy) void this.#readHeader(socket, () => shakeHands.call(server, socket));
        else shakeHands.call(server, socket);
      });
    });
    server.on("tlsClientError", (error, socket) => {
      const noTls = "it does not speak TLS, which this port takes";
      if (isNoTls(error)) this.#handshakes.refuse(addressOf(socket), "wrong_protocol", noTls);
      else if (socket.authorizationError) this.#handshakes.refuse(addressOf(socket), "tls_failed", NOT_VALID);
      else this.#handshakes.refuse(addressOf(socket), "tls_failed", reasonOf(error));
      socket.destroy();
    });
    server.on("secureConnection", (socket) => this.#take(socket));
  }

  /** Starts listening. */
  static async listen(options: TlsListenOptions): Promise<TlsAcceptor> {
    const { hostname: host, port, reusePort, fd, maxConnections, clock } = options;
    const tls = await ask(options.tls, clock, "Cannot use TLS");
    const { cert, key, ca } = tls;
    const mutual = ca !== undefined;
    const server = createServer(
      {
        ...{ cert, key, ca, requestCert: mutual, rejectUnauthorized: mutual, allowHalfOpen: true, noDelay: true },
        handshakeTimeout: MAX_TIMER_MS, // `Handshakes` has the limit: Node's would leave the socket open
      } as Parameters<typeof createServer>[0],
    );
    server.maxConnections = maxConnections + (options.maxHandshakes ?? MAX_HANDSHAKES) + 1;
    const listener = await NodeListener.listen(server, fd === undefined ? { host, port, reusePort } : { fd }, clock);
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
    const { tls: source, clock } = this.#options;
    if (typeof source !== "function") return;
    const cannot = `Cannot renew the certificate of ${this.address}, which stays in use`;
    const tls = await ask(source, clock, cannot);
    const problem = renewalProblem(this.#tls, tls);
    if (problem !== undefined) throw new TypeError(`${cannot}: ${problem}`);
    // Pass all three: without `ca`, the runtime would reject every client.
    const { cert, key, ca } = tls;
    this.#server.setSecureContext({ cert, key, ca });
    if (ca !== this.#tls.ca) this.#checked = new Set();
    this.#tls = tls;
  }

  close(): void {
    this.#listener.close();
    this.#handshakes.endAll();
  }

  /** Reads the header in which a proxy describes its client, before that client's handshake. */
  async #readHeader(socket: Socket, shakeHands: () => void): Promise<void> {
    const peer = peerOf(socket);
    try {
      const client = await readProxyHeader(bytesOf(socket));
      if (client === null) return void this.#handshakes.abandon(peer);
      this.#handshakes.tell(peer, client);
      shakeHands();
    } catch (error) {
      this.#handshakes.refuse(peer, "proxy_header", messageOf(error));
    }
  }

  #take(socket: TLSSocket): void {
    const peer = this.#handshakes.end(socket);
    const mutual = this.#tls.ca !== undefined;
    // A resumed session does not check the certificate again, which may have expired.
    const certificate = mutual ? identityOf(socket.getPeerCertificate()) : undefined;
    if (!mutual || socket.authorized && certificate !== undefined && this.#isChecked(socket)) {
      this.#listener.add(nodeTransport(socket, { certificate, peer }));
      return;
    }
    socket.destroy();
    this.#options.onRefused({ event: "tls_failed", reason: NOT_VALID, peer });
  }

  /**
   * Whether a client's certificate was checked against the authorities of today. The runtime resumes sessions from before
   * a change of them. The client then needs a new session, which it makes when it has no old one left.
   */
  #isChecked(socket: TLSSocket): boolean {
    const checked = this.#checked;
    if (checked === undefined) return true;
    const { fingerprint256 } = socket.getPeerCertificate();
    if (socket.isSessionReused()) return checked.has(fingerprint256);
    if (checked.size >= MAX_CHECKED) checked.clear();
    checked.add(fingerprint256);
    return true;
  }
}

/** Gets the TLS options. The error for a missing permission is thrown unchanged. */
async function ask(source: TlsSource<ServerTls>, clock: Clock, cannot: string): Promise<ServerTls> {
  try {
    return await askServerTls(source, clock);
  } catch (error) {
    throw isDenied(error) ? error : new TypeError(`${cannot}: ${messageOf(error)}`, { cause: error });
  }
}

/** A connection in its handshake. */
interface Handshake {
  readonly socket: Socket;
  readonly timer: Timer;
  /** The event to report if the connection gets no further. */
  awaited: "proxy_header" | "tls_failed";
  /** The client's address, if a proxy has sent it. */
  client?: string;
}

/** The connections in their handshake. */
class Handshakes {
  readonly #options: TlsListenOptions;
  readonly #most: number;
  /** Keyed by the peer's address, the only thing that the sockets before and after the handshake have in common. */
  readonly #sockets = new Map<string, Handshake>();

  constructor(options: TlsListenOptions) {
    this.#options = options;
    this.#most = options.maxHandshakes ?? MAX_HANDSHAKES;
  }

  get size(): number {
    return this.#sockets.size;
  }

  begin(socket: Socket, awaited: Handshake["awaited"]): void {
    if (this.#sockets.size >= this.#most) {
      const [[oldest]] = this.#sockets;
      this.refuse(oldest, "tls_failed", "too many newer handshakes are under way");
    }
    const { clock, handshakeTimeoutMs } = this.#options;
    const peer = peerOf(socket);
    const timer = clock.setTimer(() => this.#late(peer), handshakeTimeoutMs, false);
    this.#sockets.set(peer, { socket, timer, awaited });
    socket.on("error", ignore); // errors during the handshake are not reported
    // Not at once: the runtime first closes the socket of a client whose certificate it rejects, and then says so.
    socket.once("close", () =>
      setImmediate(() => {
        if (this.#sockets.get(peer)?.socket === socket) this.#forget(peer);
      }));
  }

  /** A proxy has sent the client's address. */
  tell(peer: string, client: string | undefined): void {
    const handshake = this.#sockets.get(peer);
    if (handshake !== undefined) Object.assign(handshake, { client, awaited: "tls_failed" });
  }

  /** Ends a completed handshake. Returns the client's address, which may come from a proxy. */
  end(socket: TLSSocket): string {
    const peer = addressOf(socket);
    const client = this.#sockets.get(peer)?.client;
    this.#forget(peer);
    return client ?? peer;
  }

  endAll(): void {
    for (const peer of [...this.#sockets.keys()]) this.abandon(peer);
  }

  /** Ends a handshake if it is still running, and reports why. */
  refuse(peer: string, event: Refusal["event"], reason: string): void {
    const handshake = this.#sockets.get(peer);
    if (handshake === undefined) return;
    this.abandon(peer);
    this.#options.onRefused({ event, reason, peer: handshake.client ?? peer });
  }

  /** Ends a handshake if it is still running. */
  abandon(peer: string): void {
    this.#sockets.get(peer)?.socket.destroy();
    this.#forget(peer);
  }

  #late(peer: string): void {
    const { handshakeTimeoutMs } = this.#options;
    const awaited = this.#sockets.get(peer)?.awaited;
    if (awaited === "proxy_header") this.refuse(peer, awaited, headerIsLate(handshakeTimeoutMs));
    else this.refuse(peer, "tls_failed", `it has not completed its handshake within ${handshakeTimeoutMs} ms`);
  }

  #forget(peer: string): void {
    const handshake = this.#sockets.get(peer);
    if (handshake) this.#options.clock.clearTimer(handshake.timer);
    this.#sockets.delete(peer);
  }
}

/** The address of a client: of the TCP socket, which has it in a failed handshake and after the client has left. */
function addressOf(socket: TLSSocket): string {
  return peerOf((socket as { _parent?: Socket })._parent ?? socket);
}

/** Reads no more bytes from a socket than are requested. The rest stays in the socket for the handshake. */
function bytesOf(socket: Socket): ByteSource {
  return {
    read: (into) =>
      new Promise((resolve) => {
        const look = () => {
          const chunk: Uint8Array | null = socket.readableLength === 0
            ? null
            : socket.read(Math.min(into.length, socket.readableLength));
          if (chunk === null && !socket.readableEnded && !socket.destroyed) return;
          for (const event of ["readable", "end", "close"]) socket.off(event, look);
          into.set(chunk ?? []);
          resolve(chunk?.length ?? null);
        };
        for (const event of ["readable", "end", "close"]) socket.on(event, look);
        look();
      }),
  };
}

function ignore(): void {}
