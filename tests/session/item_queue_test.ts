/**
 * `session/item_queue.ts`: what a reader of a stream gets, and when its sender gets credit; and, with its window, a
 * plain model over random interleavings.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { DONE, ItemBudget, ItemQueue, type ItemResult, ItemWindow } from "../../session/item_queue.ts";
import { newSeed, Random } from "../support/random.ts";

const INTERLEAVINGS = 100_000;

/** A queue whose sender may send `items` at first. */
function open(items: number, { budget = new ItemBudget(100), maxItems = 4, itemBytes = 10 } = {}) {
  const grants: number[] = [];
  const window = new ItemWindow(budget, maxItems, itemBytes);
  const queue = new ItemQueue(window, (items) => void grants.push(items));
  window.open(items);
  return { budget, queue, grants };
}

const item = (value: unknown): ItemResult => ({ done: false, value });
const last = (value: unknown): ItemResult => ({ done: true, value });
const NOTHING = { usedBytes: 0, unreadBytes: 0, streams: 0 };
const use = ({ usedBytes, unreadBytes, streams }: ItemBudget) => ({ usedBytes, unreadBytes, streams });

Deno.test("ItemQueue gives items in order, to calls that wait and to later ones, then the outcome once", async () => {
  const { queue, budget } = open(4);
  const waiting = [queue.next(), queue.next()];
  for (const value of ["a", "b", undefined, "d"]) assert(queue.push(value, 10));
  assertEquals([await Promise.all(waiting), queue.length], [[item("a"), item("b")], 2]);
  queue.end(last("end"));
  assertEquals([queue.isOver, queue.length], [true, 2]);
  const rest = [queue.next(), queue.next(), queue.next(), queue.next()];
  assertEquals(await Promise.all(rest), [item(undefined), item("d"), last("end"), DONE]);
  assertEquals([await queue.next(), use(budget)], [DONE, NOTHING]);
});

Deno.test("ItemQueue gives an error once, to the first of those that wait", async () => {
  const { queue } = open(1);
  const waiting = [queue.next(), queue.next()];
  queue.end(new RangeError("broken"));
  await assertRejects(() => waiting[0], RangeError, "broken");
  assertEquals([await waiting[1], await queue.next()], [DONE, DONE]);
});

Deno.test("ItemQueue grants nothing before its reader asks, and then as its reader takes", async () => {
  const { queue, grants, budget } = open(1);
  assert(queue.push("a", 10));
  assertEquals([queue.push("b", 10), queue.length], [false, 1], "only one may come before a grant");
  assertEquals([grants, use(budget)], [[], { usedBytes: 0, unreadBytes: 10, streams: 1 }]);
  assertEquals(await queue.next(), item("a"));
  assertEquals(grants, [4]);
  for (const value of [1, 2, 3, 4]) queue.push(value, 10);
  assertEquals(queue.push(5, 10), false);
  await queue.next();
  assertEquals(grants, [4], "not for each item");
  await queue.next();
  assertEquals(grants, [4, 2]);
});

Deno.test("ItemQueue grants to a reader that waits before anything has come", () => {
  const { queue, grants } = open(0);
  void queue.next();
  assertEquals(grants, [4]);
  void queue.next();
  assertEquals(grants, [4], "once");
});

Deno.test("leave() ends the reading at once: what was granted may come, is dropped, and takes nothing", async () => {
  const { queue, budget, grants } = open(3);
  queue.push("a", 10);
  const [first, second] = [queue.next(), queue.next()];
  queue.leave();
  queue.leave();
  assertEquals([await first, await second, await queue.next()], [item("a"), DONE, DONE]);
  const granted = grants.length;
  assertEquals([1, 2].map((value) => queue.push(value, 1_000)), [true, true]);
  assertEquals([budget.unreadBytes, queue.length, grants.length], [0, 0, granted]);
  while (queue.push("more", 10));
  queue.end(new Error("nobody hears"));
  queue.cut(new Error("nobody hears"));
  assertEquals([await queue.next(), queue.push("late", 10), use(budget)], [DONE, false, NOTHING]);
});

Deno.test("leave() of a stream that is over gives back what is unread", async () => {
  for (const outcome of [DONE, new Error("nobody hears")]) {
    const { queue, budget } = open(2);
    queue.push("a", 10);
    queue.push("b", 10);
    queue.end(outcome);
    queue.leave();
    assertEquals([await queue.next(), use(budget)], [DONE, NOTHING]);
  }
});

