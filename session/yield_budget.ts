/**
 * Limits how long busy connections may keep the event loop before all others are served.
 *
 * Two properties of the runtime let busy connections starve others. While there is work, it polls the sockets only once
 * in 61 rounds of its event loop, however long a round takes, even if a timer is overdue. And it completes at most 128
 * ready reads per round, newest first, so connections that call again at once overtake connections that wait.
 *
 * So a turn ends after a few milliseconds of work, or when a round completes as many reads as it can. Then the
 * connections that were served wait, and the others are served, until the runtime has polled all sockets and only a few
 * reads are ready. Then the next turn begins.
 *
 * Accepting a connection is the cheapest part of serving it. Peers that connect again and again could keep the server
 * to themselves, so a turn accepts only a few connections, or as many as it serves.
 *
 * In: each read, each connection; the question whether the turn is over. Out: a promise of the next turn. Refused:
 * nothing. With few connections and little work, this costs nothing. If the clock stands still, no turn ends by time.
 */

import type { Clock, Timer } from "../transport/clock.ts";
import { Arrivals } from "./arrival.ts";

/** The longest work in one turn. */
export const TURN_MS = 3;

/** The runtime reads up to this many connections in one round, so none of them waits. */
export const READS_A_ROUND = 128;

/** From this many reads on, a round counts as full, because the runtime's limit includes writes. */
const FULL_READS = READS_A_ROUND / 2;

/** From this many reads in a round on, more may follow. Connections that call only now and then cause fewer. */
const MORE_READS = 8;

/**
 * The minimum number of connections that one turn accepts. Each makes about half a millisecond of work, if it also
 * calls and closes.
 */
export const CONNECTIONS_A_TURN = 32;

/** After this many rounds, the runtime has polled the sockets, which it does every 61 rounds. */
const LOOK_ROUNDS = 64;

/** One poll returns only some of many thousand ready sockets. After several polls without reads, none are left. */
const LOOK_ROUNDS_OF_MANY = 3 * LOOK_ROUNDS;

/** The work that one server's connections may still do in this turn. */
export class YieldBudget {
  /** The work of the server, and how much of it requests may have waited for. */
  readonly arrivals = new Arrivals();
  readonly #clock: Clock;
  #startedMs = 0;
  /** Ends a turn if no connection checks the budget in time. */
  #timer: Timer | undefined;
  #isExhausted = false;
  #next = Promise.withResolvers<void>();
  /** Reads in this round. */
  #reads = 0;
  /** Reads and connections in this turn. */
  #readsInTurn = 0;
  #connections = 0;
  /** Whether a callback for the end of this round is set. */
  #inRound = false;
  #roundsLeft = 0;
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether others must be served first. The first check begins a turn. */
  get isExhausted(): boolean {
    if (this.#isExhausted || this.#closed) return this.#isExhausted;
    if (this.#timer === undefined) this.#begin();
    else if (this.#clock.now() - this.#startedMs >= TURN_MS) this.#endWork();
    return this.#isExhausted;
  }

  /** Resolves when the other ready connections have been served. */
  async refilled(): Promise<void> {
    while (this.isExhausted) await this.#next.promise;
  }

  /** Counts a read, if there are many connections. */
  countRead(): void {
    this.#readsInTurn++;
    if (++this.#reads === FULL_READS && !this.#isExhausted && !this.#closed) this.#endWork(LOOK_ROUNDS_OF_MANY);
    this.#awaitRound();
  }

  /**
   * Counts a connection before it is accepted. Returns a promise if the turn has had its share of connections and
   * others come first. The share is as large as the number of reads in this turn, so that the accepted part of a crowd
   * doubles each turn and no connection waits for long.
   */
  countConnection(): Promise<void> | undefined {
    if (++this.#connections < Math.max(CONNECTIONS_A_TURN, this.#readsInTurn) || this.#closed) return undefined;
    if (!this.#isExhausted) this.#endWork();
    return this.#next.promise;
  }

  /** Ends all waits. */
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
        // If the timer is late, others may not have been served.
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

  /** Uses the runtime's rounds, not the server's clock, because it counts rounds and not time. */
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
    this.arrivals.endTurn(this.#clock.now());
    const { resolve } = this.#next;
    this.#isExhausted = false;
    this.#readsInTurn = this.#connections = 0;
    this.#next = Promise.withResolvers();
    resolve();
  }

  #stopTimer(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }
}
