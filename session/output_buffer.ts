/**
 * Counts the unsent output of one connection. This is the only backpressure: every producer of output asks it for room.
 *
 * In: counts of encoded and of sent bytes. Out: whether there is room; a promise of room. Refused: nothing.
 */
export class OutputBuffer {
  /** Bytes encoded but not yet sent. */
  queuedBytes = 0;
  /** Total bytes sent. It does not change while the peer does not read. */
  sentBytes = 0;
  /** The size of the last encoded frame. */
  lastBytes = 0;
  readonly #limitBytes: number;
  #closed = false;
  #waiting: { readonly belowBytes: number; readonly wake: () => void }[] = [];

  /** @param limitBytes The size at which it is full. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** Whether encoding should pause. */
  get full(): boolean {
    return this.queuedBytes >= this.#limitBytes && !this.#closed;
  }

  /** A frame was encoded. */
  add(bytes: number): void {
    this.lastBytes = bytes;
    this.queuedBytes += bytes;
  }

  /** Bytes were sent. */
  sent(bytes: number): void {
    this.queuedBytes -= bytes;
    this.sentBytes += bytes;
    if (this.#waiting.length > 0) this.#wakeUp();
  }

  /**
   * Resolves when fewer than `belowBytes` are queued, or when closed.
   *
   * @param belowBytes A threshold; default and maximum: the limit.
   */
  drained(belowBytes = this.#limitBytes): Promise<void> {
    return new Promise((wake) => {
      this.#waiting.push({ belowBytes: Math.min(belowBytes, this.#limitBytes), wake });
      this.#wakeUp();
    });
  }

  /** Nothing more will be sent; wakes all waiters. */
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
