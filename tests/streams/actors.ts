/**
 * Who takes part in a call of the model, each a small program that goes one step whenever the driver lets it: the source of the
 * caller's items, the handler, the reader of the reply stream.
 *
 * In: a plan. Out: what each has done and seen, for the checks.
 */

import { RpcError } from "../../errors.ts";
import type { Random } from "../support/random.ts";

/** Lets actors go on, one at a time. */
export class Steps {
  readonly #waiting: (() => void)[] = [];

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Waits for the driver. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Lets one of them go. */
  release(random: Random): void {
    const [resume] = this.#waiting.splice(random.below(this.#waiting.length), 1);
    resume?.();
  }
}

/** An item: whose it is, its place from 0 on, and what makes it large. */
export interface Item {
  call: number;
  index: number;
  pad: string;
}

/** What a source throws. */
export class SourceError extends Error {}

/** The forms in which a caller may give items. */
export const SOURCE_FORMS = ["generator", "iterator", "plain", "stream"] as const;

/** The source of a caller's items. */
export class Source {
  readonly call: number;
  readonly form: typeof SOURCE_FORMS[number];
  /** How many items there are, and whether an error comes behind them in place of the end. */
  readonly count: number;
  readonly throws: boolean;
  readonly pads: number;
  /** Items that it was asked for, and those that it has given. */
  asked = 0;
  given = 0;
  /** By itself, or because it was told to. */
  ending: "done" | "thrown" | "returned" | undefined;
  /** How often it has ended by itself, and how often it was told to. */
  endings = 0;
  returns = 0;
  /** Whether it was asked for an item behind its end. */
  wasAskedTooLate = false;

  /**
   * Whether it has ended as often as it must: once, unless nobody has begun with it. An iterator cannot be told that its end
   * is not yet seen: it may be told to return meanwhile.
   */
  get hasEnded(): boolean {
    const { form, endings, returns } = this;
    if (this.wasAskedTooLate || endings > 1 || returns > 1) return false;
    if (endings + returns === 0) return this.asked === 0 && (form === "generator" || form === "plain");
    return endings + returns === 1 || form === "iterator";
  }

  constructor(call: number, random: Random, readonly steps: Steps) {
    this.call = call;
    this.form = random.pick(SOURCE_FORMS);
    this.count = random.pick([0, 1, 2, 3, 5, 8, random.below(30)]);
    this.throws = random.chance(0.15);
    this.pads = random.pick([0, 0, 10, 3_000, 30_000]);
  }

  /** In its form. */
  get items(): AsyncIterable<Item> | Iterable<Item> {
    if (this.form === "generator") return this.#generator();
    if (this.form === "plain") return this.#plain();
    if (this.form === "stream") return this.#stream();
    return { [Symbol.asyncIterator]: () => this.#iterator() };
  }

  #end(how: "done" | "thrown"): void {
    this.ending ??= how;
    this.endings++;
  }

  #return(): void {
    this.ending ??= "returned";
    this.returns++;
  }

  /** The next item; `undefined` at the end. */
  #next(): Item | undefined {
    if (this.given < this.count) return itemOf(this.call, this.given++, this.pads);
    this.#end(this.throws ? "thrown" : "done");
    if (this.throws) throw new SourceError("the source has broken");
  }

  async *#generator(): AsyncGenerator<Item> {
    this.asked++;
    try {
      while (true) {
        await this.steps.wait();
        const item = this.#next();
        if (item === undefined) return;
        yield item;
      }
    } finally {
      if (this.ending === undefined) this.#return();
    }
  }

  *#plain(): Generator<Item> {
    this.asked++;
    try {
      for (let item = this.#next(); item !== undefined; item = this.#next()) yield item;
    } finally {
      if (this.ending === undefined) this.#return();
    }
  }

  #iterator(): AsyncIterator<Item> {
    return {
      next: async () => {
        this.asked++;
        this.wasAskedTooLate ||= this.ending !== undefined;
        await this.steps.wait();
        if (this.ending !== undefined) return { done: true, value: undefined };
        const value = this.#next();
        return value === undefined ? { done: true, value } : { done: false, value };
      },
      return: async () => {
        this.#return();
        await this.steps.wait();
        return { done: true, value: undefined };
      },
    };
  }

  #stream(): ReadableStream<Item> {
    return new ReadableStream<Item>({
      pull: async (controller) => {
        this.asked++;
        await this.steps.wait();
        if (this.ending !== undefined) return;
        try {
          const item = this.#next();
          if (item === undefined) controller.close();
          else controller.enqueue(item);
        } catch (error) {
          controller.error(error);
        }
      },
      cancel: () => this.#return(),
    }, { highWaterMark: 0 });
  }
}

