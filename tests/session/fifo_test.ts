import { assertEquals } from "@std/assert";
import { Fifo } from "../../session/collections.ts";
import { newSeed, Random } from "../support/random.ts";

Deno.test("Fifo - gives what an array gives, also undefined, whatever the order of pushes and shifts", () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const fifo = new Fifo<number | undefined>();
  let array: (number | undefined)[] = [];
  for (let step = 0; step < 50_000; step++) {
    // Long runs of each, so that the front moves up in all its ways.
    const pushes = Math.floor(step / 5_000) % 2 === 0 ? 80 : 20;
    const choice = random.below(100);
    if (choice < pushes) {
      const item = choice === 0 ? undefined : step;
      fifo.push(item);
      array.push(item);
    } else if (random.below(10_000) === 0) {
      assertEquals(fifo.takeAll(), array, `step ${step}`);
      array = [];
    } else if (fifo.shift() !== array.shift()) {
      throw new Error(`step ${step}`);
    }
    if (fifo.length !== array.length) throw new Error(`length at step ${step}`);
  }
  assertEquals(fifo.takeAll(), array);
  assertEquals([fifo.length, fifo.shift()], [0, undefined]);
});
