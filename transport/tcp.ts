/**
 * Wraps a `Deno.Conn` as a transport. It does not use `conn.readable`, which closes the whole connection when the peer
 * half-closes it, and allocates 64 KiB for each read.
 *
 * In: an open connection. Out: its {@linkcode Transport}. Refused: nothing; socket errors pass through unchanged.
 */

import { addressText } from "./address.ts";
import { closeQuietly, type Transport } from "./transport.ts";

/**
 * Makes a transport of a connection.
 *
 * @param conn An open connection, which only the transport may use from now on.
 * @returns The transport; `close()` closes the socket and ends pending reads and writes.
 */
export function socketTransport(conn: Deno.Conn): SocketTransport {
  // A small frame must not wait for the acknowledgement of the previous one (PROTOCOL.md, "Roles and transport").
  if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
  return new SocketTransport(conn);
}

/** A socket as a transport. */
export class SocketTransport implements Transport {
  /** Who is at the other end; a proxy may tell who is behind it. */
  peer: string;
  readonly releasesBytes = true;
  readonly #conn: Deno.Conn;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
    this.peer = addressText(conn.remoteAddr);
  }

  /** The address at the other end of the socket; `undefined` on a unix socket. */
  get remoteHostname(): string | undefined {
    const { remoteAddr } = this.#conn;
    return "hostname" in remoteAddr ? remoteAddr.hostname : undefined;
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
