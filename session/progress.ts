/**
 * Detects a peer that is too slow to send a frame, to read, or to send anything at all.
 *
 * In: the progress of a connection, at intervals. Out: which timeout was exceeded, if any. Refused: nothing.
 */

import type { Limits } from "../limits.ts";

/** A frame that arrives at this rate is never too slow. */
const LEAST_BYTES_PER_SECOND = 4 * 1024;

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
export type Late = { readonly kind: "frame"; readonly reason: string } | { readonly kind: "write" | "idle" };

/** Watches one connection. */
export class ProgressWatch {
  /** Whether the peer's input is being read. While it is not, the peer cannot be late. */
  isReading = false;
  readonly #limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs">;
  #before = { receivedBytes: 0, sentBytes: 0, frames: 0 };
  #silentSinceMs = Infinity;
  #unsentSinceMs = Infinity;
  /** When, and at which byte, the measurement of the frame's rate began. */
  #midFrameSinceMs = Infinity;
  #midFrameFromBytes = 0;

  /** @param limits The timeouts; `Infinity` disables one. */
  constructor(limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs">) {
    this.#limits = limits;
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
    const silent = this.isReading && !now.busy && !now.midFrame && !now.sending &&
      now.receivedBytes === before.receivedBytes;
    this.#silentSinceMs = silent ? Math.min(this.#silentSinceMs, nowMs) : Infinity;

    if (isBehind) return undefined;
    const { writeTimeoutMs, idleTimeoutMs } = this.#limits;
    const slowFrame = this.#slowFrame(now.receivedBytes, nowMs);
    if (slowFrame !== undefined) return { kind: "frame", reason: slowFrame };
    if (nowMs - this.#unsentSinceMs >= writeTimeoutMs) return { kind: "write" };
    if (nowMs - this.#silentSinceMs >= idleTimeoutMs) return { kind: "idle" };
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
