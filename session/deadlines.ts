/**
 * Many deadlines on one timer. Each call expires at its own time. All connections are checked twice a second for a peer
 * that is dead, or too slow to send a frame, to read, or to send anything at all.
 *
 * In: deadlines; the progress of connections. Out: a call of `expire()` at each deadline, and of `sweep()` on each
 * connection; which timeout was exceeded, if any. Refused: nothing.
 */

import type { Limits } from "../limits.ts";
import type { Clock, Timer } from "../transport/clock.ts";

/** Deadlines are rounded up to slots of this many milliseconds. */
export const SLOT_MS = 5;

/** Deadlines that expire together take turns of this length, so that others are served between them. */
const TURN_MS = 3;

/** The pause between two turns. The runtime polls its sockets in it, which it may not do before a timer of 0 ms. */
const PAUSE_MS = 1;

/** The place of a deadline that is not watched. */
export const UNWATCHED = -1;

/** Something with a deadline. */
export interface Expiring {
  /** In the clock's time; must not change while it is watched. */
  readonly deadlineMs: number;
  /** Its place in its slot, {@linkcode UNWATCHED} at first; only the wheel changes it. */
  slotPlace: number;
  /** Called once, unless deleted before. */
  expire(): void;
}

/** The state of something with a deadline. */
export abstract class Deadline implements Expiring {
  deadlineMs = Infinity;
  slotPlace = UNWATCHED;

  abstract expire(): void;
}

/**
 * A set of deadlines, each at most {@linkcode SLOT_MS} late. Setting and clearing a timer of the runtime costs 2 µs,
 * and most calls end long before their deadline. Here both cost a few operations on an array.
 */
export class TimerWheel {
  readonly #clock: Clock;
  // Arrays, because a `Set` that changes with every call is hard on the garbage collector (`CallTable`).
  readonly #slots = new Map<number, Expiring[]>();
  #timer: Timer | undefined;
  #timerSlot = Infinity;

