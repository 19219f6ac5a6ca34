/**
 * A connection without a socket, for tests and for a client and a server in one process.
 *
 * In: nothing. Out: its two ends. Refused: nothing.
 */

import { MAX_TIMER_MS } from "../limits.ts";
import { type ByteStreams, fromStreams, type Transport } from "./transport.ts";

/**
 * Two connected transports in memory: bytes written to one are read from the other.
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
 *   console.assert(await client.call.PING() === "PONG");
 * }
 * await served;
 * ```
 */
export function memoryPair(): [Transport, Transport] {
  const there = new TransformStream<Uint8Array, Uint8Array>({ transform: copy });
  const back = new TransformStream<Uint8Array, Uint8Array>({ transform: copy });
  return [
    fromStreams({ readable: back.readable, writable: there.writable, peer: "memory", ...keepAlive() }),
    fromStreams({ readable: there.readable, writable: back.writable, peer: "memory", ...keepAlive() }),
  ];
}

/**
 * Keeps the program alive as a read of a socket does. Otherwise a program that waits for nothing else would end during
 * a call.
 */
function keepAlive(): Pick<ByteStreams, "ref" | "unref" | "close"> {
  let timer: ReturnType<typeof setInterval> | undefined;
  const ref = () => void (timer ??= setInterval(() => {}, MAX_TIMER_MS));
  const unref = () => {
    clearInterval(timer);
    timer = undefined;
  };
  return { ref, unref, close: unref };
}

// Copied, as a kernel does, so that a writer may reuse its buffer.
function copy(chunk: Uint8Array, controller: TransformStreamDefaultController<Uint8Array>): void {
  controller.enqueue(chunk.slice());
}
