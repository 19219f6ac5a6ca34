/** Calls by number: the same answers as a `Map` gives, for numbers that follow one another and for any others. */

import { assertEquals } from "@std/assert";
import { CallTable } from "../../session/collections.ts";
import { newSeed, Random } from "../support/random.ts";

const SEED = newSeed();

Deno.test("CallTable finds nothing before the first call and after clear()", () => {
  const table = new CallTable<{ id: number }>();
  assertEquals([table.size, table.get(0), table.has(5), table.values()], [0, undefined, false, []]);
  table.delete(0);
  table.set({ id: 0 });
  table.clear();
  assertEquals([table.size, table.get(0), table.values()], [0, undefined, []]);
  const call = { id: 7 };
  table.set(call);
  assertEquals([table.size, table.get(7)], [1, call]);
});

Deno.test("CallTable tells numbers apart that share a place, up to the largest", () => {
  const table = new CallTable<{ id: number }>();
  const ids = [3, 3 + 2 ** 10, 3 + 2 ** 32, 3 + 2 ** 40, Number.MAX_SAFE_INTEGER, 2 ** 31, 0];
  const calls = ids.map((id) => ({ id }));
  for (const call of calls) table.set(call);
  assertEquals(calls.map(({ id }) => table.get(id)), calls);
  assertEquals(table.values().map(({ id }) => id), [...ids].sort((a, b) => a - b));
  table.delete(3);
  assertEquals([table.has(3), table.size], [false, 6]);
  assertEquals(table.get(3 + 2 ** 40), calls[3]);
  assertEquals(table.has(3 + 2 ** 41), false);
});

Deno.test(`CallTable does what a Map does (seed ${SEED})`, () => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  for (let run = 0; run < 40; run++) {
    const table = new CallTable<{ id: number }>();
    const map = new Map<number, { id: number }>();
    const apart = [1, 1, 16, 1024, 2 ** 33][random.below(5)];
    const held = [1, 10, 300, 3_000][random.below(4)];
    for (let next = 0; next < 5_000; next++) {
      const call = { id: (random.chance(0.1) ? random.below(held) : next) * apart };
      if (!map.has(call.id)) table.set(call);
      if (!map.has(call.id)) map.set(call.id, call);
      while (map.size > held) {
        const id = random.chance(0.9) ? map.keys().next().value! : call.id;
        table.delete(id);
        map.delete(id);
      }
      const wanted = random.below(next + 1) * apart;
      if (table.get(wanted) !== map.get(wanted) || table.size !== map.size) {
        throw new Error(`run ${run}, step ${next}: ${table.size} calls, ${map.size} wanted`);
      }
    }
    assertEquals(table.values(), [...map.values()].sort((a, b) => a.id - b.id));
  }
});
