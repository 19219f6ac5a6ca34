/** Deadlines on a clock that stands still: never early, a slot late at the most, one timer for all. */

import { assert, assertEquals } from "@std/assert";
import { type Expiring, SLOT_MS, TimerWheel, UNWATCHED } from "../../session/deadlines.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";

const SEED = newSeed();

/** Something that notes when it expired. */
class Watched implements Expiring {
  readonly deadlineMs: number;
  slotPlace = UNWATCHED;
  expiredMs: number | undefined;
  times = 0;
  readonly #clock: FakeClock;
  readonly #then: () => void;

  /** @param inMs From now on. */
  constructor(clock: FakeClock, inMs: number, then = () => {}) {
    this.deadlineMs = clock.now() + inMs;
    this.#clock = clock;
    this.#then = then;
  }

  expire(): void {
    this.expiredMs = this.#clock.now();
    this.times++;
    this.#then();
  }
}

Deno.test("TimerWheel lets things expire on time or up to a slot late, never early", async () => {
  const clock = new FakeClock();
  const deadlines = new TimerWheel(clock);
  const all = [0, 1, SLOT_MS - 1, SLOT_MS, SLOT_MS + 1, 99.5, 100, 101, 5_000].map((ms) => new Watched(clock, ms));
  for (const watched of all) deadlines.add(watched);
  for (let step = 0; step < 6_000; step += 500) await clock.advance(500);
  for (const { deadlineMs, expiredMs, times } of all) {
    assertEquals(times, 1, `${deadlineMs}`);
    assert(expiredMs! >= deadlineMs && expiredMs! < deadlineMs + SLOT_MS, `${deadlineMs} expired at ${expiredMs}`);
  }
  assertEquals(clock.timers, 0);
});

Deno.test("TimerWheel never reaches an infinite deadline, and needs no timer for it", () => {
  const clock = new FakeClock();
  new TimerWheel(clock).add(new Watched(clock, Infinity));
  assertEquals(clock.timers, 0);
});

Deno.test("TimerWheel goes by one timer, however many there are and in whatever order they come", async () => {
  const clock = new FakeClock();
  const deadlines = new TimerWheel(clock);
  const all = [500, 100, 900, 101, 99].map((ms) => new Watched(clock, ms));
  for (const watched of all) {
    deadlines.add(watched);
    assertEquals(clock.timers, 1);
  }
  await clock.advance(101 + SLOT_MS);
  assertEquals(all.map(({ times }) => times), [0, 1, 0, 1, 1]);
  assertEquals(clock.timers, 1);
});

Deno.test("delete() ends the watch, also in a slot with others, and ignores what is not watched", async () => {
  const clock = new FakeClock();
  const deadlines = new TimerWheel(clock);
  const [gone, stays, never] = [100, 100, 100].map((ms) => new Watched(clock, ms));
  deadlines.add(gone);
  deadlines.add(stays);
  deadlines.delete(gone);
  deadlines.delete(gone);
  deadlines.delete(never);
  await clock.advance(200);
  assertEquals([gone.times, stays.times, never.times], [0, 1, 0]);
  deadlines.delete(stays);
});

Deno.test("TimerWheel goes on after a slot was emptied, and after the timer fired in vain", async () => {
  const clock = new FakeClock();
  const deadlines = new TimerWheel(clock);
  const first = new Watched(clock, 100);
  deadlines.add(first);
  deadlines.delete(first);
  const second = new Watched(clock, 300);
  deadlines.add(second);
  await clock.advance(150);
  assertEquals([first.times, second.times], [0, 0]);
  const third = new Watched(clock, 50);
  deadlines.add(third);
  await clock.advance(200);
  assertEquals([second.times, third.times], [1, 1]);
});

Deno.test("TimerWheel may be added to and deleted from by what expires", async () => {
  const clock = new FakeClock();
  const deadlines = new TimerWheel(clock);
  const late = new Watched(clock, 400);
  const next = new Watched(clock, 200);
  const neighbour = new Watched(clock, 100);
  deadlines.add(
    new Watched(clock, 100, () => {
      deadlines.delete(neighbour);
      deadlines.add(next);
    }),
  );
  deadlines.add(neighbour);
  deadlines.add(late);
  await clock.advance(150);
  assertEquals([neighbour.times, next.times, late.times], [0, 0, 0]);
  await clock.advance(100);
  assertEquals([next.times, late.times], [1, 0]);
  await clock.advance(200);
  assertEquals(late.times, 1);
});

Deno.test("TimerWheel takes what an expired one adds to the slot that is swept, whoever else is in it", async () => {
  for (const others of [0, 1]) {
    const clock = new FakeClock();
    const deadlines = new TimerWheel(clock);
    const again = new Watched(clock, 100);
    deadlines.add(new Watched(clock, 100, () => deadlines.add(again)));
    for (let left = others; left > 0; left--) deadlines.add(new Watched(clock, 100));
    await clock.advance(100 + SLOT_MS);
    assertEquals([again.times, clock.timers], [1, 0], `${others} others`);
  }
});

Deno.test("clear() forgets all deadlines and leaves no timer", async () => {
  const clock = new FakeClock();
  const deadlines = new TimerWheel(clock);
  const before = new Watched(clock, 100);
  deadlines.add(before);
  deadlines.clear();
  assertEquals(clock.timers, 0);
  const after = new Watched(clock, 200);
  deadlines.add(after);
  await clock.advance(300);
  assertEquals([before.times, after.times], [0, 1]);
});

Deno.test(`TimerWheel hold for any mixture of adding and deleting (seed ${SEED})`, async () => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  const clock = new FakeClock();
  const deadlines = new TimerWheel(clock);
  const kept = new Set<Watched>();
  const deleted: Watched[] = [];
  for (let step = 0; step < 100; step++) {
    for (let count = 0; count < 5; count++) {
      const watched = new Watched(clock, random.below(200), () => kept.delete(watched));
      deadlines.add(watched);
      kept.add(watched);
    }
    for (const watched of kept) {
      if (!random.chance(0.2)) continue;
      deadlines.delete(watched);
      kept.delete(watched);
      deleted.push(watched);
    }
    await clock.advance(random.below(30));
    for (const { deadlineMs } of kept) {
      assert(deadlineMs + SLOT_MS > clock.now(), `step ${step}: ${deadlineMs} is late`);
    }
  }
  assert(deleted.every(({ times }) => times === 0));
});

Deno.test("TimerWheel lets others go first now and then, when very many expire together", async () => {
  const clock = new FakeClock();
  const deadlines = new TimerWheel(clock);
  let inTurn = 0;
  let longest = 0;
  const expire = () => {
    clock.compute(0.5); // what one of them costs
    longest = Math.max(longest, ++inTurn);
    void turn().then(() => inTurn = 0);
  };
  const all = Array.from({ length: 100 }, () => new Watched(clock, 100, expire));
  for (const watched of all) deadlines.add(watched);
  await clock.advance(1_000);
  assertEquals(all.map(({ times }) => times), all.map(() => 1));
  assertEquals(longest, 6, "at a time: 3 ms");
  assertEquals(clock.timers, 0);
});
