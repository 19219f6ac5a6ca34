/** Turns of the event loop: what works for long is told, and waits until all others have been served. */

import { assert, assertEquals } from "@std/assert";
import { systemClock } from "../../transport/clock.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { CONNECTIONS_A_TURN, TURN_MS, YieldBudget } from "../../session/yield_budget.ts";

/** Works for longer than a yieldBudget. */
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
  const clock = new FakeClock();
  const yieldBudget = new YieldBudget(clock);
  clock.compute(TURN_MS);
  assertEquals(yieldBudget.isExhausted, false);
  clock.compute(TURN_MS);
  assertEquals([yieldBudget.isExhausted, yieldBudget.isExhausted], [true, true]);
  await yieldBudget.refilled();
  assertEquals(yieldBudget.isExhausted, false, "a new one has begun");
  yieldBudget.close();
});

Deno.test("after each turn that was too long, a socket on which something has come is read", async () => {
  const yieldBudget = new YieldBudget(systemClock);
  const [here, there] = await socketPair();
  for (let message = 0; message < 10; message++) {
    let read = 0;
    const reading = there.read(new Uint8Array(1)).then((bytes) => read = bytes ?? 0);
    await here.write(new Uint8Array(1));
    while (!yieldBudget.isExhausted) workForLong();
    await yieldBudget.refilled();
    assertEquals(read, 1);
    await reading;
  }
  yieldBudget.close();
  here.close();
  there.close();
});

Deno.test("a turn accepts a few connections, and the next one as many", async () => {
  const yieldBudget = new YieldBudget(new FakeClock());
  for (let turn = 0; turn < 3; turn++) {
    for (let connection = 1; connection < CONNECTIONS_A_TURN; connection++) yieldBudget.countConnection();
    assertEquals(yieldBudget.isExhausted, false);
    yieldBudget.countConnection();
    assertEquals(yieldBudget.isExhausted, true);
    await yieldBudget.refilled();
  }
  yieldBudget.close();
});

Deno.test("with few reads a round, nobody waits, however many the rounds are", async () => {
  const yieldBudget = new YieldBudget(new FakeClock());
  for (let rounds = 0; rounds < 200; rounds++) {
    for (let read = 1; read < 64; read++) yieldBudget.countRead();
    await round();
  }
  assertEquals(yieldBudget.isExhausted, false);
  yieldBudget.close();
});

Deno.test("after a full round, what has been served waits until the rounds are no longer full", async () => {
  const yieldBudget = new YieldBudget(new FakeClock());
  for (let read = 0; read < 64; read++) yieldBudget.countRead();
  assert(yieldBudget.isExhausted);
  let isNext = false;
  const next = yieldBudget.refilled().then(() => isNext = true);
  for (let rounds = 0; rounds < 200; rounds++) {
    for (let read = 0; read < 64; read++) yieldBudget.countRead();
    await round();
  }
  assertEquals(isNext, false);
  await next;
  assertEquals(yieldBudget.isExhausted, false);
  yieldBudget.close();
});

Deno.test("after close(), nobody waits and no turn begins", async () => {
  const yieldBudget = new YieldBudget(systemClock);
  for (let read = 0; read < 64; read++) yieldBudget.countRead();
  const next = yieldBudget.refilled();
  yieldBudget.close();
  await next;
  for (let read = 0; read < 64; read++) yieldBudget.countRead();
  assertEquals(yieldBudget.isExhausted, false);
  workForLong();
  assertEquals(yieldBudget.isExhausted, false);
  await round();
});
