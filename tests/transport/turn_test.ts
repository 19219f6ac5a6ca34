/** Turns of the event loop: what works for long is told, and waits until all others have been served. */

import { assert, assertEquals } from "@std/assert";
import { systemClock } from "../../transport/clock.ts";
import { Turn, TURN_MS } from "../../transport/turn.ts";

/** Works for longer than a turn. */
function workForLong(): void {
  for (const endMs = performance.now() + TURN_MS; performance.now() <= endMs;);
}

const round = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Two ends of a socket. */
async function socketPair(): Promise<[Deno.TcpConn, Deno.TcpConn]> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const here = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  return [here, await listener.accept()];
}

Deno.test("a turn begins with the first who asks, and is over after a long piece of work", async () => {
  const turn = new Turn(systemClock);
  workForLong();
  assertEquals(turn.isOver, false);
  workForLong();
  assertEquals([turn.isOver, turn.isOver], [true, true]);
  await turn.next();
  assertEquals(turn.isOver, false, "a new one has begun");
  turn.close();
});

Deno.test("after each turn that was too long, a socket on which something has come is read", async () => {
  const turn = new Turn(systemClock);
  const [here, there] = await socketPair();
  for (let message = 0; message < 10; message++) {
    let read = 0;
    const reading = there.read(new Uint8Array(1)).then((bytes) => read = bytes ?? 0);
    await here.write(new Uint8Array(1));
    while (!turn.isOver) workForLong();
    await turn.next();
    assertEquals(read, 1);
    await reading;
  }
  turn.close();
  here.close();
  there.close();
});

Deno.test("with few reads a round, nobody waits, however many the rounds are", async () => {
  const turn = new Turn(systemClock);
  for (let rounds = 0; rounds < 200; rounds++) {
    for (let read = 1; read < 64; read++) turn.countRead();
    await round();
  }
  assertEquals(turn.isOver, false);
  turn.close();
});

Deno.test("after a full round, what has been served waits until the rounds are no longer full", async () => {
  const turn = new Turn(systemClock);
  for (let read = 0; read < 64; read++) turn.countRead();
  assert(turn.isOver);
  let isNext = false;
  const next = turn.next().then(() => isNext = true);
  for (let rounds = 0; rounds < 200; rounds++) {
    for (let read = 0; read < 64; read++) turn.countRead();
    await round();
  }
  assertEquals(isNext, false);
  await next;
  assertEquals(turn.isOver, false);
  turn.close();
});

Deno.test("after close(), nobody waits and no turn begins", async () => {
  const turn = new Turn(systemClock);
  for (let read = 0; read < 64; read++) turn.countRead();
  const next = turn.next();
  turn.close();
  await next;
  for (let read = 0; read < 64; read++) turn.countRead();
  assertEquals(turn.isOver, false);
  workForLong();
  assertEquals(turn.isOver, false);
  await round();
});
