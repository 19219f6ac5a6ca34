/** What a server tells of itself: INFO and STATS. */

import { assertEquals, assertObjectMatch } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import { command } from "../../handlers/command.ts";
import type { CommandStatistics } from "../../handlers/server_info.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { Held, withMemory, withServer } from "../support/test_server.ts";
import { concat, frame, type Message, request, unhex } from "../support/wire.ts";

Deno.test("INFO tells name, version, limits and commands, those with numbers first", async () => {
  const clock = new FakeClock();
  const commands = {
    TEXTUAL: command({ handler: (_params: Message) => 1 }),
    NUMBERED: command({
      number: 16,
      summary: "Does it",
      params: ["a", "b"],
      handler: async function* (_params: { a: number; b: number }) {},
    }),
  };
  await using served = withMemory({ clock, commands, maxInFlight: 7 });
  await clock.advance(2_500);
  const { res } = await served.peer.ask({ cmd: 3 }) as { res: Message & { commands: Message[] } };
  assertEquals(res.commands.map(({ name, number }) => [name, number]), [
    ["PING", 1],
    ["DELAY", 2],
    ["INFO", 3],
    ["STATS", 4],
    ["NUMBERED", 16],
    ["ECHO", null],
    ["TALLY", null],
    ["TICK", null],
    ["TEXTUAL", null],
  ]);
  assertEquals(res.commands[4], { name: "NUMBERED", number: 16, summary: "Does it", params: ["a", "b"], stream: true });
  assertEquals(res.commands[8], { name: "TEXTUAL", number: null, summary: "", params: [], stream: false });
  assertEquals(res.commands[1], {
    name: "DELAY",
    number: 2,
    summary: res.commands[1].summary,
    params: ["sleep"],
    stream: false,
  });
  const { commands: _commands, ...rest } = res;
  const { handlerTimeoutMs: _endless, maxConnectionAgeMs: _off, ...limits } = DEFAULT_LIMITS;
  assertEquals(rest, {
    name: "packline",
    version: config.version,
    protocol: 1,
    uptime: 2.5,
    limits: { ...limits, maxInFlight: 7 },
  });
});

const NO_CALLS = { calls: 0, errors: {}, inFlight: 0, totalMs: 0, maxMs: 0 };

Deno.test("STATS adds up after a known run", async () => {
  const clock = new FakeClock();
  const held = new Held();
  const BAD = command({ handler: (_params: Message): unknown => () => {} });
  await using server = await withServer({ clock, commands: { HOLD: held.command, BAD } });
  let sentBytes = 0;
  let receivedBytes = 0;

  const one = await server.connect();
  const sends = async (...pieces: Uint8Array[]) => {
    sentBytes += concat(...pieces).length;
    await one.sendBytes(concat(...pieces));
  };
  await sends(request({ cmd: 1 }), request({ cmd: "PING" }), request({ cmd: 2, sleep: -1 }), request({ cmd: "NO" }));
  await sends(frame(unhex("81 c1")), request({ cmd: 1, ttl: 0 }), request({ cmd: "BAD" }), request({ cmd: 5, seq: 5 }));
  await one.readReplies(8);
  await sends(
    request({ cmd: 2, sleep: 1, seq: 1 }),
    request({ cmd: "HOLD", seq: 2 }),
    request({ cmd: "HOLD", seq: 3, ttl: 500 }),
  );
  for (let tries = 0; held.calls.length < 2 && tries < 1_000; tries++) await settle();
  await clock.advance(2_000);
  await one.readReplies(2);
  await sends(request({ cmd: 0, seq: 2, cancel: true }));
  await one.readReply();
  held.finishAll();
  receivedBytes += one.received.length;

  const bad = await server.connect();
  await bad.sendBytes(unhex("20 21 90 0d"));
  await bad.readToEnd();
  bad.close();
  const cut = await server.connect();
  await cut.sendBytes(unhex("20 26 81"));
  await cut.halfClose();
  await cut.readToEnd();
  cut.close();
  sentBytes += 4 + 3;
  receivedBytes += bad.received.length;
  await settle();

  const asked = request({ cmd: "STATS" });
  await one.sendBytes(asked);
  // deno-lint-ignore no-explicit-any -- a test knows what is in there
  const { res } = await one.readReply() as any;
  assertEquals(res.connections, { open: 1, accepted: 3, refused: 0 });
  assertEquals(res.inFlight, 0);
  assertEquals(res.refused, { badFrame: 1, invalidMessage: 2, truncated: 1, unknownCommand: 2, overloaded: 0 });
  assertEquals(res.lateReplies, 2);
  assertEquals(res.bytes, { received: sentBytes + asked.length, sent: receivedBytes });
  assertEquals(res.uptime, 2);
  assertEquals(res.draining, false);
  const { maxConnections, maxInFlightTotal } = DEFAULT_LIMITS;
  assertEquals(res.limits, { maxConnections, maxInFlightTotal });
  const { PING, DELAY, HOLD, BAD: bads, STATS, ...others } = res.commands as Record<string, CommandStatistics>;
  assertObjectMatch(PING, { ...NO_CALLS, calls: 2 });
  assertObjectMatch(DELAY, { ...NO_CALLS, calls: 2, errors: { INVALID_SLEEP: 1 }, totalMs: 1_000, maxMs: 1_000 });
  assertEquals([HOLD.calls, HOLD.errors, HOLD.inFlight], [2, { DEADLINE_EXCEEDED: 1, CANCELLED: 1 }, 0]);
  assertEquals([HOLD.maxMs, HOLD.totalMs], [2_000, 2_500]);
  assertObjectMatch(bads, { ...NO_CALLS, calls: 1, errors: { REPLY_NOT_ENCODABLE: 1 } });
  assertObjectMatch(STATS, { ...NO_CALLS, inFlight: 1 }, "the call that asks is in flight");
  for (const counts of Object.values(others)) assertObjectMatch(counts, NO_CALLS);
  assertEquals(server.errors.take().length, 1);
});

Deno.test("STATS tells of a connection in memory too", async () => {
  await using served = withMemory();
  const { res } = await served.peer.ask({ cmd: "STATS" }) as { res: { connections: unknown } };
  assertEquals(res.connections, { open: 1, accepted: 1, refused: 0 });
});
