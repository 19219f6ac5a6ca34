/**
 * Shows the frames of a connection as they pass.
 *
 * In: a connection, and a function that shows a frame. Out: the same connection, unchanged. Each frame is shown whole
 * before it is passed on. Bytes that are not a frame are shown as they come, and an incomplete frame when the stream
 * ends. Refused: nothing.
 */

import { joined } from "../codec/compact.ts";
import { FrameScanner } from "../codec/frame.ts";
import { type Transport, writeAll } from "../transport/transport.ts";

/** The direction of bytes. */
export type Direction = "sent" | "received";

/** Shows the bytes of one frame. */
type ShowFrame = (frame: Uint8Array, direction: Direction) => Promise<unknown>;

/** Wraps the connection to show each frame. */
export function tapFrames(transport: Transport, show: ShowFrame): Transport {
  const sent = new FrameTap((frame) => show(frame, "sent"));
  const received = new FrameTap((frame) => show(frame, "received"));
  return {
    peer: transport.peer,
    async read(into) {
      const readBytes = await transport.read(into).catch(async (error) => {
        await received.end();
        throw error;
      });
      if (readBytes === null) await received.end();
      else await received.take(into.subarray(0, readBytes));
      return readBytes;
    },
    async write(bytes) {
      await sent.take(bytes);
      await writeAll(transport, bytes);
      return bytes.length;
    },
    closeWrite: () => transport.closeWrite(),
    close() {
      void received.end();
      transport.close();
    },
  };
}

/** Cuts the bytes of one direction into frames. */
class FrameTap {
  readonly #show: (frame: Uint8Array) => Promise<unknown>;
  // The readers of the frames check the limits.
  readonly #scanner = new FrameScanner(Infinity);
  #held = new Uint8Array(0);
  #broken = false;

  constructor(show: (frame: Uint8Array) => Promise<unknown>) {
    this.#show = show;
  }

  async take(chunk: Uint8Array): Promise<void> {
    const bytes = joined([this.#held, chunk]);
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
