/**
 * Latencies in a memory of fixed size, however many there are.
 *
 * In: milliseconds, one by one. Out: percentiles, each within {@linkcode ACCURACY} of a latency that was recorded;
 * smallest, largest and mean, exact. Refused: nothing; what lies beyond 0.1 µs or 25 days goes to the nearest bucket.
 *
 * The buckets are of equal width on a logarithmic scale: {@linkcode STEPS} between any latency and its double. A
 * percentile is the middle of the bucket in which it lies.
 */

/** Buckets between a latency and its double. */
const STEPS = 64;

/** The shortest and the longest latency that have a bucket of their own, as powers of two of a microsecond. */
const FIRST_POWER = -3;
const LAST_POWER = 41;

const BUCKETS = (LAST_POWER - FIRST_POWER) * STEPS;

/** How far, at the most, a percentile lies from a latency that was recorded: 0.55 %. */
export const ACCURACY = 2 ** (1 / (2 * STEPS)) - 1;

/** Some latencies, counted. */
export class LatencyHistogram {
  /** How many were recorded. */
  count = 0;
  /** The shortest; `NaN` if there is none. */
  minMs = NaN;
  /** The longest; `NaN` if there is none. */
  maxMs = NaN;
  #sumMs = 0;
  // Not 32 bits: a week at full speed would fill them.
  readonly #buckets = new Float64Array(BUCKETS);

  /** Counts one. */
  record(milliseconds: number): void {
    this.count++;
    this.#sumMs += milliseconds;
    if (!(milliseconds >= this.minMs)) this.minMs = milliseconds;
    if (!(milliseconds <= this.maxMs)) this.maxMs = milliseconds;
    const place = Math.floor((Math.log2(milliseconds * 1000) - FIRST_POWER) * STEPS);
    this.#buckets[place > 0 ? Math.min(place, BUCKETS - 1) : 0]++;
  }

  /** The mean; `NaN` if there is none. */
  get meanMs(): number {
    return this.#sumMs / this.count;
  }

  /** The latency that so many percent of all did not exceed; `NaN` if there is none. */
  percentile(percent: number): number {
    // What the product lacks or has too much by rounding must not move it to a neighbour.
    let left = Math.max(1, Math.ceil(percent * this.count / 100 - 1e-9));
    if (left >= this.count) return this.maxMs;
    for (let place = 0; place < BUCKETS; place++) {
      left -= this.#buckets[place];
      if (left <= 0) return Math.min(Math.max(middleOf(place), this.minMs), this.maxMs);
    }
    return NaN;
  }

  /** How many latencies did not exceed each of these bounds, which ascend; a bucket belongs where its middle does. */
  cumulative(boundsMs: readonly number[]): number[] {
    let place = 0;
    let sum = 0;
    return boundsMs.map((boundMs) => {
      while (place < BUCKETS && middleOf(place) <= boundMs) sum += this.#buckets[place++];
      return sum;
    });
  }
}

function middleOf(place: number): number {
  return 2 ** ((place + 0.5) / STEPS + FIRST_POWER) / 1000;
}
