/**
 * A connection whose first bytes are inspected before it is passed on.
 *
 * In: a connection. Out: its first bytes; then a transport of all its bytes. Refused: nothing.
 */

import { FIRST_READ_BYTES, type Transport, TransportAbove } from "./transport.ts";

const NOTHING = new Uint8Array(0);

/** A transport that keeps the inspected bytes for its first reads. Nothing has been read from the one below it. */
export class PeekedTransport extends TransportAbove implements Transport {
  #buffer = new Uint8Array(FIRST_READ_BYTES);
  #end = 0;
  /** The pending read, for which nothing may be waiting. */
  #reading: Promise<boolean> | undefined;

  get releasesBytes(): boolean | undefined {
    return this.below.releasesBytes;
  }

  /** The received bytes that have not been read. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#end);
  }

  /** Waits for more bytes to inspect. Resolves with `false` at the end of the peer's data. */
  more(): Promise<boolean> {
    return this.#reading ??= this.#readMore();
  }

  /** Drops the first bytes. */
  skip(bytes: number): void {
    this.#end -= bytes;
    // After the inspected bytes are read, the connection keeps no buffer.
    this.#buffer = this.#end === 0 && this.#reading === undefined ? NOTHING : this.#buffer.subarray(bytes);
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#end === 0 && this.#reading === undefined ? this.below.read(into) : this.#readPeeked(into);
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.below.write(bytes);
  }

  closeWrite(): Promise<void> {
    return this.below.closeWrite();
  }

  close(): void {
    this.below.close();
  }

  async #readPeeked(into: Uint8Array): Promise<number | null> {
    if (this.#end === 0 && !await this.#reading) return null;
    const part = this.bytes.subarray(0, into.length);
    into.set(part);
    this.skip(part.length);
    return part.length;
  }

  async #readMore(): Promise<boolean> {
    if (this.#end === this.#buffer.length) {
      const larger = new Uint8Array(Math.max(FIRST_READ_BYTES, 2 * this.#end));
      larger.set(this.#buffer);
      this.#buffer = larger;
    }
    try {
      const readBytes = await this.below.read(this.#buffer.subarray(this.#end));
      this.#end += readBytes ?? 0;
      return readBytes !== null;
    } finally {
      this.#reading = undefined;
    }
  }
}
