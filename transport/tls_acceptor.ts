/**
 * Listens with TLS through `node:tls`, which is part of the runtime, for two things that `Deno.listenTls` cannot do:
 *
 * - ask a client for its certificate;
 * - send a small reply at once. `Deno.listenTls` cannot turn off Nagle's algorithm, so a reply that follows another
 *   one waits up to 40 ms for an acknowledgement.
 *
 * In: an address and certificates. Out: connections after their handshake and the check of the client. Refused, and
 * reported: a client that does not complete the handshake in time; a named proxy that does not send its header before.
 */

import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { MAX_TIMER_MS } from "../limits.ts";
import type { Acceptor, Refusal } from "./acceptor.ts";
import { identityOf } from "./certificate.ts";
import type { Clock, Timer } from "./clock.ts";
import { ListenerWatch } from "./listener_watch.ts";
import { type ByteSource, headerIsLate, Proxies, readProxyHeader } from "./proxy_header.ts";
import { addressText } from "./tcp.ts";
import { isNoTls, messageOf, reasonOf, type ServerTls } from "./tls.ts";
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
  tls: ServerTls;
  /** The proxies whose connections begin with a header of the PROXY protocol, before the handshake. */
  proxyProtocolFrom?: readonly string[];
  /** The time limit of a handshake, with that header. */
  handshakeTimeoutMs: number;
  /** The largest number of concurrent handshakes. One more ends the oldest, which is the least likely to complete. */
  maxHandshakes?: number;
  /** The largest number of open connections. */
  maxConnections: number;
  /** The clock. */
  clock: Clock;
  /** Told why a connection is refused. */
  onRefused(refusal: Refusal): void;
}

/** Accepts clients that have completed the handshake. */
export class TlsAcceptor implements Acceptor {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  readonly #options: TlsListenOptions;
  readonly #server: Server;
  readonly #handshakes: Handshakes;
  readonly #waiting: Transport[] = [];
  #accepting: PromiseWithResolvers<Transport> | undefined;
  #closed = false;
  readonly #watch: ListenerWatch;

  private constructor(server: Server, options: TlsListenOptions) {
    const { address: hostname, port } = server.address() as { address: string; port: number };
    this.hostname = hostname;
    this.port = port;
    this.address = addressText({ transport: "tcp", hostname, port });
    this.#options = options;
    this.#server = server;
    this.#handshakes = new Handshakes(options);
    const proxies = new Proxies(options.proxyProtocolFrom ?? []);
    const [shakeHands] = server.listeners("connection") as ((socket: Socket) => void)[];
    server.off("connection", shakeHands); // it comes behind the header of a proxy
    server.on("connection", (socket: Socket) => {
      this.#watch.report();
      const isOfProxy = proxies.has(socket.remoteAddress ?? "");
      this.#handshakes.begin(socket, isOfProxy ? "proxy_header" : "tls_failed");
      if (isOfProxy) void this.#readHeader(socket, () => shakeHands.call(server, socket));
      else shakeHands.call(server, socket);
    });
    server.on("tlsClientError", (error, socket) => {
      const below = (socket as { _parent?: Socket })._parent ?? socket; // only that one has an address
      const noTls = "it does not speak TLS, which this port takes";
      if (isNoTls(error)) this.#handshakes.refuse(peerOf(below), "wrong_protocol", noTls);
      else this.#handshakes.refuse(peerOf(below), "tls_failed", reasonOf(error));
      socket.destroy();
    });
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
    const { hostname, port, reusePort, tls: { cert, key, ca }, maxConnections } = options;
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
    return new TlsAcceptor(server, options);
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

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.close();
    this.#watch.close();
    this.#handshakes.endAll();
    this.#accepting?.reject(new Deno.errors.BadResource("the listener is closed"));
    for (const transport of this.#waiting) transport.close();
  }

  /** Reads what a proxy says about its client, before the handshake of that client. */
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
    const client = this.#handshakes.end(socket);
    const mutual = this.#options.tls.ca !== undefined;
    const certificate = mutual ? identityOf(socket.getPeerCertificate()) : undefined;
    // A resumed session does not check its certificate again, which may have expired.
    const isStranger = mutual && !(socket.authorized && certificate !== undefined);
    if (this.#closed || isStranger) {
      socket.destroy();
      const refusal = {
        event: "tls_failed",
        reason: "its certificate is not valid",
        peer: client ?? peerOf(socket),
      } as const;
      if (isStranger) this.#options.onRefused(refusal);
      return;
    }
    const transport = tlsTransport(socket, { certificate, peer: client });
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

/** A connection in its handshake. */
interface Handshake {
  readonly socket: Socket;
  readonly timer: Timer;
  /** What has failed if it does not come to its end. */
  awaited: "proxy_header" | "tls_failed";
  /** Whose connection it is, if a proxy has told. */
  client?: string;
}

/** The connections in their handshake. */
class Handshakes {
  readonly #options: TlsListenOptions;
  readonly #most: number;
  /** By the peer's address: the only thing that the sockets before and after the handshake have in common. */
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
    socket.once("close", () => {
      if (this.#sockets.get(peer)?.socket === socket) this.#forget(peer);
    });
  }

  /** A proxy has told whose connection this is. */
  tell(peer: string, client: string | undefined): void {
    const handshake = this.#sockets.get(peer);
    if (handshake !== undefined) Object.assign(handshake, { client, awaited: "tls_failed" });
  }

  /** Returns whose connection it is, if a proxy has told. */
  end(socket: TLSSocket): string | undefined {
    const peer = peerOf(socket);
    const client = this.#sockets.get(peer)?.client;
    this.#forget(peer);
    return client;
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

/** Reads a socket without a byte more than is asked for: the rest stays in it, for the handshake. */
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
