/**
 * A `Deno.Conn` as a pair of streams. The built-in `conn.readable` closes the whole connection at the peer's half
 * close, and allocates 64 KiB a read; this source and this sink do neither.
 *
 * In: an open connection. Out: its {@linkcode Duplex}. Refused: nothing; the errors of the socket pass through.
 */

import type { Duplex } from "./duplex.ts";

/** Read buffers start here, and double as long as reads fill them. */
const FIRST_READ_BYTES = 1024;

/** The largest read: what one connection may bring before it is another's turn. */
const LARGEST_READ_BYTES = 64 * 1024;

/**
 * The streams of a connection.
 *
 * @param conn An open connection; from now on, only the streams may read, write or close it.
 * @returns Its streams; `close()` closes the socket, and ends a read or a write that waits.
 */
export function socketDuplex(conn: Deno.Conn): Duplex {
  // Small frames must not wait for the acknowledgement of the one before (contract section 1).
  if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
  return {
    readable: source(conn),
    writable: sink(conn),
    peer: addressText(conn.remoteAddr),
    close: () => closeQuietly(conn),
  };
}

/** An address for people: `127.0.0.1:1235`, `[::1]:1235`, or a path. */
export function addressText(address: Deno.Addr): string {
  if (!("hostname" in address)) return "path" in address ? `unix:${address.path}` : address.transport;
  const hostname = address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname;
  return `${hostname}:${address.port}`;
}

/** Closes what may be closed already. */
export function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}

function source(conn: Deno.Conn): ReadableStream<Uint8Array> {
  let buffer = new Uint8Array(FIRST_READ_BYTES);
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const readBytes = await conn.read(buffer);
      if (readBytes === null) return controller.close();
      const chunk = buffer.subarray(0, readBytes);
      if (readBytes === buffer.length && buffer.length < LARGEST_READ_BYTES) buffer = new Uint8Array(2 * buffer.length);
      controller.enqueue(chunk);
    },
    // With 0, the next read begins when the chunk before it has been dealt with: so one buffer is enough.
  }, { highWaterMark: 0 });
}

function sink(conn: Deno.Conn): WritableStream<Uint8Array> {
  return new WritableStream<Uint8Array>({
    async write(chunk) {
      let sentBytes = await conn.write(chunk);
      while (sentBytes < chunk.length) sentBytes += await conn.write(chunk.subarray(sentBytes));
    },
    close: () => conn.closeWrite(),
  });
}
