/**
 * A `Deno.Conn` as a transport. Its own streams are not used: `conn.readable` closes the whole connection at the peer's half
 * close, and allocates 64 KiB a read.
 *
 * In: an open connection. Out: its {@linkcode Transport}. Refused: nothing; the errors of the socket pass through.
 */

import { closeQuietly, type Transport } from "./transport.ts";

/**
 * The transport of a connection.
 *
 * @param conn An open connection; from now on, only the transport may read, write or close it.
 * @returns The transport; `close()` closes the socket, and ends a read or a write that waits.
 */
export function socketTransport(conn: Deno.Conn): Transport {
  // Small frames must not wait for the acknowledgement of the one before (PROTOCOL.md, "Roles and transport").
  if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
  return new SocketTransport(conn);
}

class SocketTransport implements Transport {
  readonly peer: string;
  readonly #conn: Deno.Conn;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
    this.peer = addressText(conn.remoteAddr);
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#conn.read(into);
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#conn.write(bytes);
  }

  closeWrite(): Promise<void> {
    return this.#conn.closeWrite();
  }

  close(): void {
    closeQuietly(this.#conn);
  }

  ref(): void {
    this.#conn.ref?.();
  }

  unref(): void {
    this.#conn.unref?.();
  }
}

/** An address for people: `127.0.0.1:1235`, `[::1]:1235`, or a path. */
export function addressText(address: Deno.Addr): string {
  if (!("hostname" in address)) return "path" in address ? `unix:${address.path}` : address.transport;
  const hostname = address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname;
  return `${hostname}:${address.port}`;
}
