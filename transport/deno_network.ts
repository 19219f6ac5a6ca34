/**
 * The sockets of Deno: TCP, TLS and unix sockets, for a client, and any Deno socket as a transport. They do not use
 * `conn.readable`, which closes the whole connection when the peer half-closes it, and allocates 64 KiB for each read.
 *
 * In: an address; an open connection. Out: a {@linkcode Transport}. Refused: an address that cannot be reached, by the
 * runtime's error; socket errors pass through unchanged.
 */

import { addressText, type CheckedAddress, type Network } from "./address.ts";
import { closeQuietly, closeTransport, type Transport } from "./transport.ts";

/** The sockets of Deno. */
export const denoNetwork: Network = { open };

/**
 * The servers at which a handshake was given up. The runtime keeps its socket until the server says something or
 * closes, and there is no way to end it. So the next dial first finds out whether the server speaks again, over
 * `node:tls`, which can end a handshake. Not all calls go over it, because it takes 1.4 times the CPU of Deno's TLS with
 * one call in flight.
 */
const silent = new Set<string>();

async function open({ hostname, port, path, tls }: CheckedAddress, signal: AbortSignal): Promise<Transport> {
  signal.throwIfAborted();
  if (path !== undefined) {
    const transport = socketTransport(await Deno.connect({ transport: "unix", path }));
    // The system names the path where the socket was made, which need not exist any more.
    transport.peer = addressText({ transport: "unix", path });
    return transport;
  }
  // `Deno.connect` checks its signal once more when it has connected, and would then leave the connection open. This
  // signal only stops it before.
  const stop = Object.assign(AbortSignal.any([signal]), { throwIfAborted() {} });
  if (tls === undefined) return socketTransport(await Deno.connect({ hostname, port, signal: stop }));
  const server = addressText({ transport: "tcp", hostname, port });
  if (tls.cert !== undefined || silent.has(server)) {
    const { dialTls } = await import("./tls_socket.ts");
    const dialed = dialTls({ hostname, port }, tls, signal);
    if (tls.cert !== undefined) return await dialed;
    await dialed.then(closeTransport, () => signal.throwIfAborted()); // an error is an answer too
    silent.delete(server);
  }
  // Not `Deno.connectTls`, which leaves Nagle's algorithm on, so that requests wait for the acknowledgement of earlier
  // ones.
  const conn = await Deno.connect({ hostname, port, signal: stop });
  let secured: Deno.TlsConn;
  try {
    signal.throwIfAborted();
    conn.setNoDelay(true);
    secured = await Deno.startTls(conn, { hostname, caCerts: tls.ca === undefined ? undefined : [tls.ca] });
  } catch (error) {
    closeQuietly(conn); // a name that no certificate can have, such as 127.1, leaves it open
    throw error;
  }
  const abandon = () => closeQuietly(secured);
  signal.addEventListener("abort", abandon, { once: true });
  try {
    signal.throwIfAborted();
    // Shake hands now, so that a problem with a certificate is reported here and not by the first call.
    await secured.handshake();
    return socketTransport(secured);
  } catch (error) {
    if (signal.aborted) silent.add(server);
    closeQuietly(secured);
    throw error;
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}

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
  /** The peer's address. A proxy may replace it with its client's address. */
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
