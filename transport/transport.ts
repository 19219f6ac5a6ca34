/**
 * The seam between packline and whatever carries its bytes: a socket, TLS, a unix socket, a pair in memory.
 *
 * Four verbs and a name. Bytes are read into a buffer of the reader's and written out of one of the writer's, as a socket
 * has it: each stream between a socket and its user costs some 3 µs a read, and 4 KiB a connection.
 *
 * In: a pair of streams, for what is not a transport by itself. Out: a {@linkcode Transport}.
 */

import type { PeerCertificate } from "./certificate.ts";

/** What carries the bytes of one connection. A `Deno.Conn` is one as it is. */
export interface Transport {
  /** Who is at the other end, for people: an address and port, a path. */
  readonly peer?: string;
  /** What the peer's certificate says, where one was asked for and has been checked. */
  readonly certificate?: PeerCertificate;
  /**
   * Reads some bytes.
   *
   * @param into Where they go; nobody else writes there until they have come.
   * @returns How many have come, at least one; `null` at the end of what the peer sends.
   */
  read(into: Uint8Array): Promise<number | null>;
  /**
   * Writes some of the bytes, or all.
   *
   * @param bytes The bytes, which stay as they are until they are written.
   * @returns How many were written.
   */
  write(bytes: Uint8Array): Promise<number>;
  /** Says that nothing more will be written, and leaves the other direction open. */
  closeWrite(): Promise<void>;
  /** Ends both directions, and what waits in them. Once closed, it may throw. */
  close(): void;
  /**
   * Rejects when the connection breaks while nothing is read. A socket has none: an empty write tells. On any other transport
   * an empty write is not safe: `node:tls` destroys its socket.
   */
  readonly broken?: Promise<void>;
  /** Looks whether the peer has broken the connection, which is then to show in `broken`; called while nothing is read. */
  look?(): void;
  /** Says that from now on a read that waits keeps the program alive, as it does from the beginning. */
  ref?(): void;
  /** Says that from now on a read that waits does not keep the program alive: an idle client's need not. */
  unref?(): void;
}

/** A connection as a pair of streams. */
export interface ByteStreams {
  /** Bytes from the peer. A chunk may be reused by its source as soon as the next one is asked for. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Bytes to the peer; closing it says "no more", and leaves the other direction open. */
  readonly writable: WritableStream<Uint8Array>;
  /** Who is at the other end, for people. */
  readonly peer?: string;
  /** What the peer's certificate says, where one was asked for and has been checked. */
  readonly certificate?: PeerCertificate;
  /** Frees what the pair holds. */
  close?(): void;
  /** As {@linkcode Transport.look}. */
  look?(): void;
  /** As {@linkcode Transport.ref}. */
  ref?(): void;
  /** As {@linkcode Transport.unref}. */
  unref?(): void;
}

/** Read buffers start here, and grow and shrink with the traffic. */
export const FIRST_READ_BYTES = 512;

/** The largest read: what one connection may bring before it is another's turn. */
export const LARGEST_READ_BYTES = 64 * 1024;

/** One write to a stream at the most: so that a slow but living peer is seen to make progress, as it is on a socket. */
const LARGEST_WRITE_BYTES = 64 * 1024;

/**
 * Makes a transport of a pair of streams.
 *
 * @param streams The streams, which from now on are the transport's alone.
 * @returns The transport.
 * @throws {TypeError} If somebody else reads or writes them already.
 *
 * @example A server behind a pipe of one's own
 * ```ts
 * import { connect, createServer, fromStreams } from "../mod.ts";
 *
 * const [there, back] = [new TransformStream<Uint8Array>(), new TransformStream<Uint8Array>()];
 * await using server = createServer();
 * const served = server.accept(fromStreams({ readable: there.readable, writable: back.writable }));
 * const dial = () => Promise.resolve(fromStreams({ readable: back.readable, writable: there.writable }));
 * {
 *   await using client = await connect({ dial });
 *   console.assert((await client.call("PING")).res === "PONG");
 * }
 * await served;
 * ```
 */
export function fromStreams(streams: ByteStreams): Transport {
  return new StreamTransport(streams);
}

class StreamTransport implements Transport {
  readonly peer: string | undefined;
  readonly certificate: PeerCertificate | undefined;
  readonly broken: Promise<void>;
  readonly #streams: ByteStreams;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  /** Of the last chunk, what did not fit the buffer. */
  #rest = new Uint8Array(0);

  constructor(streams: ByteStreams) {
    this.#streams = streams;
    this.peer = streams.peer;
    this.certificate = streams.certificate;
    this.#reader = streams.readable.getReader();
    this.#writer = streams.writable.getWriter();
    this.broken = this.#writer.closed;
    this.broken.catch(ignore);
  }

  async read(into: Uint8Array): Promise<number | null> {
    // An empty chunk is no end.
    while (this.#rest.length === 0) {
      const { done, value } = await this.#reader.read();
      if (done) return null;
      this.#rest = value as Uint8Array<ArrayBuffer>;
    }
    const part = this.#rest.subarray(0, into.length);
    into.set(part);
    this.#rest = this.#rest.subarray(part.length);
    return part.length;
  }

  async write(bytes: Uint8Array): Promise<number> {
    const part = bytes.length <= LARGEST_WRITE_BYTES ? bytes : bytes.subarray(0, LARGEST_WRITE_BYTES);
    await this.#writer.write(part);
    return part.length;
  }

  closeWrite(): Promise<void> {
    return this.#writer.close();
  }

  close(): void {
    const reason = new Error("the connection was closed");
    closeTransport({ close: () => this.#streams.close?.() });
    // A stream that has ended already rejects: that is what was wanted.
    this.#reader.cancel(reason).catch(ignore);
    this.#writer.abort(reason).catch(ignore);
  }

  look(): void {
    this.#streams.look?.();
  }

  ref(): void {
    this.#streams.ref?.();
  }

  unref(): void {
    this.#streams.unref?.();
  }
}

/** Writes all of the bytes. */
export async function writeAll(to: Pick<Transport, "write">, bytes: Uint8Array): Promise<void> {
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

/** Closes a socket or a listener that may be closed already. */
export function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}

/** Closes a transport, which may be a user's: what it throws keeps nobody from what is to be done at the end of a connection. */
export function closeTransport(transport: Pick<Transport, "close">): void {
  try {
    transport.close();
  } catch {
    // It is of no more use either way.
  }
}

function ignore(): void {}
