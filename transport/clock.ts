/**
 * The clock of packline: one interface, so that a test can control time.
 *
 * In: a delay in milliseconds. Out: a callback or a promise. Refused: nothing. Longer delays than the runtime supports
 * are clamped, because such a timer would fire at once.
 */

import { MAX_TIMER_MS, type OptionKind } from "../limits.ts";

/** Identifies a timer; only its clock looks inside. */
export type Timer = number | object;

/** A monotonic clock with timers. */
export interface Clock {
  /** Milliseconds since a fixed moment in the past; never goes back. */
  now(): number;
  /**
   * Calls back once, after the delay.
   *
   * @param callback The function to call.
   * @param delayMs After how many milliseconds.
   * @param keepAlive Whether the timer keeps the process alive.
   * @returns The argument for {@linkcode Clock.clearTimer}.
   */
  setTimer(callback: () => void, delayMs: number, keepAlive: boolean): Timer;
  /** Cancels a timer. It ignores a timer that has already fired. */
  clearTimer(timer: Timer): void;
}

/** The check of the option. */
export const CLOCK: OptionKind = {
  is: (value) =>
    ["now", "setTimer", "clearTimer"].every((name) => typeof (value as Clock | null)?.[name as "now"] === "function"),
  must: "be an object with the functions now, setTimer and clearTimer",
};

/** The system clock. */
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer(callback, delayMs, keepAlive) {
    const timer = setTimeout(callback, Math.min(Math.max(delayMs, 0), MAX_TIMER_MS));
    if (!keepAlive) (timer as { unref?(): void }).unref?.(); // a browser has nothing to keep alive
    return timer;
  },
  clearTimer: (timer) => clearTimeout(timer as number),
};

/**
 * Waits.
 *
 * @param clock The clock.
 * @param delayMs How long, in milliseconds.
 * @param signal Ends the wait at once.
 * @param keepAlive Whether the wait keeps the process alive. It does by default.
 * @returns A promise that resolves after the delay, or rejects with the signal's reason.
 */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal, keepAlive = true): Promise<void> {
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const endMs = clock.now() + delayMs;
    // A timer may fire a fraction of a millisecond early.
    const wake = () => {
      const leftMs = endMs - clock.now();
      if (leftMs > 0) {
        timer = clock.setTimer(wake, Math.ceil(leftMs), keepAlive);
        return;
      }
      signal.removeEventListener("abort", stop);
      resolve();
    };
    const stop = () => {
      clock.clearTimer(timer);
      reject(signal.reason);
    };
    let timer = clock.setTimer(wake, delayMs, keepAlive);
    signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Waits for some work within a limit, or until `attempt` is aborted. The limit does not keep the process alive.
 *
 * @param late Makes the error for work that takes longer.
 */
export async function within<Result>(
  clock: Clock,
  limitMs: number,
  work: Promise<Result>,
  late: () => Error,
  attempt: AbortController = new AbortController(),
): Promise<Result> {
  const limit = sleep(clock, limitMs, attempt.signal, false).then(() => Promise.reject(late()));
  try {
    return await Promise.race([work, limit]);
  } finally {
    attempt.abort();
  }
}
