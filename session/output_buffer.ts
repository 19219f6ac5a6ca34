/**
 * How much output waits for a slow reader: what stops the reading of a connection, and starts it again.
 *
 * In: bytes that were put out, and bytes that were sent. Out: word that there is something to send; whether it is full,
 * and a promise of when it no longer is.
 */
export class OutputBuffer {
  /** Bytes that have been put out and not sent. */
  queuedBytes = 0;
  /** Bytes sent since the beginning: stands still when the peer does not read. */
  sentBytes = 0;
  readonly #limitBytes: number;
  readonly #onAdded: () => void;
  #closed = false;
  #waiting: { readonly belowBytes: number; readonly wake: () => void }[] = [];

  /**
   * @param limitBytes From here on it is full.
   * @param onAdded Told that bytes are put out, where all before them has been sent.
   */
  constructor(limitBytes: number, onAdded: () => void) {
    this.#limitBytes = limitBytes;
    this.#onAdded = onAdded;
  }

  /** Whether nothing more should be put out for now. */
  get full(): boolean {
    return this.queuedBytes >= this.#limitBytes && !this.#closed;
  }

  /** Bytes were put out. */
  add(bytes: number): void {
    const before = this.queuedBytes;
    this.queuedBytes = before + bytes;
    if (before === 0) this.#onAdded();
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
   * @param belowBytes A mark below its limit; by default, and at the most, the limit.
   */
  drained(belowBytes = this.#limitBytes): Promise<void> {
    return new Promise((wake) => {
      this.#waiting.push({ belowBytes: Math.min(belowBytes, this.#limitBytes), wake });
      this.#wakeUp();
    });
  }

  /** Nothing will be sent any more: whoever waits, waits in vain. */
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
