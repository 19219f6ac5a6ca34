/**
 * Reproducible random numbers: a test prints its seed, and the same seed repeats the run.
 */

/**
 * A different seed each time, or the one that the command line gives: `deno test FILE -- --seed 5`.
 * Print it: `console.log(`seed ${seed}`)`.
 */
export function newSeed(): number {
  const given = Deno.args.indexOf("--seed");
  return given < 0 ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(Deno.args[given + 1]);
}

/** Random choices from one seed. */
export class Random {
  #state: number;

  /** @param seed Any integer. */
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** A number from 0 up to, but not, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from 0 up to, but not, `end`. */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  /** An integer from `least` to `most`, both included. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  /** One of the items. */
  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)];
  }

  /** Whether something of this probability happens. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** That many bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    for (let index = 0; index < length; index++) bytes[index] = this.below(256);
    return bytes;
  }

  /** The bytes in pieces of random sizes, each at least one byte. */
  pieces(bytes: Uint8Array, largest: number): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = Math.min(bytes.length, at + this.between(1, largest));
      pieces.push(bytes.slice(at, end));
      at = end;
    }
    return pieces;
  }
}
