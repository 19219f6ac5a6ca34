/**
 * The interface of everything that carries the bytes of a connection: a socket, TLS, a unix socket, a pair in memory.
 *
 * Four methods and a name. Reads fill the caller's buffer and writes send from it, as with sockets, because each stream
 * in between costs 3 µs for each read and 4 KiB for each connection.
 *
 * In: a pair of streams, or a socket. Out: a {@linkcode Transport}. Refused: streams that are already locked; what is no
 * transport; a number of bytes that cannot be.
 */

import type { PeerCertificate } from "./certificate.ts";
import { inspect, isNamed } from "./runtime.ts";

/** Carries the bytes of one connection. A `Deno.Conn` is a transport without changes. */
export interface Transport {
  /** The peer as readable text: an address and port, or a path. */
  readonly peer?: string;
  /** The peer's identity, if a certificate was requested and checked. */
  readonly certificate?: PeerCertificate;
  /** The headers of the HTTP request that opened the peer's WebSocket. */
  readonly headers?: Headers;
  /**
   * Reads some bytes.
   *
   * @param into Receives the bytes; nothing else may write to it until the read ends.
   * @returns How many bytes were read, at least one; `null` at the end of the peer's data.
   */
  read(into: Uint8Array): Promise<number | null>;
  /**
   * Writes some or all of the bytes.
   *
   * @param bytes The bytes, which must not change until they are written.
   * @returns How many were written, at least one unless there are none.
   */
  write(bytes: Uint8Array): Promise<number>;
  /**
   * Whether the buffer may be reused after a write has ended, as with a socket. A stream may keep a chunk.
   */
  readonly releasesBytes?: boolean;
  /** Ends this side's data and leaves the other direction open. */
  closeWrite(): Promise<void>;
  /** Ends both directions and pending operations. A second call may throw. */
  close(): void;
  /**
   * Resolves when a closed connection holds no socket any more. Without it, `close()` itself releases the socket. Until
   * then, a server counts the connection as open.
   */
  readonly released?: Promise<void>;
  /**
   * Rejects when the connection breaks while nothing is read. A socket does not need this, because an empty write fails
   * then. On other transports, an empty write is unsafe: `node:tls` destroys its socket.
   */
  readonly broken?: Promise<void>;
  /** Checks whether the peer has broken the connection, so that `broken` rejects; called while nothing is read. */
  look?(): void;
  /** A pending read keeps the program alive from now on. This is the default. */
  ref?(): void;
  /** A pending read does not keep the program alive from now on, as for an idle client. */
  unref?(): void;
}

/** A connection as a pair of streams. */
export interface ByteStreams {
  /** Bytes from the peer. The source may reuse a chunk as soon as the next one is requested. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Bytes to the peer. Closing it ends this side's data and leaves the other direction open. */
  readonly writable: WritableStream<Uint8Array>;
  /** The peer as readable text. */
  readonly peer?: string;
  /** The peer's identity, if a certificate was requested and checked. */
  readonly certificate?: PeerCertificate;
  /** Releases the resources of the pair. */
  close?(): void;
  /** Like {@linkcode Transport.look}. */
  look?(): void;
  /** Like {@linkcode Transport.ref}. */
  ref?(): void;
  /** Like {@linkcode Transport.unref}. */
  unref?(): void;
}

/** The first size of a read buffer, which grows and shrinks with the traffic. */
export const FIRST_READ_BYTES = 512;

/** The largest read: what one connection may deliver before the next connection's turn. */
export const LARGEST_READ_BYTES = 64 * 1024;

/** The largest single write to what takes all of it, so that a slow peer is seen to make progress, as on a socket. */
export const LARGEST_WRITE_BYTES = 64 * 1024;

/**
 * Makes a transport from a pair of streams.
 *
 * @param streams The streams. From now on, only the transport may use them.
 * @returns The transport.
 * @throws {TypeError} If they are no pair of streams, or if another reader or writer has locked them.
 *
 * @example A server on a custom pipe
 * ```ts
 * import { connect, createServer, fromStreams } from "../mod.ts";
 *
 * const [there, back] = [new TransformStream<Uint8Array>(), new TransformStream<Uint8Array>()];
 * await using server = createServer();
 * const served = server.accept(fromStreams({ readable: there.readable, writable: back.writable }));
 * const dial = () => Promise.resolve(fromStreams({ readable: back.readable, writable: there.writable }));
 * {
 *   await using client = await connect({ dial });
 *   console.assert(await client.call.PING() === "PONG");
 * }
 * await served;
 * ```
 */
export function fromStreams(streams: ByteStreams): Transport {
  if (typeof streams?.readable?.getReader !== "function" || typeof streams.writable?.getWriter !== "function") {
    throw new TypeError("Cannot use the argument of fromStreams(): it must have two streams, readable and writable");
  }
  return new StreamTransport(streams);
}

/** The methods that every transport has. */
const METHODS = ["read", "write", "closeWrite", "close"] as const;

/**
 * Checks what should be a user's transport.
 *
 * @param transport What the user gave.
 * @param what Where it comes from, for the error.
 * @returns The transport.
 * @throws {TypeError} If it is none.
 */
export function checkTransport(transport: Transport, what: string): Transport {
  if (METHODS.every((method) => typeof transport?.[method] === "function")) return transport;
  throw new TypeError(`Cannot use ${what}: it must be a transport; fromStreams() makes one from a pair of streams`);
}

/** A mistake in the code of a transport or of a stream, not a failure of the connection. */
export class TransportMistake extends TypeError {}

