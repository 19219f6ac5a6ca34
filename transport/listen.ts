/**
 * Where connections come from: TCP, TLS, mutual TLS or a unix socket, behind one face.
 *
 * In: an address, and certificates if there are any. Out: an {@linkcode Acceptor}. Refused: an address in use, a
 * certificate or key that is none, a path together with TLS; each by an error that says so.
 */

import { withoutBrackets } from "./address.ts";
import type { Clock } from "./clock.ts";
import { addressText, socketTransport } from "./tcp.ts";
import { closeQuietly, type Transport } from "./transport.ts";
import { type ServerTls, tlsProblem } from "./tls.ts";
import { listenUnix } from "./unix.ts";

/** Where to listen. */
export interface ListenOptions {
  /** The address. */
  hostname: string;
  /** The port; 0 is any that is free. */
  port: number;
  /** The path of a unix socket, in place of an address and a port. */
  path?: string;
  /** Speaks TLS. */
  tls?: ServerTls;
  /** Lets several listeners share the port, each with its part of the connections. */
  reusePort?: boolean;
  /** How long a TLS handshake may take. */
  handshakeTimeoutMs: number;
  /** Connections there may be at once. */
  maxConnections: number;
  /** Whose time. */
  clock: Clock;
}

/** Gives one connection after the other. */
export interface Acceptor {
  /** The address listened on, or the path. */
  readonly hostname: string;
  /** The port listened on; 0 for a path. */
  readonly port: number;
  /** Both, for people. */
  readonly address: string;
  /** The next connection. Rejects with `BadResource` once the acceptor has been closed. */
  accept(): Promise<Transport>;
  /** Accepts no more. What has been accepted stays. */
  close(): void;
}

/**
 * Starts to listen.
 *
 * @param options Where, and how.
 * @returns What gives the connections.
 * @throws {TypeError} If a certificate or the key is none, or TLS is wanted on a path.
 * @throws {Deno.errors.AddrInUse} If something else listens there.
 */
export async function listen(options: ListenOptions): Promise<Acceptor> {
  const { port, path, tls, reusePort = false } = options;
  const hostname = withoutBrackets(options.hostname);
  if (path !== undefined) {
    if (tls) throw new TypeError("Cannot use TLS on a unix socket: give either a path or tls");
    return new SocketAcceptor(await listenUnix(path), { transport: "unix", path });
  }
  if (tls !== undefined) {
    const problem = tlsProblem(tls);
    if (problem !== undefined) throw new TypeError(`Cannot use TLS: ${problem}`);
    // Loaded by those who need it: it brings the runtime's Node interface with it.
    const { TlsAcceptor } = await import("./tls_acceptor.ts");
    return await TlsAcceptor.listen({ ...options, hostname, tls, reusePort });
  }
  const listener = Deno.listen({ hostname, port, reusePort });
  return new SocketAcceptor(listener, listener.addr);
}

/** Accepts sockets of the runtime's own kind. */
class SocketAcceptor implements Acceptor {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  readonly #listener: { accept(): Promise<Deno.Conn>; close(): void };

  constructor(listener: { accept(): Promise<Deno.Conn>; close(): void }, addr: Deno.Addr) {
    this.#listener = listener;
    this.hostname = "path" in addr ? addr.path : "hostname" in addr ? addr.hostname : "";
    this.port = "port" in addr ? addr.port : 0;
    this.address = addressText(addr);
  }

  async accept(): Promise<Transport> {
    const conn = await this.#listener.accept();
    try {
      return socketTransport(conn);
    } catch (error) {
      closeQuietly(conn);
      // The client was gone before its socket was set up; the listener is as it was.
      throw error instanceof Deno.errors.BadResource ? new Deno.errors.NotConnected(error.message) : error;
    }
  }

  close(): void {
    closeQuietly(this.#listener);
  }
}
