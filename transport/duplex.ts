/**
 * The seam between packline and whatever carries its bytes: a socket, TLS, a unix socket, a pair in memory.
 */

import type { PeerCertificate } from "./certificate.ts";

/** A pair of byte streams, and a name for who is at the other end. */
export interface Duplex {
  /** Bytes from the peer. A chunk may be reused by its source as soon as the next one is asked for. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Bytes to the peer; closing it says "no more", and leaves the other direction open. */
  readonly writable: WritableStream<Uint8Array>;
  /** Who is at the other end, for people: an address and port, a path. */
  readonly peer?: string;
  /** What the peer's certificate says, where one was asked for and has been checked. */
  readonly certificate?: PeerCertificate;
  /** Looks whether the peer has broken the connection, which is then to show in the streams; called while nothing is read. */
  look?(): void;
  /** Frees what the pair holds; called once both directions have ended. */
  close?(): void;
  /** Says that from now on a read that waits keeps the program alive, as it does from the beginning. */
  ref?(): void;
  /** Says that from now on a read that waits does not keep the program alive: an idle client's need not. */
  unref?(): void;
}

/**
 * Frees what a pair holds. That its `close` throws, as a socket's own does which has been closed already, keeps nobody from
 * what is to be done at the end of a connection.
 */
export function closeDuplex(duplex: Duplex): void {
  try {
    duplex.close?.();
  } catch {
    // It is of no more use either way.
  }
}

/**
 * Two ends of a connection in memory: what is written at one end is read at the other. For tests, and for a
 * client and a server in one process.
 *
 * @returns The two ends.
 *
 * @example A call without a socket
 * ```ts
 * import { connect, memoryPair, serveConnection } from "../mod.ts";
 *
 * const [here, there] = memoryPair();
 * const served = serveConnection(there);
 * {
 *   await using client = await connect({ dial: () => Promise.resolve(here) });
 *   console.assert((await client.call("PING")).res === "PONG");
 * }
 * await served;
 * ```
 */
export function memoryPair(): [Duplex, Duplex] {
  const there = new TransformStream<Uint8Array, Uint8Array>({ transform: copy });
  const back = new TransformStream<Uint8Array, Uint8Array>({ transform: copy });
  return [
    { readable: back.readable, writable: there.writable, peer: "memory" },
    { readable: there.readable, writable: back.writable, peer: "memory" },
  ];
}

// As a kernel does: who has written a chunk may write over it.
function copy(chunk: Uint8Array, controller: TransformStreamDefaultController<Uint8Array>): void {
  controller.enqueue(chunk.slice());
}
