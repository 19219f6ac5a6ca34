/**
 * Detects a peer that is too slow to send a frame, to read, or to send anything at all, and one that is dead.
 *
 * In: the progress of a connection, at intervals. Out: which timeout was exceeded, if any. Refused: nothing.
 */

import type { Limits } from "../limits.ts";

/** A frame that arrives at this rate is never too slow. */
const LEAST_BYTES_PER_SECOND = 4 * 1024;

/** A peer that has promised signs of life is dead after this many of its intervals without a byte. */
const DEAD_AFTER_INTERVALS = 1.5;

/** The state of a connection. */
export interface Progress {
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
export interface Late {
  readonly kind: "frame" | "write" | "idle" | "dead";
  readonly reason: string;
}

/** Watches one connection. */
export class ProgressWatch {
  /** Whether the peer's input is being read. While it is not, the peer cannot be late. */
  isReading = false;
  /** While a call is open, the peer has promised to send something at least this often; `Infinity` if it has not. */
  aliveMs = Infinity;
  readonly #limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs">;
  #before = { receivedBytes: 0, sentBytes: 0, frames: 0 };
  #silentSinceMs = Infinity;
  /** As `#silentSinceMs`, but with a call open. */
  #unheardSinceMs = Infinity;
  #unsentSinceMs = Infinity;
  /** When, and at which byte, the measurement of the frame's rate began. */
  #midFrameSinceMs = Infinity;
  #midFrameFromBytes = 0;

  /** @param limits The timeouts; `Infinity` disables one. */
  constructor(limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs">) {
    this.#limits = limits;
  }

  /** Whether anything has come or gone since the last check. */
  hasMoved({ receivedBytes, sentBytes }: Progress): boolean {
    return receivedBytes !== this.#before.receivedBytes || sentBytes !== this.#before.sentBytes;
  }

  /**
   * Compares the progress with the last check.
   *
   * @param isBehind The last check was long ago: input may be waiting unread, so no peer counts as late.
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
