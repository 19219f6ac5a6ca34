/** Turns of the event loop: who works for long is told, and waits until all others have had theirs. */

import { assertEquals } from "@std/assert";
import { systemClock } from "../../transport/clock.ts";
import { Turn, TURN_MS } from "../../transport/turn.ts";

/** Works for longer than a turn. */
function workForLong(): void {
  for (const endMs = performance.now() + TURN_MS; performance.now() <= endMs;);
}

Deno.test("a turn begins with the first who asks, and is over behind a long piece of work", async () => {
  const turn = new Turn(systemClock);
  workForLong();
  assertEquals(turn.isOver, false);
  workForLong();
  assertEquals([turn.isOver, turn.isOver], [true, true]);
  await turn.next();
  assertEquals(turn.isOver, false, "a new one has begun");
  turn.close();
});

Deno.test("between two turns, a socket on which something has come is read", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using here = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  using there = await listener.accept();
  const turn = new Turn(systemClock);
  let read = 0;
  const reading = there.read(new Uint8Array(1)).then((bytes) => read = bytes ?? 0);
  await here.write(new Uint8Array(1));
  for (let turns = 0; turns < 3; turns++) {
    while (!turn.isOver) workForLong();
    await turn.next();
  }
  assertEquals(read, 1);
  await reading;
  turn.close();
});

Deno.test("behind close(), nobody waits and no turn begins", async () => {
  const turn = new Turn(systemClock);
  assertEquals(turn.isOver, false);
  const next = turn.next();
  turn.close();
  await next;
  workForLong();
  assertEquals(turn.isOver, false);
});
