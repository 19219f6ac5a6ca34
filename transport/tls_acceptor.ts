/**
 * Listening with TLS, by way of `node:tls`, which the runtime carries, for what `Deno.listenTls` cannot do:
 *
 * - ask a client for its certificate;
 * - send a small reply at once. It leaves Nagle's algorithm on, with no switch for it, so that a reply which follows another
 *   waits for the acknowledgement of the one before: 40 ms, where the peer has nothing to send.
 *
 * In: an address and certificates. Out: connections whose handshake is over, and whose other end has been checked. Refused:
 * whoever does not come through the handshake, in time; it is closed, and nobody behind the acceptor hears of it.
 *
 * Node's listener, as the runtime has it, has one flaw: where a connection comes and the process has no file descriptor
 * left, it accepts no more, then or later, and says nothing. So the acceptor looks after it: when it has heard of no client
 * for a while, it is one itself, and where that goes unnoticed it listens anew.
 */

import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { MAX_TIMER_MS } from "../limits.ts";
import { identityOf } from "./certificate.ts";
import type { Clock, Timer } from "./clock.ts";
import type { Acceptor } from "./listen.ts";
import { addressText } from "./tcp.ts";
import type { ServerTls } from "./tls.ts";
import { peerOf, tlsTransport } from "./tls_socket.ts";
import type { Transport } from "./transport.ts";

/** Handshakes under way at once, unless something else is said. */
const MAX_HANDSHAKES = 512;

/** How often it is looked whether the listener lives, and how long a connection may take to be noticed. */
const LOOK_MS = 5_000;
const NOTICE_MS = 1_000;

/** Where others share the port, the kernel chooses who gets a connection: so many looks reach this listener all but surely. */
const SHARED_LOOKS = 32;

/** The types do not know that a port can be shared. */
type ListenOptions = Parameters<Server["listen"]>[0];

/** What the acceptor is given. */
export interface TlsListenOptions {
  /** The address. */
  hostname: string;
  /** The port; 0 is any that is free. */
  port: number;
  /** Lets several listeners share the port. */
  reusePort: boolean;
  /** The certificate, its key, and whose clients are let in. */
  tls: ServerTls;
  /** How long a handshake may take. */
  handshakeTimeoutMs: number;
  /** Handshakes under way at once. With one more, the oldest ends: it is the one least likely to come to anything. */
  maxHandshakes?: number;
  /** Connections that are accepted at once. */
  maxConnections: number;
  /** Whose time. */
  clock: Clock;
}

