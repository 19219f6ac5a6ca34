/**
 * Listens on TCP, TLS, mutual TLS, a unix socket or an open socket, with one interface for all of them, over the
 * sockets of the runtime.
 *
 * In: the {@linkcode ServerNetwork} of the runtime, an address, and optional certificates. Out: an
 * {@linkcode Acceptor}. Refused: an address in use, an invalid certificate or key, options that exclude one another; the
 * error names the problem.
 */

import type { Acceptor, Refusal } from "./acceptor.ts";
import { plainHost } from "./address.ts";
import type { Clock } from "./clock.ts";
import { type AddressedTransport, ProxyPreamble } from "./proxy_preamble.ts";
import { PreambleAcceptor, type PreambleSource } from "./preamble_acceptor.ts";
import type { ServerTls, TlsSource } from "./tls.ts";
import type { UnixAccess } from "./unix.ts";
import type { Origins } from "./origins.ts";
import { WebSocketPreamble } from "./web_socket_preamble.ts";

/** Where to listen. */
interface ListenAddress extends UnixAccess {
  /** The address. */
  hostname: string;
  /** The port; 0 picks a free one. */
  port: number;
  /** The path of a unix socket, instead of an address and a port. */
  path?: string;
  /** The file descriptor of a socket that already listens, instead of an address and a port. */
  fd?: number;
  /** Uses TLS. */
  tls?: TlsSource<ServerTls>;
  /** Lets several listeners share the port. Each gets part of the connections. */
  reusePort?: boolean;
  /** The proxies whose connections begin with a header of the PROXY protocol. */
  proxyProtocolFrom?: readonly string[];
  /** The pages that may open a WebSocket here. Without it, WebSockets are refused. */
  origins?: Origins;
  /** The time limit of a TLS handshake, of a PROXY header, and of the handshake of a WebSocket. */
  handshakeTimeoutMs: number;
  /** The largest number of open connections. */
  maxConnections: number;
  /** Called before each connection. Returns a promise if open connections come first. */
  rest?(): Promise<void> | undefined;
  /** The clock. */
  clock: Clock;
  /** Called with the reason if a connection is refused. */
  onRefused(refusal: Refusal): void;
}

/**
 * Refuses options that say in two ways where to listen, or that a place does not have.
 *
 * @throws {TypeError} If one option excludes another.
 */
export function checkPlace({ hostname, port, path, fd, tls, reusePort }: Partial<ListenAddress>): void {
  const address = hostname ?? port;
  if (fd !== undefined && (address ?? path) !== undefined) {
    throw new TypeError("Cannot use fd together with hostname, port or path: it says where to listen");
  }
  if (path !== undefined && address !== undefined) {
    throw new TypeError("Cannot use path together with hostname or port: it says where to listen");
  }
  if (path !== undefined && tls !== undefined) {
    throw new TypeError("Cannot use TLS on a unix socket: give either a path or tls");
  }
  if (reusePort && (path ?? fd) !== undefined) {
    throw new TypeError("Cannot use reusePort with path or fd: only a port can be shared");
  }
}

/** An acceptor of sockets, whose peers are known by address. */
type SocketSource = PreambleSource<AddressedTransport>;

/** The sockets of a runtime, for a server. */
export interface ServerNetwork {
  /** Listens at an address. */
  listen(place: Place, clock: Clock): SocketSource | Promise<SocketSource>;
  /** Listens on a unix socket, which only users with access may open. */
  listenUnix(path: string, access: UnixAccess, clock: Clock): Promise<SocketSource>;
  /**
   * The name or address for `node:tls` to listen at. Throws if it may not listen there, because the errors of
   * `node:tls` say less.
   */
  hostOf(place: Place): string;
}

/** An address. */
interface Place {
  readonly hostname: string;
  readonly port: number;
  readonly reusePort: boolean;
}

/**
 * Starts listening.
 *
 * @param network The sockets.
 * @param options The address and settings.
 * @returns The source of connections.
 * @throws {TypeError} If a certificate or key is invalid, or there is a mode or a group without a path.
 * @throws {Deno.errors.AddrInUse} If the address is in use.
 */
export async function listen(network: ServerNetwork, options: ListenAddress): Promise<Acceptor> {
  const acceptor = await listenAt(network, options);
  const { origins, handshakeTimeoutMs } = options;
  if (origins === undefined) return acceptor;
  return new PreambleAcceptor(acceptor, new WebSocketPreamble(origins, handshakeTimeoutMs), options);
}

async function listenAt(network: ServerNetwork, options: ListenAddress): Promise<Acceptor> {
  const { port, path, mode, group, fd, tls, reusePort = false, clock } = options;
  const place = { hostname: plainHost(options.hostname), port, reusePort };
  if (path !== undefined) {
    return behindProxies(await network.listenUnix(path, { mode, group }, clock), options);
  }
  if ((mode ?? group) !== undefined) {
    throw new TypeError("Cannot use mode or group without path: they are those of a unix socket");
  }
  if (tls !== undefined) {
    // Imported only if needed, because it loads the runtime's Node interface.
    const { TlsAcceptor } = await import("./tls_acceptor.ts");
    return await TlsAcceptor.listen({
      ...options,
      ...place,
      ...fd === undefined && { hostname: network.hostOf(place) },
      tls,
    });
  }
  if (fd !== undefined) {
    const { NodeAcceptor } = await import("./node_acceptor.ts");
    return behindProxies(await NodeAcceptor.listen({ fd }, clock), options);
  }
  return behindProxies(await network.listen(place, clock), options);
}

/** The same acceptor, or one that reads the headers of the named proxies. */
function behindProxies(source: SocketSource, options: ListenAddress): Acceptor {
  const { proxyProtocolFrom = [], handshakeTimeoutMs } = options;
  if (proxyProtocolFrom.length === 0) return source;
  return new PreambleAcceptor(source, new ProxyPreamble(proxyProtocolFrom, handshakeTimeoutMs), options);
}
