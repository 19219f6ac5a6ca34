/** A connection without a socket, for tests and for a client and a server in one process. */

import { fromStreams, type Transport } from "./transport.ts";

/**
 * Two ends of a connection in memory: what is written at one end is read at the other.
 *
 * @returns The two ends.
 *
 * @example A call without a socket
 * ```ts
 * import { connect, createServer, memoryPair } from "../mod.ts";
 *
 * const [here, there] = memoryPair();
 * await using server = createServer();
 * const served = server.accept(there);
 * {
 *   await using client = await connect({ dial: () => Promise.resolve(here) });
 *   console.assert((await client.call("PING")).res === "PONG");
 * }
 * await served;
 * ```
 */
export function memoryPair(): [Transport, Transport] {
  const there = new TransformStream<Uint8Array, Uint8Array>({ transform: copy });
  const back = new TransformStream<Uint8Array, Uint8Array>({ transform: copy });
  return [
    fromStreams({ readable: back.readable, writable: there.writable, peer: "memory" }),
    fromStreams({ readable: there.readable, writable: back.writable, peer: "memory" }),
  ];
}

// As a kernel does: who has written a chunk may write over it.
function copy(chunk: Uint8Array, controller: TransformStreamDefaultController<Uint8Array>): void {
  controller.enqueue(chunk.slice());
}
