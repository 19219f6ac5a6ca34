/**
 * The ends of a connection, as both sides of packline use them: bytes read into a buffer, bytes written out of one, as a
 * socket has it.
 *
 * In: a {@linkcode Duplex}. Out: its ends. A socket's is the socket itself: each stream between a socket and its user
 * costs some 3 µs a read, and 4 KiB a connection. For any other pair of streams they are made of its reader and its writer.
 */

import { closeDuplex, type Duplex } from "./duplex.ts";
import { SocketDuplex } from "./tcp.ts";

/** What bytes are read from and written to. `Deno.Conn` is one. */
export interface Ends {
  /** Reads some bytes into the buffer; answers how many, and `null` at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** Writes some of the bytes, or all; answers how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** Nothing more will be written. */
  closeWrite(): Promise<void>;
  /** Ends both directions, and what waits in them. Once closed, it may throw `BadResource`. */
  close(): void;
  /**
   * Rejects when the connection breaks while nothing is read. A socket has none: an empty write tells. On any other end an
   * empty write is not safe: `node:tls` destroys its socket.
   */
  readonly broken?: Promise<void>;
  /** From now on, a read that waits keeps the program alive, as it does from the beginning. */
  ref?(): void;
  /** From now on, a read that waits does not keep the program alive. */
  unref?(): void;
  /** Looks whether the connection has broken, where that does not show by itself. */
  look?(): void;
}

/** The ends of a pair; from then on, they alone may be used. */
export function endsOf(duplex: Duplex): Ends {
  return duplex instanceof SocketDuplex ? duplex.conn : new StreamEnds(duplex);
}

/** One write to a stream at the most: so that a slow but living peer is seen to make progress, as it is on a socket. */
const LARGEST_WRITE_BYTES = 64 * 1024;

/** A pair of streams, read and written as a socket is. */
class StreamEnds implements Ends {
  readonly #duplex: Duplex;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly broken: Promise<void>;
  /** Of the last chunk, what did not fit the buffer. */
  #rest = new Uint8Array(0);

  constructor(duplex: Duplex) {
    this.#duplex = duplex;
    this.#reader = duplex.readable.getReader();
    this.#writer = duplex.writable.getWriter();
    this.broken = this.#writer.closed;
    this.broken.catch(ignore);
  }

  ref(): void {
    this.#duplex.ref?.();
  }

  unref(): void {
    this.#duplex.unref?.();
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (this.#rest.length === 0) {
      const { done, value } = await this.#reader.read();
      if (done) return null;
      this.#rest = value as Uint8Array<ArrayBuffer>;
    }
    const part = this.#rest.subarray(0, buffer.length);
    buffer.set(part);
    this.#rest = this.#rest.subarray(part.length);
    return part.length;
  }

  async write(bytes: Uint8Array): Promise<number> {
    const part = bytes.length <= LARGEST_WRITE_BYTES ? bytes : bytes.subarray(0, LARGEST_WRITE_BYTES);
    await this.#writer.write(part);
    return part.length;
  }

  look(): void {
    this.#duplex.look?.();
  }

  closeWrite(): Promise<void> {
    return this.#writer.close();
  }

  close(): void {
    const reason = new Error("the connection was closed");
    closeDuplex(this.#duplex);
    // A stream that has ended already rejects: that is what was wanted.
    this.#reader.cancel(reason).catch(ignore);
    this.#writer.abort(reason).catch(ignore);
  }
}

function ignore(): void {}
