/**
 * How much of what was read a connection works on before it looks whether others wait: as much as has not taken longer
 * than a turn lately.
 *
 * In: how much was read. Out: how much to take at once, and a promise if others come first.
 */

import { LARGEST_READ_BYTES } from "../transport/transport.ts";
import { READS_A_ROUND, type YieldBudget } from "./yield_budget.ts";

/** A read that may hold work for long: after it, it may be another's turn. */
const LONG_READ_BYTES = 4 * 1024;

/** What the connections of a server share. */
export interface SharedTurns {
  /** What all of them may still do in this turn. */
  readonly yieldBudget: YieldBudget;
  /** All that are open. */
  readonly connections: { readonly size: number };
}

/** The pace of one connection. */
export class ReadPace {
  /** How much to work on at once. */
  bytesAtOnce = LARGEST_READ_BYTES;
  readonly #shared: SharedTurns;

  constructor(shared: SharedTurns) {
    this.#shared = shared;
  }

  /** Bytes have come. */
  countRead(): void {
    if (this.#isOneOfMany) this.#shared.yieldBudget.countRead();
  }

  /** After some work on a read of so many bytes: a promise if others come first. */
  rest(readBytes: number): Promise<void> | undefined {
    const { yieldBudget } = this.#shared;
    const mayLast = readBytes >= LONG_READ_BYTES || this.#isOneOfMany;
    if (!mayLast || !yieldBudget.isExhausted) {
      this.bytesAtOnce = Math.min(LARGEST_READ_BYTES, 2 * this.bytesAtOnce);
      return undefined;
    }
    this.bytesAtOnce = Math.max(LONG_READ_BYTES, this.bytesAtOnce / 4);
    return yieldBudget.refilled();
  }

  /** The runtime serves all of a few connections in one round; many have to count. */
  get #isOneOfMany(): boolean {
    return this.#shared.connections.size > READS_A_ROUND;
  }
}
