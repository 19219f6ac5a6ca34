/**
 * A `Deno.Conn` as a pair of streams, and how it is read. The built-in `conn.readable` closes the whole connection at the
 * peer's half close, and allocates 64 KiB a read; nothing here does either.
 *
 * In: an open connection. Out: its {@linkcode Duplex}. Refused: nothing; the errors of the socket pass through.
 */

import type { Duplex } from "./duplex.ts";

/** Read buffers start here, and grow and shrink with the traffic. */
export const FIRST_READ_BYTES = 512;

/** The largest read: what one connection may bring before it is another's turn. */
const LARGEST_READ_BYTES = 64 * 1024;

/**
 * The streams of a connection.
 *
 * @param conn An open connection; from now on, only what is returned may read, write or close it.
 * @returns Its streams; `close()` closes the socket, and ends a read or a write that waits.
 */
export function socketDuplex(conn: Deno.Conn): SocketDuplex {
  // Small frames must not wait for the acknowledgement of the one before (PROTOCOL.md, "Roles and transport").
  if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
  return new SocketDuplex(conn);
}

/** A socket as a pair of streams, which are made for those who ask for them. */
export class SocketDuplex implements Duplex {
  readonly peer: string;
  #readable: ReadableStream<Uint8Array> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  /** @param conn The socket itself, for those who need no streams. */
  constructor(readonly conn: Deno.Conn) {
    this.peer = addressText(conn.remoteAddr);
  }

  get readable(): ReadableStream<Uint8Array> {
    return this.#readable ??= readableOf(this.conn);
  }

  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= writableOf(this.conn);
  }

  close(): void {
    closeQuietly(this.conn);
  }
}

/** Writes all of the bytes. */
export async function writeAll(to: Pick<Deno.Conn, "write">, bytes: Uint8Array): Promise<void> {
  let sentBytes = await to.write(bytes);
  while (sentBytes < bytes.length) sentBytes += await to.write(bytes.subarray(sentBytes));
}

/**
 * The buffer for the next read: one twice as large where the last read filled this one, one half as large where it left
 * nearly all of it empty. So a burst does not leave each of ten thousand connections with a large one.
 */
export function bufferAfter(buffer: Uint8Array, readBytes: number): Uint8Array {
  const bytes = buffer.length;
  if (readBytes === bytes && bytes < LARGEST_READ_BYTES) return new Uint8Array(2 * bytes);
  if (readBytes < bytes / 8 && bytes > FIRST_READ_BYTES) return new Uint8Array(bytes / 2);
  return buffer;
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

function readableOf(conn: Deno.Conn): ReadableStream<Uint8Array> {
  let buffer: Uint8Array = new Uint8Array(FIRST_READ_BYTES);
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const readBytes = await conn.read(buffer);
      if (readBytes === null) return controller.close();
      controller.enqueue(buffer.subarray(0, readBytes));
      buffer = bufferAfter(buffer, readBytes);
    },
    // With 0, the next read begins when the chunk before it has been dealt with: so one buffer is enough.
  }, { highWaterMark: 0 });
}

function writableOf(conn: Deno.Conn): WritableStream<Uint8Array> {
  return new WritableStream<Uint8Array>({ write: (bytes) => writeAll(conn, bytes), close: () => conn.closeWrite() });
}
