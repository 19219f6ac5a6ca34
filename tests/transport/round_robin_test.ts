/** Round robin: nobody waits in a burst; under a load that does not end, each is served in its order, 64 a round. */

import { assert, assertEquals } from "@std/assert";
import { RoundRobin, SERVED_A_ROUND } from "../../transport/round_robin.ts";

/** What the runtime reads a round, and how many full rounds are more than a burst. */
const READS = 128;
const FULL_ROUNDS = 64;

const endOfRound = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Who enters, and in which order they are served. */
class Arrivals {
  readonly served: number[] = [];
  #next = 0;

  constructor(readonly roundRobin: RoundRobin) {}

  /** So many enter in one round. */
  async enter(count: number): Promise<void> {
    for (const end = this.#next + count; this.#next < end; this.#next++) {
      const number = this.#next;
      const turn = this.roundRobin.enter();
      if (turn === undefined) this.served.push(number);
      else turn.then(() => this.served.push(number));
    }
    await endOfRound();
  }

  /** Until nobody waits any longer. */
  async untilServed(): Promise<void> {
    while (this.served.length < this.#next) await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

/** What they are when each has its turn in the order in which they came. */
const inOrder = (count: number) => Array.from({ length: count }, (_, number) => number);

async function afterFullRounds(): Promise<Arrivals> {
  const arrivals = new Arrivals(new RoundRobin());
  for (let round = 0; round < FULL_ROUNDS; round++) await arrivals.enter(READS);
  assertEquals(arrivals.served, inOrder(FULL_ROUNDS * READS), "nobody has waited so far");
  return arrivals;
}

Deno.test("nobody waits in rounds that are not full, however many they are", async () => {
  const roundRobin = new RoundRobin();
  for (let round = 0; round < 3 * FULL_ROUNDS; round++) {
    for (let read = 1; read < READS; read++) assertEquals(roundRobin.enter(), undefined);
    await endOfRound();
  }
});

Deno.test("nobody waits in a burst: a round that is not full ends it", async () => {
  const roundRobin = new RoundRobin();
  for (const rounds of [FULL_ROUNDS - 1, FULL_ROUNDS - 1]) {
    for (let round = 0; round < rounds; round++) {
      for (let read = 0; read < READS; read++) assertEquals(roundRobin.enter(), undefined);
      await endOfRound();
    }
    assertEquals(roundRobin.enter(), undefined);
    await endOfRound();
  }
});

Deno.test("behind full rounds, half of those that come are served, and the others first in the next", async () => {
  const arrivals = await afterFullRounds();
  const before = arrivals.served.length;
  await arrivals.enter(READS);
  assertEquals(arrivals.served.length - before, SERVED_A_ROUND);
  await arrivals.enter(SERVED_A_ROUND);
  assertEquals(arrivals.served.length - before, 2 * SERVED_A_ROUND);
  await arrivals.enter(1);
  await arrivals.untilServed();
  assertEquals(arrivals.served, inOrder(arrivals.served.length));
});

Deno.test("whoever waits is served, though nobody else comes; and then nobody waits", async () => {
  const arrivals = await afterFullRounds();
  await arrivals.enter(10 * READS);
  await arrivals.untilServed();
  assertEquals(arrivals.served, inOrder(arrivals.served.length));
  await arrivals.enter(0);
  const { roundRobin } = arrivals;
  assertEquals(Array.from({ length: READS }, () => roundRobin.enter()).filter((turn) => turn !== undefined), []);
  await endOfRound();
});

Deno.test("behind close(), nobody waits", async () => {
  const { roundRobin } = await afterFullRounds();
  const turns = Array.from({ length: 2 * READS }, () => roundRobin.enter());
  assert(turns.every((turn) => turn !== undefined));
  roundRobin.close();
  await Promise.all(turns);
  assertEquals(roundRobin.enter(), undefined);
  await endOfRound();
});
