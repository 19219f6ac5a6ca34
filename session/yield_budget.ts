/**
 * Limits how long busy connections may keep the event loop before all others are served.
 *
 * Two properties of Deno let busy connections starve others. While there is work, it polls the sockets only once in 61
 * rounds of its event loop, however long a round takes, even if a timer is overdue. And it completes at most 128 ready
 * reads per round, newest first, so connections that call again at once overtake connections that wait.
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
import { pollRounds } from "../transport/runtime.ts";
import { LARGEST_READ_BYTES } from "../transport/transport.ts";
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

/** One poll returns only some of many thousand ready sockets. After several polls without reads, none are left. */
const POLLS_OF_MANY = 3;

/** The work that the connections of one server, or of one client, may still do in this turn. */
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

  /** The same, without beginning a turn. */
  get isResting(): boolean {
    return this.#isExhausted;
  }

  /** Resolves when the other ready connections have been served. */
  async refilled(): Promise<void> {
    while (this.isExhausted) await this.#next.promise;
  }

  /** Counts a read, if there are many connections. */
  countRead(): void {
    this.#readsInTurn++;
    if (++this.#reads === FULL_READS && !this.#isExhausted && !this.#closed) this.#endWork(POLLS_OF_MANY);
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
      false, // nobody waits for it
    );
  }

  #endWork(polls = 1): void {
    this.#stopTimer();
    this.#isExhausted = true;
    this.#roundsLeft = polls * pollRounds();
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
    this.#roundsLeft = hasMore ? POLLS_OF_MANY * pollRounds() : this.#roundsLeft - 1;
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

/** A read of this size may take long to process. */
export const LONG_READ_BYTES = 4 * 1024;

/** The pace at which the connections of a client, or one connection of a server, process what they receive. */
export class TurnPace {
  /** How many bytes to process at once. */
  bytesAtOnce = LARGEST_READ_BYTES;
  readonly #yieldBudget: YieldBudget;
  /** The input since the last check: a check begins a turn, with a timer that would cost each short read 2 µs. */
  #uncheckedBytes = 0;

  /** @param yieldBudget The work that all connections may still do in this turn. */
  constructor(yieldBudget: YieldBudget) {
    this.#yieldBudget = yieldBudget;
  }

  /** A read begins. */
  beginRead(): void {}

  /** A read has completed. `isFull`: it has filled its buffer, so that there may be more input of the same age. */
  endRead(_isFull: boolean): void {}

  /** After processing `doneBytes` of a read of `readBytes`: a promise if others come first. */
  rest(_readBytes: number, doneBytes: number): Promise<void> | undefined {
    this.#uncheckedBytes += doneBytes;
    const mayLast = this.#uncheckedBytes >= this.bytesAtOnce;
    if (mayLast) this.#uncheckedBytes = 0;
    return this.restIfDue(mayLast, doneBytes);
  }

  /** @param mayLast Whether processing may have taken long. */
  protected restIfDue(mayLast: boolean, doneBytes: number): Promise<void> | undefined {
    if (!mayLast || !this.#yieldBudget.isExhausted) {
      // The short end of a read does not show how long a whole part takes.
      if (doneBytes >= this.bytesAtOnce) this.bytesAtOnce = Math.min(LARGEST_READ_BYTES, 2 * this.bytesAtOnce);
      return undefined;
    }
    this.bytesAtOnce = Math.max(LONG_READ_BYTES, this.bytesAtOnce / 4);
    return this.#yieldBudget.refilled();
  }
}
