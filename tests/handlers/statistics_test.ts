/** Counting: what STATS tells of one command. */

import { assertEquals, assertObjectMatch } from "@std/assert";
import { command } from "../../handlers/command.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import { CommandCounts, DURATION_BOUNDS_MS } from "../../handlers/statistics.ts";
import { withMemory } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

Deno.test("CommandCounts counts calls, failures by code, and times", () => {
  const counts = new CommandCounts();
  assertObjectMatch(counts.snapshot(), { calls: 0, errors: {}, inFlight: 0, totalMs: 0, maxMs: 0 });
  counts.inFlight += 5;
  counts.answered(10, undefined);
  counts.answered(30, "INTERNAL");
  counts.answered(20, "INTERNAL");
  counts.answered(0, "OUT_OF_STOCK");
  assertObjectMatch(counts.snapshot(), {
    calls: 4,
    errors: { INTERNAL: 2, OUT_OF_STOCK: 1 },
    inFlight: 1,
    totalMs: 60,
    maxMs: 30,
  });
});

Deno.test("CommandCounts counts several failures of one duration and code as so many", () => {
  const counts = new CommandCounts();
  counts.inFlight += 3;
  counts.answered(10, "INTERNAL", 3);
  assertObjectMatch(counts.snapshot(), { calls: 3, errors: { INTERNAL: 3 }, inFlight: 0, totalMs: 30 });
});

Deno.test("CommandCounts keeps codes apart from the names that every object has", () => {
  const counts = new CommandCounts();
  for (const code of ["__proto__", "constructor", "toString"]) counts.answered(1, code);
  const { errors } = counts.snapshot();
  assertEquals(Object.entries(errors).sort(), [["__proto__", 1], ["constructor", 1], ["toString", 1]]);
});

Deno.test("CommandCounts puts each duration at the first bound that it does not exceed", () => {
  const counts = new CommandCounts();
  for (const bound of DURATION_BOUNDS_MS) {
    for (const durationMs of [bound, bound + 0.01]) counts.answered(durationMs, undefined);
  }
  counts.answered(0, undefined);
  counts.answered(1e9, undefined);
  const { durations } = counts.snapshot();
  assertEquals(durations, [2, ...new Array(DURATION_BOUNDS_MS.length - 1).fill(2), 2]);
});

Deno.test("a command's failures are counted by code, for as many codes as an author has; then together", () => {
  const counts = new CommandCounts();
  for (let round = 0; round < 2; round++) {
    for (let code = 0; code < 1_000; code++) counts.answered(1, `CODE_${code}`);
  }
  const { errors } = counts.snapshot();
  assertEquals([errors.CODE_0, errors.CODE_63, errors.CODE_64, errors.OTHER], [2, 2, undefined, 2 * (1_000 - 64)]);
  assertEquals(Object.keys(errors).length, 65);
});

/** Sends requests in one write, and returns what each STATS of them says of another command: calls, and in flight. */
async function countsSeen(name: string, requests: Message[]): Promise<[number, number][]> {
  const commands = {
    AT_ONCE: command(() => 1),
    LATER: command(() => Promise.resolve().then(() => 2)),
    COUNTS: command((_: object, { server }) => ({ ...server.statistics() })),
  };
  await using served = withMemory({ commands });
  await served.peer.send(...requests);
  const replies = await served.peer.readReplies(requests.length);
  return replies.flatMap(({ res }) => {
    const { commands } = res as { commands?: ServerStatistics["commands"] };
    return commands === undefined ? [] : [[commands[name].calls, commands[name].inFlight]];
  });
}

Deno.test("STATS counts the calls before it, also if they have come in the same write", async () => {
  for (const name of ["PING", "AT_ONCE"]) {
    for (const stats of ["STATS", "COUNTS"]) {
      const requests = [name, name, stats, name, stats].map((cmd) => ({ cmd }));
      for (const sent of [requests, requests.map((request, seq) => ({ ...request, seq }))]) {
        assertEquals(await countsSeen(name, sent), [[2, 0], [3, 0]], `${name}, seen by ${stats}`);
      }
    }
  }
  for (const stats of ["STATS", "COUNTS"]) {
    const seen = await countsSeen("LATER", ["LATER", "LATER", stats].map((cmd) => ({ cmd })));
    assertEquals(seen, [[2, 0]], `LATER, seen by ${stats}`);
  }
});
