/**
 * Wraps a socket of `node:net` or `node:tls` as a transport, without streams in between, which take half of the time of
 * a call in Node.
 *
 * In: an open socket. Out: its {@linkcode Transport}. Refused: nothing. A reset becomes a `ConnectionReset`, and other
 * errors of the socket pass through unchanged.
 */

import type { Socket } from "node:net";
import { addressText } from "./address.ts";
import type { PeerCertificate } from "./certificate.ts";
import { isNamed, systemError, tlsReadsAhead } from "./runtime.ts";
import { LARGEST_WRITE_BYTES, type Transport } from "./transport.ts";

const NOTHING = new Uint8Array(0);

const RESET = "the peer has reset the connection";
const CLOSED = "the connection is closed";

/** What is known about a connection. */
interface NodeTransportOptions {
  /** The peer's checked identity. */
  readonly certificate?: PeerCertificate;
  /** The peer's address, if a proxy has sent it. */
  readonly peer?: string;
  /** The error if the peer closes without data. */
  readonly silentEnd?: Error;
}

/**
 * Makes a transport of a Node socket.
 *
 * @param socket The socket, which only the transport may use from now on. A TLS socket must have completed its
 * handshake.
 * @param options What is known about the connection.
 * @returns The transport.
 */
export function nodeTransport(socket: Socket, options: NodeTransportOptions = {}): Transport & { peer: string } {
  return new NodeTransport(socket, options);
}

/** A read that waits for data. */
interface Read extends PromiseWithResolvers<number | null> {
  readonly into: Uint8Array;
}

class NodeTransport implements Transport {
  peer: string;
  readonly certificate: PeerCertificate | undefined;
  readonly broken: Promise<void>;
  readonly #socket: Socket;
  /** The unread chunks: one, or those that arrived before the socket paused. */
  readonly #chunks: Uint8Array[] = [];
  #reading: Read | undefined;
  #isPaused = false;
  /** How the peer's data ended. */
  #end: { readonly error?: unknown } | undefined;
  readonly #writable = Promise.withResolvers<void>();
  /** Ends the pending write. */
  #failWrite: (error: Error) => void = ignore;

  constructor(socket: Socket, { certificate, peer = peerOf(socket), silentEnd }: NodeTransportOptions) {
    this.#socket = socket;
    this.peer = peer;
    this.certificate = certificate;
    this.broken = this.#writable.promise;
    this.broken.catch(ignore);
    let isSilent = true;
    socket.on("data", (chunk: Uint8Array) => {
      isSilent = false;
      this.#take(chunk);
    });
    socket.once("end", () => {
      if (isSilent && silentEnd) this.#finish({ error: silentEnd });
      else this.#finish(isReset(socket) ? { error: systemError("ConnectionReset", RESET) } : {});
    });
    socket.on("error", (error) => {
      this.#finish({ error: isNamed(error, "ConnectionReset") ? systemError("ConnectionReset", RESET) : error });
    });
    socket.once("close", () => {
      const error = systemError("ConnectionReset", CLOSED);
      this.#finish({ error });
      this.#break(error); // so that it is noticed even if nothing is read
    });
    this.#pause();
  }

  read(into: Uint8Array): Promise<number | null> {
    if (this.#chunks.length > 0) return Promise.resolve(this.#fill(into));
    if (this.#end !== undefined) return "error" in this.#end ? Promise.reject(this.#end.error) : Promise.resolve(null);
    this.#reading = { into, ...Promise.withResolvers<number | null>() };
    if (this.#isPaused) this.#resume();
    return this.#reading.promise;
  }

  write(bytes: Uint8Array): Promise<number> {
    const part = bytes.length <= LARGEST_WRITE_BYTES ? bytes : bytes.subarray(0, LARGEST_WRITE_BYTES);
    return new Promise((resolve, reject) => {
      this.#failWrite = reject;
      this.#socket.write(part, (error) => error ? reject(error) : resolve(part.length));
    });
  }

  closeWrite(): Promise<void> {
    return new Promise((resolve) =>
      this.#socket.end(() => {
        this.#writable.resolve();
        resolve();
      })
    );
  }

  close(): void {
    this.#chunks.length = 0;
    this.#finish({});
    this.#break(new Error("the connection was closed"));
    this.#socket.destroy();
  }

  look(): void {
    const socket = this.#socket;
    if (isReset(socket)) socket.destroy();
    // A unix socket has no address, but there an empty write fails. On a TLS socket, it would do harm.
    else if (socket.remoteAddress === undefined && socket.writable) socket.write(NOTHING);
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  #take(chunk: Uint8Array): void {
    if (this.#end !== undefined) return;
    this.#chunks.push(chunk);
    const reading = this.#reading;
    this.#reading = undefined;
    reading?.resolve(this.#fill(reading.into));
    // The socket keeps flowing as long as each chunk is awaited and read whole.
    if (this.#chunks.length > 0) this.#pause();
  }

  #fill(into: Uint8Array): number {
    const [chunk] = this.#chunks;
    const part = chunk.subarray(0, into.length);
    into.set(part);
    if (part.length === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(part.length);
    return part.length;
  }

  #finish(end: { readonly error?: unknown }): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    if ("error" in end) this.#reading?.reject(end.error);
    else this.#reading?.resolve(null);
    this.#reading = undefined;
  }

  #break(error: Error): void {
    this.#failWrite(error);
    this.#writable.reject(error);
  }

  /** Stops reading. Below a TLS socket, Deno would keep reading, so a peer that keeps sending would fill the memory. */
  #pause(): void {
    this.#isPaused = true;
    this.#socket.pause();
    if (tlsReadsAhead()) (this.#socket as Below)._handle?._parent?.readStop?.();
  }

  #resume(): void {
    this.#isPaused = false;
    if (tlsReadsAhead()) (this.#socket as Below)._handle?._parent?.readStart?.();
    this.#socket.resume();
  }
}

/** The TCP socket under the TLS socket, as the runtime stores it. */
interface Below {
  readonly _handle?: { readonly _parent?: { readStop?(): unknown; readStart?(): unknown } } | null;
}

/**
 * Whether the peer has reset a connection. The runtime reports a reset as a normal end, or not at all while nothing is
 * read. But the kernel then has no peer address; `remoteAddress` does not show that, because it is cached.
 */
function isReset(socket: Socket): boolean {
  const { _handle: handle } = socket as { _handle?: { getpeername?(name: object): number } | null };
  return handle?.getpeername !== undefined && handle.getpeername({}) !== 0;
}

/** The peer's address as readable text. A peer of a unix socket has no address. */
export function peerOf({ remoteAddress, remotePort }: Socket): string {
  if (remoteAddress === undefined || remotePort === undefined) return "unix";
  return addressText({ transport: "tcp", hostname: remoteAddress, port: remotePort });
}

function ignore(): void {}