/** An item of a stream, in either direction. */
export function itemOf(call: number, index: number, pads: number): Item {
  return { call, index, pad: "x".repeat(index % 3 === 2 ? pads : pads / 10) };
}

/** How a handler deals with its call, and what it has seen. */
export class Worker {
  readonly call: number;
  /** Items that it takes: to the end, or so many. */
  readonly takes: number;
  /** Items that it gives, if it answers with a stream. */
  readonly gives: number;
  readonly pads: number;
  /** Whether it leaves its loop over the caller's items before it answers. */
  readonly leaves: boolean;
  readonly throws: boolean;
  runs = 0;
  finallys = 0;
  /** Whether it has asked for the caller's items: before, none are granted. */
  hasAsked = false;
  taken: Item[] = [];
  given = 0;
  hasLeft = false;
  /** Whether it was told that the caller's stream is complete. */
  sawEnd = false;
  ending: "returned" | "thrown" | undefined;
  /** What was thrown at it. */
  error: unknown;

  constructor(call: number, random: Random, readonly steps: Steps) {
    this.call = call;
    this.takes = random.pick([Infinity, Infinity, Infinity, 0, 1, random.below(10)]);
    this.gives = random.pick([0, 1, 3, random.below(30)]);
    this.pads = random.pick([0, 0, 10, 3_000]);
    this.leaves = random.chance(0.3);
    this.throws = random.chance(0.15);
  }

  /** Takes the caller's items, and answers how many there were. */
  async take(items: AsyncIterable<unknown>): Promise<number> {
    this.runs++;
    try {
      await this.#takeSome(items[Symbol.asyncIterator](), this.takes);
      return this.#answer();
    } catch (error) {
      this.error ??= error;
      throw error;
    } finally {
      this.finallys++;
    }
  }

  /** Gives a stream; takes the caller's items meanwhile, if there are any. */
  async *give(items: AsyncIterable<unknown> | undefined, from: number): AsyncGenerator<Item, number> {
    const reader = items?.[Symbol.asyncIterator]();
    this.runs++;
    try {
      for (let index = from; index < this.gives; index++) {
        if (reader !== undefined && index % 2 === 0) await this.#takeSome(reader, 1);
        await this.steps.wait();
        this.given = Math.max(this.given, index + 1);
        yield itemOf(this.call, index, this.pads);
      }
      if (reader !== undefined) await this.#takeSome(reader, this.takes);
      return this.#answer();
    } catch (error) {
      this.error ??= error;
      throw error;
    } finally {
      this.finallys++;
    }
  }

  #answer(): number {
    this.ending = this.throws ? "thrown" : "returned";
    if (this.throws) throw new RpcError("HANDLER", "as was planned");
    return this.taken.length;
  }

  async #takeSome(reader: AsyncIterator<unknown>, most: number): Promise<void> {
    for (let left = most; left > 0 && !this.sawEnd && !this.hasLeft; left--) {
      await this.steps.wait();
      this.hasAsked = true;
      const { done, value } = await reader.next();
      if (done) this.sawEnd = true;
      else this.taken.push(value as Item);
    }
    if (!this.leaves || most !== this.takes || this.sawEnd) return;
    this.hasLeft = true;
    await reader.return?.();
  }
}

/** The caller of a stream. */
export class Reader {
  /** Items after which it leaves. */
  readonly leavesAfter: number;
  got: Item[] = [];
  /** Whether it has left before the end. */
  hasLeft = false;

  constructor(random: Random, readonly steps: Steps) {
    this.leavesAfter = random.pick([Infinity, Infinity, Infinity, 0, random.below(10)]);
  }

  /** Reads; resolves with what the stream returns. */
  async read(stream: AsyncGenerator<unknown, unknown, void>): Promise<unknown> {
    while (true) {
      await this.steps.wait();
      if (this.got.length === this.leavesAfter) {
        this.hasLeft = true;
        await stream.return(undefined);
        return undefined;
      }
      const { done, value } = await stream.next();
      if (done) return value;
      this.got.push(value as Item);
    }
  }
}