Deno.test("cut() drops what is unread, and the reader gets its outcome at once", async () => {
  const { queue, budget } = open(2);
  queue.push("a", 10);
  queue.push("b", 10);
  queue.cut(new RangeError("cut"));
  assertEquals([queue.length, use(budget), queue.push("c", 10)], [0, NOTHING, false]);
  await assertRejects(() => queue.next(), RangeError, "cut");
  assertEquals(await queue.next(), DONE);

  const ended = open(1);
  ended.queue.push("a", 10);
  ended.queue.end(last("whole"));
  ended.queue.cut(new RangeError("cut"));
  await assertRejects(() => ended.queue.next(), RangeError, "cut", "also of a stream that has ended");
});

Deno.test("end() counts once: what comes after it changes nothing", async () => {
  const { queue } = open(3);
  queue.end(last(1));
  queue.end(new Error("too late"));
  assertEquals([queue.push("late", 10), await queue.next(), await queue.next()], [false, last(1), DONE]);
});

// The model ----------------------------------------------------------------------------------------------------------

/** What an outcome is called in the model. */
const told = (outcome: ItemResult | Error) => outcome instanceof Error ? outcome.message : outcome;

/** One stream, said as plainly as it can be, beside the real one; and its sender. */
class Model {
  /** What is on its way: items by their sizes, and `undefined` for the end. */
  readonly pipe: (number | undefined)[] = [];
  credit: number;
  #sent = 0;
  #arrived = 0;
  readonly unread: { value: number; bytes: number }[] = [];
  /** The numbers of the calls of `next()` that wait. */
  readonly waiting: number[] = [];
  /** What each call of `next()` should give. */
  readonly right: unknown[] = [];
  readonly got: unknown[] = [];
  readonly results: Promise<unknown>[] = [];
  outcome: ItemResult | Error | undefined;
  isLeft = false;
  /** No more items are taken: an end has come, or it was cut. */
  isClosed = false;
  hasEnded = false;
  readonly window: ItemWindow;
  readonly queue: ItemQueue;

  constructor(
    readonly budget: ItemBudget,
    readonly limits: { maxItems: number; firstItems: number; maxBytes: number },
  ) {
    this.credit = limits.firstItems;
    this.window = new ItemWindow(budget, limits.maxItems, limits.maxBytes);
    this.queue = new ItemQueue(this.window, (items) => {
      assert(Number.isSafeInteger(items) && items > 0, `a grant of ${items}`);
      assert(this.results.length > 0, "granted before the reader has asked");
      assert(!this.isClosed && this.outcome === undefined, "granted for nobody");
      this.credit += items;
    });
    this.window.open(limits.firstItems);
  }

  get unreadBytes(): number {
    return this.unread.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Items that the window must expect. */
  get outstanding(): number {
    return this.credit + this.pipe.filter((bytes) => bytes !== undefined).length;
  }

  send(bytes: number): void {
    if (this.credit === 0 || this.hasEnded) return;
    this.credit--;
    this.#sent++;
    this.pipe.push(bytes);
  }

  sendEnd(): void {
    if (!this.hasEnded) this.pipe.push(undefined);
    this.hasEnded = true;
  }

  /** What is first in the pipe arrives. */
  arrive(outcome: ItemResult | Error): void {
    if (this.pipe.length === 0) return;
    const bytes = this.pipe.shift();
    if (bytes === undefined) {
      this.isClosed = true;
      if (this.outcome === undefined) this.#finish(outcome);
      return this.queue.end(outcome);
    }
    const value = ++this.#arrived;
    const isTaken = this.isLeft ? !this.isClosed : this.outcome === undefined;
    if (isTaken && !this.isLeft) {
      const call = this.waiting.shift();
      if (call === undefined) this.unread.push({ value, bytes });
      else this.right[call] = item(value);
    }
    assert(this.queue.push(value, bytes) === isTaken, `item ${value} should be ${isTaken ? "taken" : "refused"}`);
  }

  /**
   * The connection is lost, and the stream begins again over another: what was on its way is gone. Not before all is read:
   * otherwise each loss would add the first items to the unread ones.
   */
  lose(): void {
    if (this.isClosed || this.isLeft || this.unread.length > 0) return;
    this.pipe.length = 0;
    this.hasEnded = false;
    this.credit = Math.max(1, this.limits.firstItems);
    this.window.open(this.credit);
  }

  /** A sender that does not keep to its credit: nothing changes. */
  cheat(): void {
    if (this.outstanding === 0 || this.isClosed) assert(!this.queue.push("beyond the credit", 7));
  }

  next(): void {
    const call = this.results.length;
    const first = this.unread.shift();
    if (first !== undefined) this.right[call] = item(first.value);
    else this.waiting.push(call);
    if (this.outcome !== undefined) this.#finish(this.outcome);
    // The promise is kept before a grant can ask for it.
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.results.push(promise);
    this.queue.next().then(resolve, (error) => resolve(error.message));
    void promise.then((result) => this.got[call] = result);
  }

  leave(): void {
    if (!this.isLeft) {
      this.unread.length = 0;
      this.#finish(DONE);
    }
    this.isLeft = true;
    this.queue.leave();
  }

  cut(outcome: ItemResult | Error): void {
    this.unread.length = 0;
    this.isClosed = true;
    if (!this.isLeft) this.#finish(outcome);
    this.queue.cut(outcome);
  }

  #finish(outcome: ItemResult | Error): void {
    this.outcome = outcome;
    for (const call of this.waiting.splice(0)) {
      this.right[call] = told(this.outcome);
      this.outcome = DONE;
    }
  }
}

