/** A transport as a pair of streams, for tests that insert a stream between or use streams directly. */

import { type ByteStreams, closeTransport, type Transport, writeAll } from "../../transport/transport.ts";

/** The streams; nothing is read ahead. */
export function streamsOf(transport: Transport): ByteStreams & { close(): void } {
  return {
    peer: transport.peer,
    close: () => closeTransport(transport),
    readable: new ReadableStream<Uint8Array>({
      async pull(controller) {
        const buffer = new Uint8Array(64 * 1024);
        const readBytes = await transport.read(buffer);
        if (readBytes === null) controller.close();
        else controller.enqueue(buffer.subarray(0, readBytes));
      },
      cancel: () => closeTransport(transport),
    }, { highWaterMark: 0 }),
    writable: new WritableStream<Uint8Array>({
      write: (chunk) => writeAll(transport, chunk),
      close: () => transport.closeWrite(),
      abort: () => closeTransport(transport),
    }),
  };
}
