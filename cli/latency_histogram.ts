/**
 * Records latencies in a fixed amount of memory.
 *
 * In: milliseconds, one by one. Out: percentiles, each within {@linkcode ACCURACY} of a recorded latency; exact
 * minimum, maximum and mean. Refused: nothing; latencies below 0.1 µs or above 25 days go to the nearest bucket.
 *
 * The buckets have equal width on a logarithmic scale: {@linkcode STEPS} for each doubling. A percentile is the middle
 * of its bucket.
 */

/** Buckets for each doubling of a latency. */
const STEPS = 64;

/** The range of the buckets, as powers of two of a microsecond. */
const FIRST_POWER = -3;
const LAST_POWER = 41;

const BUCKETS = (LAST_POWER - FIRST_POWER) * STEPS;

/** The largest distance of a percentile from a recorded latency: 0.54 %. */
export const ACCURACY = 2 ** (1 / (2 * STEPS)) - 1;

/** A histogram of latencies. */
export class LatencyHistogram {
  /** The number of latencies. */
  count = 0;
  /** The shortest latency; `NaN` if there is none. */
  minMs = NaN;
  /** The longest latency; `NaN` if there is none. */
  maxMs = NaN;
  #sumMs = 0;
  // Not 32 bits: a week at full speed would overflow them.
  readonly #buckets = new Float64Array(BUCKETS);

  /** Records one latency. */
  record(milliseconds: number): void {
    this.count++;
    this.#sumMs += milliseconds;
    if (!(milliseconds >= this.minMs)) this.minMs = milliseconds;
    if (!(milliseconds <= this.maxMs)) this.maxMs = milliseconds;
    const place = Math.floor((Math.log2(milliseconds * 1000) - FIRST_POWER) * STEPS);
    this.#buckets[place > 0 ? Math.min(place, BUCKETS - 1) : 0]++;
  }

  /** The mean latency; `NaN` if there is none. */
  get meanMs(): number {
    return this.#sumMs / this.count;
  }

  /** The latency that this percentage did not exceed; `NaN` if there is none. */
  percentile(percent: number): number {
    // A rounding error of the product must not select a neighbour.
    let left = Math.max(1, Math.ceil(percent * this.count / 100 - 1e-9));
    if (left >= this.count) return this.maxMs;
    for (let place = 0; place < BUCKETS; place++) {
      left -= this.#buckets[place];
      if (left <= 0) return Math.min(Math.max(middleOf(place), this.minMs), this.maxMs);
    }
    return NaN;
  }

  /** The number of latencies up to each bound, in ascending order; a bucket counts by its middle. */
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