/**
 * Checks how many bytes a transport has moved. A wrong number would move the same bytes for ever, or bytes that are
 * none.
 *
 * @param method The method that gave the number.
 * @param bytes The number.
 * @param mostBytes How many it was asked to move.
 * @returns The number.
 * @throws {TransportMistake} If it cannot be.
 */
export function checkMoved(method: "read" | "write", bytes: number, mostBytes: number): number {
  if (bytes <= mostBytes && (bytes > 0 || mostBytes === 0) && Number.isInteger(bytes)) return bytes;
  const end = method === "read" ? ", or null at the end of the data" : "";
  throw new TransportMistake(
    `${method}() of the transport gave ${inspect(bytes, 0)}: it must give a whole number from 1 to ${mostBytes}${end}`,
  );
}

/**
 * Calls a method of a transport, which may be a user's. Whether it throws or rejects, only `onError` is called, and not
 * before this function has returned.
 *
 * @returns A promise of its end, unless it has ended already.
 */
export function callSafely(method: () => unknown, onError: (error: unknown) => void): Promise<unknown> | undefined {
  try {
    const done = method();
    return done === undefined ? undefined : Promise.resolve(done).catch(onError);
  } catch (error) {
    return Promise.reject(error).catch(onError);
  }
}

class StreamTransport implements Transport {
  readonly peer: string | undefined;
  readonly certificate: PeerCertificate | undefined;
  readonly broken: Promise<void>;
  readonly #streams: ByteStreams;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  /** The part of the last chunk that did not fit the buffer. */
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
    // An empty chunk is not the end.
    while (this.#rest.length === 0) {
      const { done, value } = await this.#reader.read();
      if (done) return null;
      this.#rest = checkChunk(value);
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
    // A stream that has already ended rejects, which is fine.
    this.#reader.cancel(reason).catch(ignore);
    this.#writer.abort(reason).catch(ignore);
  }

  // What they return may be a promise, although it should not.
  look(): void {
    return this.#streams.look?.();
  }

  ref(): void {
    return this.#streams.ref?.();
  }

  unref(): void {
    return this.#streams.unref?.();
  }
}

/** The part of a transport above another one that it passes on unchanged. */
export class TransportAbove {
  /** @param below The other transport, which only this one may use from now on. */
  constructor(protected readonly below: Transport) {}

  get peer(): string | undefined {
    return this.below.peer;
  }

  get certificate(): PeerCertificate | undefined {
    return this.below.certificate;
  }

  get broken(): Promise<void> | undefined {
    return this.below.broken;
  }

  look(): void {
    this.below.look?.();
  }

  ref(): void {
    this.below.ref?.();
  }

  unref(): void {
    this.below.unref?.();
  }
}

/** Checks a chunk of a user's stream. Elements of more than one byte would be cut to one. */
function checkChunk(chunk: Uint8Array): Uint8Array<ArrayBuffer> {
  if (ArrayBuffer.isView(chunk) && chunk.BYTES_PER_ELEMENT === 1) return chunk as Uint8Array<ArrayBuffer>;
  const kind = Object.prototype.toString.call(chunk).slice(8, -1);
  throw new TransportMistake(`the stream readable gave a chunk of the type ${kind}: it must be a Uint8Array`);
}

/**
 * Finds out whether the peer has broken the connection of a transport while no read, which would show this, is pending.
 */
export class Probe {
  readonly #transport: Transport;
  readonly #onBroken: (error: unknown) => void;
  #underWay = false;

  /**
   * @param transport The transport to probe.
   * @param onBroken Called when the connection is broken, as found by a probe or by the transport itself.
   */
  constructor(transport: Transport, onBroken: (error: unknown) => void) {
    this.#transport = transport;
    this.#onBroken = onBroken;
    const { broken } = transport;
    if (broken !== undefined) callSafely(() => broken, onBroken);
  }

  /** @param isWriting Whether a write is pending, which also shows a broken connection. */
  look(isWriting: boolean): void {
    const transport = this.#transport;
    if (transport.broken !== undefined) return void callSafely(() => transport.look?.(), this.#onBroken);
    if (isWriting || this.#underWay) return;
    this.#underWay = true;
    const probe = async () => {
      await transport.write(new Uint8Array(0)); // on a socket, it fails if the peer has reset the connection
      this.#underWay = false;
    };
    callSafely(probe, this.#onBroken);
  }
}

/** Writes all of the bytes. */
export async function writeAll(to: Pick<Transport, "write">, bytes: Uint8Array): Promise<void> {
  let rest = bytes;
  do rest = rest.subarray(checkMoved("write", await to.write(rest), rest.length)); while (rest.length > 0);
}

/**
 * Whether a read has filled its space, so that there may be more input. The frames of a WebSocket take some of the
 * space.
 */
export function fills(spaceBytes: number, readBytes: number): boolean {
  return readBytes > spaceBytes - spaceBytes / 8;
}

/**
 * The size of the next read: doubled if the last read filled its space, halved if it would leave most of it empty. So
 * ten thousand connections do not keep large buffers after a burst.
 */
export function sizeAfter(size: number, spaceBytes: number, readBytes: number): number {
  if (fills(spaceBytes, readBytes)) return Math.min(LARGEST_READ_BYTES, 2 * size);
  if (readBytes < size / 8 && size > FIRST_READ_BYTES) return size / 2;
  return size;
}

/** Closes a socket or a listener that may already be closed. */
export function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch (error) {
    if (!isNamed(error, "BadResource")) throw error;
  }
}

/** Closes a transport and ignores its errors, because a user's transport must not stop the rest of the cleanup. */
export function closeTransport(transport: Pick<Transport, "close">): void {
  callSafely(() => transport.close(), ignore);
}

function ignore(): void {}
