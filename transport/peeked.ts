/**
 * A connection whose first bytes are looked at before it is given on.
 *
 * In: a connection. Out: its first bytes; then a transport of all of them. Refused: nothing.
 */

import type { PeerCertificate } from "./certificate.ts";
import { FIRST_READ_BYTES, type Transport } from "./transport.ts";

const NOTHING = new Uint8Array(0);

/** A transport that keeps what has been looked at for its first reads. */
export class PeekedTransport implements Transport {
  readonly peer: string | undefined;
  readonly certificate: PeerCertificate | undefined;
  readonly releasesBytes: boolean | undefined;
  readonly broken: Promise<void> | undefined;
  readonly #below: Transport;
  #buffer = new Uint8Array(FIRST_READ_BYTES);
  #end = 0;
  /** The read under way, which nobody may have waited for. */
  #reading: Promise<boolean> | undefined;

  /** @param below The connection, of which nothing has been read. */
  constructor(below: Transport) {
    this.#below = below;
    this.peer = below.peer;
    this.certificate = below.certificate;
    this.releasesBytes = below.releasesBytes;
    this.broken = below.broken;
  }

  /** What has come and has not been read. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#end);
  }

  /** Waits for more to look at; `false` at the end of the peer's data. */
  more(): Promise<boolean> {
    return this.#reading ??= this.#readMore();
  }

  /** Drops the first bytes. */
  skip(bytes: number): void {
    this.#end -= bytes;
    // A connection that has been looked at keeps nothing of it.
    this.#buffer = this.#end === 0 && this.#reading === undefined ? NOTHING : this.#buffer.subarray(bytes);
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#end === 0 && this.#reading === undefined ? this.#below.read(into) : this.#readPeeked(into);
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#below.write(bytes);
  }

  closeWrite(): Promise<void> {
    return this.#below.closeWrite();
  }

  close(): void {
    this.#below.close();
  }

  look(): void {
    this.#below.look?.();
  }

  ref(): void {
    this.#below.ref?.();
  }

  unref(): void {
    this.#below.unref?.();
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
      const readBytes = await this.#below.read(this.#buffer.subarray(this.#end));
      this.#end += readBytes ?? 0;
      return readBytes !== null;
    } finally {
      this.#reading = undefined;
    }
  }
}
