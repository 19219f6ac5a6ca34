/**
 * Whose turn it is where more connections have something to say than the server can serve: each in the order in which it
 * was read.
 *
 * The runtime completes 128 reads a round of its event loop at the most (tokio's cooperative budget), and of those that are
 * ready, the ones that became so last come first. So 128 connections that call again as soon as they are answered take all
 * the places, and of 1,000 such a quarter is not read for seconds. Where no more than half as many are served a round, the
 * other half of the places is left for those that wait in the runtime, until all of them wait here instead, in their order.
 *
 * In: word that a connection has been read. Out: a promise of its turn, or nothing where it need not wait: nobody does
 * before the rounds have been full for long. Whoever is alone, or one of a few, need not even ask.
 */

import { Fifo } from "./fifo.ts";

/** Reads that the runtime completes a round. */
const READS_A_ROUND = 128;

/** Connections that are served a round, while others wait. */
export const SERVED_A_ROUND = READS_A_ROUND / 2;

/** So many full rounds, one behind another, are no burst any more that ends by itself: some 50 ms. */
const FULL_ROUNDS = 64;

/** The connections of one server, in their order. */
export class RoundRobin {
  readonly #waiting = new Fifo<() => void>();
  /** In this round, and the full ones before it. */
  #reads = 0;
  #fullRounds = 0;
  #served = 0;
  #inRound = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** A connection has been read. Resolves when it is its turn; `undefined` where that is now. */
  enter(): Promise<void> | undefined {
    if (!this.#inRound) this.#beginRound();
    this.#reads++;
    if (this.#fullRounds < FULL_ROUNDS) return;
    const turn = new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#served < SERVED_A_ROUND) this.#serveNext();
    return turn;
  }

  /** Nobody waits any longer. */
  close(): void {
    clearTimeout(this.#timer);
    this.#fullRounds = 0;
    for (const serve of this.#waiting.takeAll()) serve();
  }

  #beginRound(): void {
    this.#inRound = true;
    clearTimeout(this.#timer);
    // Of the runtime, and not of the server's clock: it is not time that passes here. It comes behind all reads of a round.
    setImmediate(() => this.#endRound());
  }

  #endRound(): void {
    this.#inRound = false;
    while (this.#served < SERVED_A_ROUND && this.#waiting.length > 0) this.#serveNext();
    if (this.#waiting.length > 0) {
      // Where nothing more is read, nobody would begin the next round. An immediate would not do: the runtime may run
      // several of them without a look at the sockets.
      this.#timer = setTimeout(() => this.#endRound(), 0);
    } else {
      this.#fullRounds = this.#reads < READS_A_ROUND ? 0 : this.#fullRounds + 1;
    }
    this.#reads = 0;
    this.#served = 0;
  }

  #serveNext(): void {
    this.#served++;
    this.#waiting.shift()?.();
  }
}
