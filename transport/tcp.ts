/**
 * A `Deno.Conn` as a source, a sink, and a pair of streams. The built-in `conn.readable` closes the whole connection at the peer's half
 * close, and allocates 64 KiB a read; this source and this sink do neither.
 *
 * In: an open connection. Out: its {@linkcode Duplex}. Refused: nothing; the errors of the socket pass through.
 */

import type { Duplex } from "./duplex.ts";
import { type Sink, type Source, withEnds } from "./ends.ts";

/** Read buffers start here, and double as long as reads fill them. */
const FIRST_READ_BYTES = 1024;

/** The largest read: what one connection may bring before it is another's turn. */
const LARGEST_READ_BYTES = 64 * 1024;

/**
 * The streams of a connection.
 *
 * @param conn An open connection; from now on, only what is returned may read, write or close it.
 * @returns Its streams; `close()` closes the socket, and ends a read or a write that waits.
 */
export function socketDuplex(conn: Deno.Conn): Duplex {
  // Small frames must not wait for the acknowledgement of the one before (contract section 1).
  if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
  const source = new SocketSource(conn);
  const sink = new SocketSink(conn);
  let readable: ReadableStream<Uint8Array> | undefined;
  let writable: WritableStream<Uint8Array> | undefined;
  const duplex: Duplex = {
    // Made for those who want streams.
    get readable() {
      return readable ??= readableOf(source);
    },
    get writable() {
      return writable ??= writableOf(sink);
    },
    peer: addressText(conn.remoteAddr),
    close: () => closeQuietly(conn),
  };
  return withEnds(duplex, { source, sink });
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

/** Reads into one buffer, again and again: what it gives is good until the next read. */
class SocketSource implements Source {
  readonly #conn: Deno.Conn;
  #buffer = new Uint8Array(FIRST_READ_BYTES);

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  async read(): Promise<Uint8Array | null> {
    const buffer = this.#buffer;
    const readBytes = await this.#conn.read(buffer);
    if (readBytes === null) return null;
    if (readBytes === buffer.length && readBytes < LARGEST_READ_BYTES) this.#buffer = new Uint8Array(2 * readBytes);
    return buffer.subarray(0, readBytes);
  }

  cancel(): void {
    // Its read ends when the socket is closed.
  }
}

class SocketSink implements Sink {
  readonly #conn: Deno.Conn;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  async write(bytes: Uint8Array): Promise<void> {
    let sentBytes = await this.#conn.write(bytes);
    while (sentBytes < bytes.length) sentBytes += await this.#conn.write(bytes.subarray(sentBytes));
  }

  close(): Promise<void> {
    return this.#conn.closeWrite();
  }

  abort(): void {
    // Its write ends when the socket is closed.
  }
}

function readableOf(source: Source): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const bytes = await source.read();
      if (bytes === null) controller.close();
      else controller.enqueue(bytes);
    },
    // With 0, the next read begins when the chunk before it has been dealt with: so one buffer is enough.
  }, { highWaterMark: 0 });
}

function writableOf(sink: Sink): WritableStream<Uint8Array> {
  return new WritableStream<Uint8Array>({ write: (bytes) => sink.write(bytes), close: () => sink.close() });
}
