/**
 * Whether the peer of a connection is too slow: with a frame, with reading, or with anything at all.
 *
 * In: what has come and gone, now and then. Out: what takes too long, if anything does.
 */

import type { Limits } from "../limits.ts";

/** A frame that comes at this rate is not slow, however long it takes. */
const LEAST_BYTES_PER_SECOND = 4 * 1024;

/** What a connection has done so far, and what it is doing. */
export interface Progress {
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Frames that were read to their end. */
  readonly frames: number;
  /** Whether a frame has begun and not ended. */
  readonly midFrame: boolean;
  /** Whether output waits for the peer to read. */
  readonly sending: boolean;
  /** Whether a call is in flight. */
  readonly busy: boolean;
}

/** What takes too long. */
export type Late = { readonly kind: "frame"; readonly reason: string } | { readonly kind: "write" | "idle" };

/** Watches one connection. */
export class ProgressWatch {
  /** Whether the peer may send: not while what it has sent waits for room. Only then can it be late. */
  isReading = false;
  readonly #limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs">;
  #before = { receivedBytes: 0, sentBytes: 0, frames: 0 };
  #silentSinceMs = Infinity;
  #unsentSinceMs = Infinity;
  /** Since when, and from which byte on, the progress of a frame is watched. */
  #midFrameSinceMs = Infinity;
  #midFrameFromBytes = 0;

  /** @param limits How long each may take; `Infinity` is without end. */
  constructor(limits: Pick<Limits, "frameTimeoutMs" | "idleTimeoutMs" | "writeTimeoutMs">) {
    this.#limits = limits;
  }

  /**
   * Looks at the progress since the last look.
   *
   * @param isBehind The last look was long ago: what has come since may not have been read, and nobody is late yet.
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

  /** Why a frame is too slow, if it is. One that is fast enough is watched anew. */
  #slowFrame(receivedBytes: number, nowMs: number): string | undefined {
    const frameMs = nowMs - this.#midFrameSinceMs;
    if (frameMs < this.#limits.frameTimeoutMs) return undefined;
    this.#midFrameSinceMs = Infinity;
    const frameBytes = receivedBytes - this.#midFrameFromBytes;
    if (1000 * frameBytes >= LEAST_BYTES_PER_SECOND * frameMs) return undefined;
    return `a frame comes too slowly: ${frameBytes} bytes in ${(frameMs / 1000).toFixed(1)} s; at least ` +
      `${LEAST_BYTES_PER_SECOND} bytes a second are expected`;
  }
}
