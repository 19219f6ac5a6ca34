/**
 * How much output of one connection waits for its peer. This is the only backpressure there is: whoever produces output
 * asks it for room.
 *
 * In: bytes that were encoded, and bytes that were sent. Out: whether there is room, and a promise of room.
 */
export class OutputBuffer {
  /** Bytes that have been encoded and not sent. */
  queuedBytes = 0;
  /** Bytes sent since the beginning. It stands still if the peer does not read. */
  sentBytes = 0;
  readonly #limitBytes: number;
  #closed = false;
  #waiting: { readonly belowBytes: number; readonly wake: () => void }[] = [];

  /** @param limitBytes From here on it is full. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** Whether nothing more should be encoded for now. */
  get full(): boolean {
    return this.queuedBytes >= this.#limitBytes && !this.#closed;
  }

  /** Bytes were encoded. */
  add(bytes: number): void {
    this.queuedBytes += bytes;
  }

  /** Bytes were sent. */
  sent(bytes: number): void {
    this.queuedBytes -= bytes;
    this.sentBytes += bytes;
    if (this.#waiting.length > 0) this.#wakeUp();
  }

  /**
   * Resolves when fewer bytes than that are queued, or it is closed.
   *
   * @param belowBytes A mark below its limit; by default, and at most, the limit.
   */
  drained(belowBytes = this.#limitBytes): Promise<void> {
    return new Promise((wake) => {
      this.#waiting.push({ belowBytes: Math.min(belowBytes, this.#limitBytes), wake });
      this.#wakeUp();
    });
  }

  /** Nothing will be sent any more: all who wait are woken. */
  close(): void {
    this.#closed = true;
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#waiting = this.#waiting.filter(({ belowBytes, wake }) => {
      const waits = this.queuedBytes >= belowBytes && !this.#closed;
      if (!waits) wake();
      return waits;
    });
  }
}
