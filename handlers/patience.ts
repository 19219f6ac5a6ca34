/**
 * How long a connection over a limit is not read: the calls that it waits for may need messages that are not read meanwhile.
 *
 * In: when there may be room. Out: whether to wait on. Refused: nothing.
 */

import type { Clock } from "../transport/clock.ts";

/** If nothing has moved by then, what does not fit is refused. */
const PATIENCE_MS = 1_000;

/** The patience of one connection with one limit. */
export class Patience {
  /** Nothing moved in time. */
  isOver = false;

  /**
   * Waits until something moves, with a limit.
   *
   * @param onMove Is given what to call then.
   */
  async wait(clock: Clock, onMove: (resume: () => void) => void): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    onMove(resolve);
    const giveUp = () => {
      this.isOver = true;
      resolve();
    };
    const timer = clock.setTimer(giveUp, PATIENCE_MS, false);
    await promise;
    clock.clearTimer(timer);
  }

  /** There is room: the next time over the limit has the whole time again. */
  renew(): void {
    this.isOver = false;
  }
}