  /** @param clock The clock of the deadlines. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Adds a deadline. An infinite deadline, and one that is watched already, is ignored. */
  add(expiring: Expiring): void {
    if (expiring.deadlineMs === Infinity || expiring.slotPlace !== UNWATCHED) return;
    const slot = slotOf(expiring);
    const others = this.#slots.get(slot);
    expiring.slotPlace = others?.length ?? 0;
    if (others) {
      others.push(expiring);
    } else {
      this.#slots.set(slot, [expiring]);
      if (slot < this.#timerSlot) this.#arm(slot);
    }
  }

  /** Removes a deadline; an unknown one is ignored. */
  delete(expiring: Expiring): void {
    const { slotPlace } = expiring;
    if (slotPlace === UNWATCHED) return;
    expiring.slotPlace = UNWATCHED;
    const slot = slotOf(expiring);
    const others = this.#slots.get(slot) as Expiring[];
    const last = others.pop() as Expiring;
    if (last !== expiring) {
      others[slotPlace] = last;
      last.slotPlace = slotPlace;
    } else if (others.length === 0) {
      this.#slots.delete(slot);
    }
    // Keep the timer: one needless wake-up is cheaper than a new timer for each call.
  }

  /** Removes all deadlines and stops the timer. */
  clear(): void {
    for (const watched of this.#slots.values()) for (const each of watched) each.slotPlace = UNWATCHED;
    this.#slots.clear();
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#timerSlot = Infinity;
  }

  #arm(slot: number, waitMs = slot * SLOT_MS - this.#clock.now()): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timerSlot = slot;
    // Not keepAlive: a call with a deadline also waits for a socket or for a connection, which keeps the process alive.
    this.#timer = this.#clock.setTimer(() => this.#sweep(), waitMs, false);
  }

  #sweep(): void {
    this.#timer = undefined;
    this.#timerSlot = Infinity;
    const nowMs = this.#clock.now();
    let next = Infinity;
    for (const [slot, watched] of [...this.#slots]) {
      if (slot * SLOT_MS > nowMs) {
        next = Math.min(next, slot);
        continue;
      }
      for (const each of [...watched]) {
        // A deadline that expired earlier may have deleted this one, and added it again.
        if (each.slotPlace === UNWATCHED || slotOf(each) !== slot) continue;
        this.delete(each);
        each.expire();
        if (this.#clock.now() - nowMs >= TURN_MS) return this.#arm(slot, PAUSE_MS);
      }
      if (this.#slots.has(slot)) next = Math.min(next, slot); // a deadline was added
    }
    if (next < this.#timerSlot) this.#arm(next);
  }
}

function slotOf(expiring: Expiring): number {
  return Math.ceil(expiring.deadlineMs / SLOT_MS);
}

/** The interval between checks. */
const SWEEP_MS = 500;

/** Something to check. */
export interface Swept {
  /**
   * Checks the connection.
   *
   * @param isBehind Whether the last check was longer ago than usual.
   * @returns Whether to check again. A client without open calls needs no timer.
   */
  sweep(nowMs: number, isBehind: boolean): boolean;
}

/** Checks all connections of a set at intervals, with one timer for all. */
export class Sweeper {
  readonly #clock: Clock;
  readonly #connections: ReadonlySet<Swept>;
  #timer: Timer | undefined;
  #lookedMs = 0;

  /**
   * @param clock The clock for the interval.
   * @param connections The connections; the set may change.
   */
  constructor(clock: Clock, connections: ReadonlySet<Swept>) {
    this.#clock = clock;
    this.#connections = connections;
  }

  /** Starts the checks, unless they are running. */
  start(): void {
    if (this.#timer !== undefined) return;
    this.#lookedMs = this.#clock.now();
    this.#schedule();
  }

  stop(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }

  #schedule(): void {
    this.#timer = this.#clock.setTimer(
      () => {
        const nowMs = this.#clock.now();
        // After a long computation or a suspended process, input may be waiting unread.
        const isBehind = nowMs - this.#lookedMs > 2 * SWEEP_MS;
        this.#lookedMs = nowMs;
        this.#timer = undefined;
        let again = false;
        for (const connection of this.#connections) again = connection.sweep(nowMs, isBehind) || again;
        if (again) this.#schedule();
      },
      SWEEP_MS,
      false,
    );
  }
}

/** A frame that arrives at this rate is never too slow. */
const LEAST_BYTES_PER_SECOND = 4_096;

/** A peer that has promised signs of life is dead after this many of its intervals without a byte. */
const DEAD_AFTER_INTERVALS = 1.5;

/** The state of a connection. */
interface Progress {
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Complete frames received. */
  readonly frames: number;
  /** Whether a frame is incomplete. */
  readonly midFrame: boolean;
  /** Whether output waits for the peer to read. */
  readonly sending: boolean;
  /** Whether a call is in flight. */
  readonly busy: boolean;
}

/** The timeout that was exceeded. */
interface Late {
  readonly kind: "frame" | "write" | "idle" | "dead";
  readonly reason: string;
}

/** Watches one connection for a peer that is too slow or dead. */
export class ProgressWatch {
  /** Whether the peer's input is being read. While it is not, the peer cannot be late. */
  isReading = false;
  /** While a call is open, the peer has promised to send something at least this often; `Infinity` if it has not. */
  aliveMs = Infinity;
  readonly #limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs">;
  #before = { receivedBytes: 0, sentBytes: 0, frames: 0 };
  #silentSinceMs = Infinity;
  /** Like `#silentSinceMs`, but with a call open. */
  #unheardSinceMs = Infinity;
  #unsentSinceMs = Infinity;
  /** When, and at which byte, the measurement of the frame's rate began. */
  #midFrameSinceMs = Infinity;
  #midFrameFromBytes = 0;

  /** @param limits The timeouts. `Infinity` disables a timeout. */
  constructor(limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs">) {
    this.#limits = limits;
  }

  /** Whether anything was received or sent since the last check. */
  hasMoved({ receivedBytes, sentBytes }: Progress): boolean {
    return receivedBytes !== this.#before.receivedBytes || sentBytes !== this.#before.sentBytes;
  }

  /**
   * Compares the progress with the last check.
   *
   * @param isBehind Whether the last check was long ago. Input may then wait unread, so no peer counts as late.
   */
  look(now: Progress, nowMs: number, isBehind: boolean): Late | undefined {
    const before = this.#before;
    this.#before = now;

    const sameFrame = this.isReading && now.midFrame && now.frames === before.frames;
    if (!sameFrame || this.#midFrameSinceMs === Infinity) {
      this.#midFrameSinceMs = sameFrame ? nowMs : Infinity;
      this.#midFrameFromBytes = now.receivedBytes;
    }
    const unsent = now.sending && now.sentBytes === before.sentBytes;
    this.#unsentSinceMs = unsent ? Math.min(this.#unsentSinceMs, nowMs) : Infinity;
    const silent = this.isReading && now.receivedBytes === before.receivedBytes;
    const idle = silent && !now.busy && !now.midFrame && !now.sending;
    this.#silentSinceMs = idle ? Math.min(this.#silentSinceMs, nowMs) : Infinity;
    this.#unheardSinceMs = silent && now.busy ? Math.min(this.#unheardSinceMs, nowMs) : Infinity;

    if (isBehind) return undefined;
    const { writeTimeoutMs, idleTimeoutMs } = this.#limits;
    const slowFrame = this.#slowFrame(now.receivedBytes, nowMs);
    if (slowFrame !== undefined) return { kind: "frame", reason: slowFrame };
    if (nowMs - this.#unsentSinceMs >= writeTimeoutMs) return { kind: "write", reason: "the peer does not read" };
    if (nowMs - this.#silentSinceMs >= idleTimeoutMs) return { kind: "idle", reason: "the connection was idle" };
    const unheardMs = nowMs - this.#unheardSinceMs;
    if (unheardMs >= DEAD_AFTER_INTERVALS * this.aliveMs) return { kind: "dead", reason: this.#broken(unheardMs) };
  }

  #broken(unheardMs: number): string {
    return `the peer was silent for ${
      (unheardMs / 1000).toFixed(1)
    } s with a call open, and has promised a sign of life ` +
      `every ${this.aliveMs / 1000} s`;
  }

  /** The reason if a frame is too slow. If it is fast enough, the measurement restarts. */
  #slowFrame(receivedBytes: number, nowMs: number): string | undefined {
    const frameMs = nowMs - this.#midFrameSinceMs;
    if (frameMs < this.#limits.frameTimeoutMs) return undefined;
    this.#midFrameSinceMs = Infinity;
    const frameBytes = receivedBytes - this.#midFrameFromBytes;
    if (1000 * frameBytes >= LEAST_BYTES_PER_SECOND * frameMs) return undefined;
    return `a frame arrives too slowly: ${frameBytes} bytes in ${(frameMs / 1000).toFixed(1)} s; the minimum is ` +
      `${LEAST_BYTES_PER_SECOND} bytes per second`;
  }
}