/** What must hold after each step. */
function check(models: Model[], budget: ItemBudget, limitBytes: number, oneSize: number | undefined): void {
  const unreadBytes = models.reduce((sum, { unreadBytes }) => sum + unreadBytes, 0);
  assert(budget.unreadBytes === unreadBytes, `${budget.unreadBytes} unread bytes are counted, of ${unreadBytes}`);
  const open = models.filter(({ isClosed, unread }) => !isClosed || unread.length > 0);
  assert(budget.streams === open.length, `${budget.streams} streams are counted, of ${open.length}`);
  if (oneSize !== undefined) {
    const most = limitBytes + open.reduce((sum, { limits }) => sum + oneSize * Math.max(1, limits.firstItems), 0);
    const items = open.reduce(
      (sum, { isLeft, unread, outstanding }) => sum + (isLeft ? 0 : unread.length + outstanding),
      0,
    );
    assert(
      items * oneSize <= most,
      `${items} items of ${oneSize} bytes are here or may come, but no more than ${most} bytes`,
    );
  }
  for (const { queue, unread, waiting, outcome, outstanding, isClosed, limits } of models) {
    assert(queue.length === unread.length && queue.isOver === (outcome !== undefined));
    assert(isClosed || outstanding + unread.length <= Math.max(limits.maxItems, limits.firstItems));
    // Else both ends would wait for one another.
    if (waiting.length > 0) assert(outstanding > 0, "a reader waits, and nothing may come");
  }
}

Deno.test(`ItemQueue and ItemWindow do what a plain model does, over ${INTERLEAVINGS} interleavings`, async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  for (let round = 0; round < INTERLEAVINGS; round++) {
    const random = new Random(seed + round);
    const limitBytes = random.pick([1, 50, 100, 1_000]);
    const budget = new ItemBudget(limitBytes, random.pick([limitBytes, limitBytes / 2]));
    const oneSize = random.chance(0.5) ? random.between(1, 40) : undefined;
    const models = Array.from({ length: random.between(1, 4) }, () =>
      new Model(budget, {
        maxItems: random.pick([1, 2, 3, 8, 64]),
        firstItems: random.pick([0, 1, 1, 3]),
        maxBytes: oneSize ?? 40,
      }));
    const outcome = () => random.pick([DONE, last(random.below(9)), new Error(`error ${random.below(9)}`)]);
    const endings = random.pick([0.01, 0.05, 0.2]);
    try {
      for (let steps = random.between(5, 60); steps > 0; steps--) {
        const model = random.pick(models);
        const choice = random.next();
        if (random.chance(endings)) {
          const end = random.below(5);
          if (end === 0) model.leave();
          else if (end === 1) model.cut(outcome());
          else if (end === 2) model.lose();
          else model.sendEnd();
        } else if (choice < 0.3) model.send(oneSize ?? random.between(1, random.pick([5, 40, 200])));
        else if (choice < 0.6) model.arrive(outcome());
        else if (choice < 0.65) model.cheat();
        else model.next();
        if (random.chance(0.1)) await undefined;
        check(models, budget, limitBytes, oneSize);
      }
      for (const model of models) {
        if (random.chance(0.5)) {
          model.sendEnd();
          while (model.pipe.length > 0) model.arrive(outcome());
          while (model.unread.length > 0) model.next();
        }
        model.cut(outcome());
        model.next();
      }
      assertEquals(use(budget), NOTHING);
      for (const { right, got, results } of models) {
        await Promise.all(results);
        assertEquals(got, right);
      }
    } catch (error) {
      throw new Error(`seed ${seed + round}, alone: -- --seed ${seed + round}`, { cause: error });
    }
  }
});