/** Accepts clients that have come through the handshake. */
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
  /** Connections that the listener has told of; how many at the last look; whether it has since been found alive. */
  #begun = 0;
  #begunBefore = 0;
  #alive = true;
  #lookTimer: Timer | undefined;
  #onBegun = () => {};

  private constructor(server: Server, options: TlsListenOptions) {
    const { address: hostname, port } = server.address() as { address: string; port: number };
    this.hostname = hostname;
    this.port = port;
    this.address = addressText({ transport: "tcp", hostname, port });
    this.#options = options;
    this.#server = server;
    this.#handshakes = new Handshakes(options);
    server.on("connection", (socket: Socket) => {
      this.#begun++;
      this.#onBegun();
      this.#handshakes.begin(socket);
    });
    server.on("tlsClientError", (_error, socket) => socket.destroy());
    server.on("secureConnection", (socket) => this.#take(socket));
    server.on("error", ignore); // from here on only of a listener that begins anew, which is looked after
    this.#lookLater();
  }

  /** Listens. */
  static async listen(options: TlsListenOptions): Promise<TlsAcceptor> {
    const { hostname, port, reusePort, tls: { cert, key, ca }, maxConnections } = options;
    // What stands in the way is said by the runtime's own listener, in the same words as without TLS. It looks up a name as
    // well; Node's listener would throw beside the call where its address is not allowed.
    const first = Deno.listen({ hostname, port, reusePort });
    const address = first.addr.hostname;
    first.close();
    if (address !== hostname) Deno.listen({ hostname: address, port, reusePort }).close();
    const mutual = ca !== undefined;
    const server = createServer(
      {
        ...{ cert, key, ca, requestCert: mutual, rejectUnauthorized: mutual, allowHalfOpen: true, noDelay: true },
        handshakeTimeout: MAX_TIMER_MS, // it is watched here: there, the socket would stay open
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

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.close();
    if (this.#lookTimer !== undefined) this.#options.clock.clearTimer(this.#lookTimer);
    this.#onBegun();
    this.#handshakes.endAll();
    this.#accepting?.reject(new Deno.errors.BadResource("the listener is closed"));
    for (const transport of this.#waiting) transport.close();
  }

  #take(socket: TLSSocket): void {
    this.#handshakes.end(socket);
    const mutual = this.#options.tls.ca !== undefined;
    const certificate = mutual ? identityOf(socket.getPeerCertificate()) : undefined;
    // A resumed session has no new check of its certificate, which may have expired meanwhile.
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

  #lookLater(): void {
    this.#lookTimer = this.#options.clock.setTimer(
      async () => {
        await this.#look();
        if (!this.#closed) this.#lookLater();
      },
      LOOK_MS,
      false,
    );
  }

  /** Looks whether the listener lives: not while clients come, and once in a silence behind them. */
  async #look(): Promise<void> {
    const heard = this.#begun > this.#begunBefore;
    this.#begunBefore = this.#begun;
    if (heard) this.#alive = false;
    if (heard || this.#alive) return;
    this.#alive = await this.#isNoticed();
    this.#begunBefore = this.#begun;
    if (!this.#alive && !this.#closed) this.#listenAnew();
  }

  /** Connects, to see whether the listener tells of it. */
  async #isNoticed(): Promise<boolean> {
    const { hostname, port } = this;
    const looks = Array.from(
      { length: this.#options.reusePort ? SHARED_LOOKS : 1 },
      () => Deno.connect({ hostname, port }).catch(() => undefined),
    );
    // Nobody listens where all fail, since to listen anew has failed; or there is still no file descriptor.
    const conns = (await Promise.all(looks)).filter((conn) => conn !== undefined);
    const noticed = conns.length > 0 && (this.#begun > this.#begunBefore || await this.#noticesOne());
    for (const conn of conns) {
      this.#handshakes.abandon(addressText(conn.localAddr));
      conn.close();
    }
    return noticed;
  }

  /** Whether the listener tells of a connection soon. */
  async #noticesOne(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = this.#options.clock.setTimer(() => resolve(false), NOTICE_MS, false);
    this.#onBegun = () => resolve(true);
    const noticed = await promise;
    this.#onBegun = () => {};
    this.#options.clock.clearTimer(timer);
    return noticed;
  }

  #listenAnew(): void {
    const { hostname, port } = this;
    this.#server.close();
    this.#server.listen({ host: hostname, port, reusePort: this.#options.reusePort } as ListenOptions);
  }
}

/** The connections that are in the middle of their handshake. */
class Handshakes {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #most: number;
  /** By the peer's address, which is all that the socket before the handshake and the one after it have in common. */
  readonly #sockets = new Map<string, { socket: Socket; timer: Timer }>();

  constructor({ clock, handshakeTimeoutMs, maxHandshakes = MAX_HANDSHAKES }: TlsListenOptions) {
    this.#clock = clock;
    this.#timeoutMs = handshakeTimeoutMs;
    this.#most = maxHandshakes;
  }

  begin(socket: Socket): void {
    if (this.#sockets.size >= this.#most) {
      const [[oldest]] = this.#sockets;
      this.abandon(oldest);
    }
    const peer = peerOf(socket);
    const timer = this.#clock.setTimer(() => this.abandon(peer), this.#timeoutMs, false);
    this.#sockets.set(peer, { socket, timer });
    socket.on("error", ignore); // what goes wrong before the handshake is over concerns nobody else
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

  /** Ends a handshake, unless it has ended. */
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
