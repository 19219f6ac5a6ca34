/**
 * Turns of the event loop: how long a few busy connections may keep it to themselves before all others are served.
 *
 * The runtime has two habits that let the busy ones starve the others. While there is work, it looks at the sockets only once
 * in 61 rounds of its event loop, however long a round takes; a timer that is overdue does not change that. And of the reads
 * that are ready it completes 128 a round, the newest first, so that connections that call again at once pass those that wait.
 *
 * So a turn is over after some milliseconds of work, or when a round completes as many reads as it can. From then on, what
 * has been served waits, and what has not been served is served; until the runtime has looked at all sockets and has no more
 * than a few reads ready. Then all that waits goes on, and the next turn begins.
 *
 * In: word of each read, and the question whether the turn is over. Out: a promise of the next turn. A connection that does a
 * little at a time, as one of a few, need not ask, and pays nothing. If the clock stands still, work has no end.
 */

import type { Clock, Timer } from "../transport/clock.ts";

/** How long work may last in one turn. */
export const TURN_MS = 3;

/** As many connections are read in one round: the runtime lets none of them wait. */
export const READS_A_ROUND = 128;

/** With so many reads, a round is full: the runtime counts writes, too. */
const FULL_READS = READS_A_ROUND / 2;

/** With so many, there may be more to come. Connections that call now and then bring fewer: the work does not wait for them. */
const MORE_READS = 8;

/** After so many rounds of the event loop, the runtime has looked at the sockets: it does so every 61. */
const LOOK_ROUNDS = 64;

/** It shows no more than a part of many thousand ready sockets at a look: there are none left after some looks without reads. */
const LOOK_ROUNDS_OF_MANY = 3 * LOOK_ROUNDS;

/** What one server's connections may still do in this turn. */
export class YieldBudget {
  readonly #clock: Clock;
  #startedMs = 0;
  /** Ends a turn that nobody has found to be over. */
  #timer: Timer | undefined;
  #isExhausted = false;
  #next = Promise.withResolvers<void>();
  /** Reads in this round, and whether its end is awaited. */
  #reads = 0;
  #inRound = false;
  #roundsLeft = 0;
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether others must be served before the work goes on. The first to ask begins a turn. */
  get isExhausted(): boolean {
    if (this.#isExhausted || this.#closed) return this.#isExhausted;
    if (this.#timer === undefined) this.#begin();
    else if (this.#clock.now() - this.#startedMs >= TURN_MS) this.#endWork();
    return this.#isExhausted;
  }

  /** Resolves when all that was ready has been served, and the work may go on. */
  async refilled(): Promise<void> {
    while (this.isExhausted) await this.#next.promise;
  }

  /** One of many connections has been read. */
  countRead(): void {
    if (++this.#reads === FULL_READS && !this.#isExhausted && !this.#closed) this.#endWork(LOOK_ROUNDS_OF_MANY);
    this.#awaitRound();
  }

  /** Nobody waits any longer. */
  close(): void {
    this.#closed = true;
    this.#stopTimer();
    this.#end();
  }

  #begin(): void {
    this.#startedMs = this.#clock.now();
    this.#timer = this.#clock.setTimer(
      () => {
        this.#timer = undefined;
        // The timer was overdue: nobody else may have been served.
        if (this.#clock.now() - this.#startedMs >= TURN_MS) this.#endWork();
      },
      0,
      true,
    );
  }

  #endWork(lookRounds = LOOK_ROUNDS): void {
    this.#stopTimer();
    this.#isExhausted = true;
    this.#roundsLeft = lookRounds;
    this.#awaitRound();
  }

  /** Of the runtime, not of the server's clock: it is not time that passes here. */
  #awaitRound(): void {
    if (this.#inRound) return;
    this.#inRound = true;
    setImmediate(() => this.#endRound());
  }

  #endRound(): void {
    this.#inRound = false;
    const hasMore = this.#reads >= MORE_READS;
    this.#reads = 0;
    if (!this.#isExhausted) return;
    this.#roundsLeft = hasMore ? LOOK_ROUNDS_OF_MANY : this.#roundsLeft - 1;
    if (this.#roundsLeft > 0) this.#awaitRound();
    else this.#end();
  }

  #end(): void {
    const { resolve } = this.#next;
    this.#isExhausted = false;
    this.#next = Promise.withResolvers();
    resolve();
  }

  #stopTimer(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }
}
