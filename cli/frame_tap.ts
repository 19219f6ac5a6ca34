/**
 * Shows the frames of a connection as they go by.
 *
 * In: a pair of streams, and what shows a frame. Out: the same streams; nothing in them changes. Each frame is shown
 * whole, before it goes on. Bytes that are no frame are shown as they come, and half a frame when the stream ends.
 * Refused: nothing.
 */

import { FrameScanner } from "../codec/frame.ts";
import { closeDuplex, type Duplex } from "../transport/duplex.ts";

/** Which way bytes go. */
export type Direction = "sent" | "received";

/** Shows the bytes of one frame. */
export type ShowFrame = (frame: Uint8Array, direction: Direction) => Promise<unknown>;

/** The streams, with a look at each frame. */
export function tapFrames(duplex: Duplex, show: ShowFrame): Duplex {
  const reader = duplex.readable.getReader();
  const writer = duplex.writable.getWriter();
  const sent = new FrameTap((frame) => show(frame, "sent"));
  const received = new FrameTap((frame) => show(frame, "received"));
  return {
    peer: duplex.peer,
    close: () => closeDuplex(duplex),
    readable: new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { value } = await reader.read().catch(async (error) => {
          await received.end();
          throw error;
        });
        if (value === undefined) {
          await received.end();
          return controller.close();
        }
        await received.take(value);
        controller.enqueue(value);
      },
      async cancel(reason) {
        await received.end();
        await reader.cancel(reason);
      },
      // With 0, a chunk has been dealt with before its source may use its bytes again.
    }, { highWaterMark: 0 }),
    writable: new WritableStream<Uint8Array>({
      async write(chunk) {
        await sent.take(chunk);
        await writer.write(chunk);
      },
      close: () => writer.close(),
      abort: (reason) => writer.abort(reason),
    }),
  };
}

/** Cuts the bytes of one direction into frames. */
class FrameTap {
  readonly #show: (frame: Uint8Array) => Promise<unknown>;
  // The limits are for those who read the frames.
  readonly #scanner = new FrameScanner(Infinity);
  #held = new Uint8Array(0);
  #broken = false;

  constructor(show: (frame: Uint8Array) => Promise<unknown>) {
    this.#show = show;
  }

  async take(chunk: Uint8Array): Promise<void> {
    const bytes = new Uint8Array(this.#held.length + chunk.length);
    bytes.set(this.#held);
    bytes.set(chunk, this.#held.length);
    let position = 0;
    while (!this.#broken) {
      const frameBytes = this.#scanner.scan(bytes, position, bytes.length);
      if (frameBytes === 0) break;
      this.#broken = frameBytes < 0;
      if (!this.#broken) await this.#show(bytes.subarray(position, position += frameBytes));
    }
    this.#held = bytes.subarray(position);
    if (this.#broken) await this.end();
  }

  /** Shows what is left. */
  async end(): Promise<void> {
    const rest = this.#held;
    this.#held = new Uint8Array(0);
    if (rest.length > 0) await this.#show(rest);
  }
}
