/**
 * Listens on TCP, TLS, mutual TLS, a unix socket or a socket that it is given, with one interface for all of them.
 *
 * In: an address, and optional certificates. Out: an {@linkcode Acceptor}. Refused: an address in use, an invalid
 * certificate or key, a path together with TLS; the error names the problem.
 */

import type { Acceptor, Refusal } from "./acceptor.ts";
import { withoutBrackets } from "./address.ts";
import type { Clock } from "./clock.ts";
import { ProxyAcceptor, type SocketSource } from "./proxy_acceptor.ts";
import { addressText } from "./address.ts";
import { type SocketTransport, socketTransport } from "./tcp.ts";
import { closeQuietly } from "./transport.ts";
import type { ServerTls, TlsSource } from "./tls.ts";
import { listenUnix, type UnixAccess } from "./unix.ts";

/** Where to listen. */
export interface ListenAddress extends UnixAccess {
  /** The address. */
  hostname: string;
  /** The port; 0 picks a free one. */
  port: number;
  /** The path of a unix socket, instead of an address and a port. */
  path?: string;
  /** The file descriptor of a socket that listens already, instead of an address and a port. */
  fd?: number;
  /** Uses TLS. */
  tls?: TlsSource<ServerTls>;
  /** Lets several listeners share the port; each gets part of the connections. */
  reusePort?: boolean;
  /** The proxies whose connections begin with a header of the PROXY protocol. */
  proxyProtocolFrom?: readonly string[];
  /** The time limit of a TLS handshake, and of that header. */
  handshakeTimeoutMs: number;
  /** The largest number of open connections. */
  maxConnections: number;
  /** The clock. */
  clock: Clock;
  /** Told why a connection is refused. */
  onRefused(refusal: Refusal): void;
}

/**
 * Starts listening.
 *
 * @param options The address and settings.
 * @returns The source of connections.
 * @throws {TypeError} If a certificate or key is invalid, or TLS is requested on a path.
 * @throws {Deno.errors.AddrInUse} If the address is in use.
 */
export async function listen(options: ListenAddress): Promise<Acceptor> {
  const { port, path, mode, group, fd, tls, reusePort = false } = options;
  const hostname = withoutBrackets(options.hostname);
  if (path !== undefined) {
    if (tls) throw new TypeError("Cannot use TLS on a unix socket: give either a path or tls");
    const listener = await listenUnix(path, { mode, group });
    return behindProxies(new SocketAcceptor(listener, { transport: "unix", path }), options);
  }
  if ((mode ?? group) !== undefined) {
    throw new TypeError("Cannot use mode or group without path: they are those of a unix socket");
  }
  if (tls !== undefined) {
    // Imported only if needed, because it loads the runtime's Node interface.
    const { TlsAcceptor } = await import("./tls_acceptor.ts");
    return await TlsAcceptor.listen({ ...options, hostname, tls, reusePort });
  }
  if (fd !== undefined) {
    const { FdAcceptor } = await import("./fd_acceptor.ts");
    return behindProxies(await FdAcceptor.listen(fd, options.clock), options);
  }
  const listener = Deno.listen({ hostname, port, reusePort });
  return behindProxies(new SocketAcceptor(listener, listener.addr), options);
}

/** The same acceptor, or one that reads the headers of the named proxies. */
function behindProxies(source: SocketSource, { proxyProtocolFrom = [], ...options }: ListenAddress): Acceptor {
  return proxyProtocolFrom.length === 0 ? source : new ProxyAcceptor(source, { ...options, proxyProtocolFrom });
}

/** A listener of Deno's own kind. */
type DenoListener = Pick<Acceptor, "hide" | "close"> & { accept(): Promise<Deno.Conn> };

/** Accepts sockets of Deno's own kind. */
class SocketAcceptor implements Acceptor {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  readonly handshakes = 0;
  readonly #listener: DenoListener;

  constructor(listener: DenoListener, addr: Deno.Addr) {
    this.#listener = listener;
    this.hostname = "path" in addr ? addr.path : "hostname" in addr ? addr.hostname : "";
    this.port = "port" in addr ? addr.port : 0;
    this.address = addressText(addr);
  }

  async accept(): Promise<SocketTransport> {
    const conn = await this.#listener.accept();
    try {
      return socketTransport(conn);
    } catch (error) {
      closeQuietly(conn);
      // The client left before its socket was set up. The listener still works.
      throw error instanceof Deno.errors.BadResource ? new Deno.errors.NotConnected(error.message) : error;
    }
  }

  hide(): void {
    this.#listener.hide?.();
  }

  close(): void {
    closeQuietly(this.#listener);
  }
}
