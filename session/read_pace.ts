/**
 * Decides how much input a connection of a server processes before others get their turn: as much as recently fitted in
 * one turn.
 *
 * In: each read, and its size. Out: when it arrived; how much to process at once; a promise if others come first.
 * Refused: nothing.
 */

import type { ServerReading } from "../codec/decode.ts";
import { LongPayload } from "../codec/long_payload.ts";
import type { Payload } from "../codec/read_message.ts";
import type { Reader } from "../codec/reader.ts";
import type { Clock } from "../transport/clock.ts";
import type { Arrival } from "./arrival.ts";
import { Fifo } from "./collections.ts";
import { LONG_READ_BYTES, READS_A_ROUND, TurnPace, type YieldBudget } from "./yield_budget.ts";

/** How many long messages a server reads at a time. */
const LONG_READS = 8;

/**
 * The long messages that a server has begun to read. No limit counts the memory of a partly read message, so the other
 * messages wait as bytes.
 */
export class LongReads {
  #begun = 0;
  readonly #waiting = new Fifo<() => void>();

  /** Whether no more messages may begin. */
  get isFull(): boolean {
    return this.#begun === LONG_READS;
  }

  /** Begins a message, now or when another has ended. */
  async begin(): Promise<void> {
    if (this.isFull) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#begun++;
  }

  /** A message has ended. The next one takes its place. */
  end(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#begun--;
    else next();
  }
}

/** State that the connections of a server share. */
export interface SharedTurns {
  readonly clock: Clock;
  /** The work that all connections may still do in this turn. */
  readonly yieldBudget: YieldBudget;
  readonly load: { readonly longReads: LongReads };
  /** The open connections. */
  readonly connections: { readonly size: number };
}

/** The pace of one connection of a server, which also knows how long its requests may have waited. */
export class ReadPace extends TurnPace implements ServerReading {
  /** When the bytes of the last read arrived. */
  arrival: Arrival;
  readonly #shared: SharedTurns;
  /** The server's work before the last read began, and before it was complete. */
  #begun = 0;
  #last = 0;

  constructor(shared: SharedTurns) {
    super(shared.yieldBudget);
    this.#shared = shared;
    this.skip();
    this.arrival = { readMs: shared.clock.now(), afterWorkMs: this.#last };
  }

  /** The connection was not read, for a reason other than work. */
  skip(): void {
    this.#last = this.#shared.yieldBudget.arrivals.workMs;
  }

  override beginRead(): void {
    this.#begun = this.#shared.yieldBudget.arrivals.workMs;
  }

  /** Many reads complete at the same time, before any of them is processed. */
  override endRead(isFull: boolean): void {
    const { clock, yieldBudget: { arrivals } } = this.#shared;
    const nowMs = clock.now();
    const afterWorkMs = arrivals.earliest(nowMs, this.#begun, this.#last);
    this.arrival = { readMs: nowMs, afterWorkMs };
    this.#last = isFull ? afterWorkMs : arrivals.workMs;
    if (this.#isOneOfMany) this.#shared.yieldBudget.countRead();
  }

  override rest(readBytes: number, doneBytes: number): Promise<void> | undefined {
    return this.restIfDue(readBytes >= LONG_READ_BYTES || this.#isOneOfMany, doneBytes);
  }

  /** Reads a long payload. Between its parts, other connections are served if they wait. */
  readAhead(reader: Reader): Payload | Promise<Payload> {
    const { yieldBudget, load: { longReads } } = this.#shared;
    const payload = new LongPayload(reader);
    const parts = payload.readAhead();
    if (longReads.isFull) return this.#readOn(payload, parts);
    while (!parts.next().done) {
      if (yieldBudget.isExhausted) return this.#readOn(payload, parts);
    }
    return payload;
  }

  async #readOn(payload: LongPayload, parts: Generator<void, void>): Promise<Payload> {
    const { yieldBudget, load: { longReads } } = this.#shared;
    await longReads.begin();
    try {
      do {
        if (yieldBudget.isExhausted) await yieldBudget.refilled();
      } while (!parts.next().done);
    } finally {
      longReads.end();
    }
    return payload;
  }

  /** The runtime reads a few connections in one round. Reads must be counted only if there are many connections. */
  get #isOneOfMany(): boolean {
    return this.#shared.connections.size > READS_A_ROUND;
  }
}
