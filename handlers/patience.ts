/**
 * How long a connection over a limit is not read. It cannot wait forever: the open calls may need the unread messages.
 *
 * In: when there may be room. Out: whether to continue to wait. Refused: nothing.
 */

import type { Clock } from "../transport/clock.ts";

/** If there is no room after this time, what does not fit is refused. */
const PATIENCE_MS = 1_000;

/** The patience of one connection with one limit. */
export class Patience {
  /** Whether the time has run out. */
  isOver = false;

  /**
   * Waits until there may be room, or the time has run out.
   *
   * @param onMove Gets the function to call when there may be room.
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

  /** There is room: the next wait has the whole time again. */
  renew(): void {
    this.isOver = false;
  }
}
