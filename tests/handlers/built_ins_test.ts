/** The built-in commands and the demo's as functions, without a wire; INFO and STATS, which tell of a server, are in `service_test.ts`. */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { demoCommands } from "../../cli/demo_commands.ts";
import { RpcError } from "../../errors.ts";
import { type Context, reply } from "../../handlers/command.ts";
import { builtIns } from "../../handlers/registry.ts";
import { FakeClock } from "../support/fake_clock.ts";

const { PING } = builtIns;
const { DELAY, ECHO, TICK } = demoCommands;

/** As much of a context as these commands look at. */
function contextOf(clock: FakeClock, signals: Partial<Pick<Context, "signal" | "draining">> = {}): Context {
  const { signal } = new AbortController();
  return { clock, signal, draining: signal, ...signals } as unknown as Context;
}

/** The longest sleep that a timer can hold, in seconds. */
const LONGEST = (2 ** 31 - 1) / 1000;

Deno.test("PING answers PONG", () => {
  assertEquals(PING.handler({} as never, contextOf(new FakeClock())), "PONG");
});

Deno.test("ECHO answers with what it was given, and with nil without it", () => {
  for (const data of [7, "text", null, [1, { a: 2 }]]) {
    assertStrictEquals(ECHO.handler({ data } as never, contextOf(new FakeClock())), data);
  }
  assertStrictEquals(ECHO.handler({} as never, contextOf(new FakeClock())), null);
});

Deno.test("DELAY answers when the time is over, with the seconds it has really slept", async () => {
  for (const sleep of [0, 0.0005, 0.25, 3]) {
    const clock = new FakeClock();
    const answer = Promise.resolve(DELAY.handler({ sleep } as never, contextOf(clock)));
    await clock.advance(sleep * 1000);
    assertEquals(await answer, reply("DONE", { slept: (1_000 + sleep * 1000 - 1_000) / 1000 }));
    assertEquals(clock.timers, 0);
  }
});

Deno.test("DELAY refuses a sleep that is none, with the code alone", async () => {
  const clock = new FakeClock();
  const wrong = [
    undefined,
    null,
    "2",
    true,
    -1,
    -0.001,
    NaN,
    Infinity,
    -Infinity,
    LONGEST + 0.001,
    2 ** 53,
    2n,
    [],
    {},
  ];
  for (const sleep of wrong) {
    const error = await assertRejects(async () => await DELAY.handler({ sleep } as never, contextOf(clock)), RpcError);
    assertEquals(error.toJSON(), { err: "INVALID_SLEEP" }, Deno.inspect(sleep));
  }
  assertEquals(clock.timers, 0);
});

Deno.test("DELAY takes the longest sleep that a timer can hold", async () => {
  const clock = new FakeClock();
  const answer = Promise.resolve(DELAY.handler({ sleep: LONGEST } as never, contextOf(clock)));
  await clock.advance(LONGEST * 1000);
  assertEquals(await answer, reply("DONE", { slept: LONGEST }));
});

Deno.test("DELAY stops at once when it is aborted, and leaves no timer", async () => {
  const clock = new FakeClock();
  const controller = new AbortController();
  const answer = Promise.resolve(
    DELAY.handler({ sleep: 60 } as never, contextOf(clock, { signal: controller.signal })),
  );
  assertEquals(clock.timers, 1);
  const reason = new RpcError("CANCELLED");
  controller.abort(reason);
  assertStrictEquals(await assertRejects(() => answer, RpcError), reason);
  assertEquals(clock.timers, 0);
});

Deno.test("TICK counts to its count at its interval, and says at the end how many there were", async () => {
  const clock = new FakeClock();
  const ticks = TICK.handler({ count: 3, interval: 0.5 } as never, contextOf(clock)) as AsyncGenerator<number, number>;
  assertEquals(await ticks.next(), { value: 1, done: false });
  for (const value of [2, 3]) {
    const next = ticks.next();
    await clock.advance(499);
    assertEquals(clock.timers, 1, "it waits");
    await clock.advance(1);
    assertEquals(await next, { value, done: false });
  }
  assertEquals(await ticks.next(), { value: 3, done: true });
  assertEquals(clock.timers, 0);
});

Deno.test("TICK counts on without a count, once a second", async () => {
  const clock = new FakeClock();
  const ticks = TICK.handler({} as never, contextOf(clock)) as AsyncGenerator<number, number>;
  for (let value = 1; value < 20; value++) {
    const next = ticks.next();
    if (value > 1) await clock.advance(1_000);
    assertEquals(await next, { value, done: false });
  }
  await ticks.return(0);
  assertEquals(clock.timers, 0);
});

Deno.test("TICK stops in the middle of a wait when it is aborted, or when its connection should end", async () => {
  for (const [which, code] of [["signal", "CANCELLED"], ["draining", "GOING_AWAY"]]) {
    const clock = new FakeClock();
    const controller = new AbortController();
    const context = contextOf(clock, { [which]: controller.signal });
    const ticks = TICK.handler({} as never, context) as AsyncGenerator<number, number>;
    await ticks.next();
    const next = ticks.next();
    const reason = new RpcError(code);
    controller.abort(reason);
    assertStrictEquals(await assertRejects(() => next, RpcError), reason);
    assertEquals(clock.timers, 0);
  }
});

Deno.test("TICK refuses other values, and says where", async () => {
  const wrong: [params: Record<string, unknown>, path: string][] = [
    ...[-1, NaN, "3", null, true].map((count): [Record<string, unknown>, string] => [{ count }, "count"]),
    ...[-1, NaN, "1", null, Infinity, LONGEST + 0.001].map(
      (interval): [Record<string, unknown>, string] => [{ interval }, "interval"],
    ),
  ];
  for (const [params, path] of wrong) {
    const ticks = TICK.handler(params as never, contextOf(new FakeClock())) as AsyncGenerator<number, number>;
    const error = await assertRejects(() => ticks.next(), RpcError);
    assertEquals([error.code, (error.data as { path: string[] }[])[0].path], ["INVALID_PARAMS", [path]]);
    assert(error.message.includes(path));
  }
});
