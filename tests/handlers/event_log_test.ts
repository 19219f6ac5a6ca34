/** The lines that errors become: one a second of each kind, and none that a peer can forge. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { EventLog } from "../../handlers/event_log.ts";
import { FakeClock } from "../support/fake_clock.ts";

/** A log that keeps its lines, and the clock that it goes by. */
function begin(): { log: EventLog; clock: FakeClock; lines: string[] } {
  const clock = new FakeClock();
  const lines: string[] = [];
  return { log: new EventLog(clock, (line) => lines.push(line.replace(/ \| at .*?(?=$| \(and )/, ""))), clock, lines };
}

Deno.test("EventLog - of errors that are alike one a second is a line, with how many more there were", async () => {
  const { log, clock, lines } = begin();
  for (let count = 1; count <= 1_206; count++) log.add(new Error(`number ${count}`), { command: "BUG", peer: "x" });
  assertEquals(lines.splice(0), ["packline: error in BUG for x: Error: number 1"]);
  await clock.advance(1_000);
  assertEquals(lines.splice(0), ["packline: error in BUG for x: Error: number 1206 (and 1,204 more like this)"]);
  log.add(new Error("once"), { command: "BUG" });
  await clock.advance(999);
  assertEquals(lines, []);
  await clock.advance(1);
  assertEquals(lines.splice(0), ["packline: error in BUG: Error: once"]);
  await clock.advance(1_000);
  assertEquals([lines, clock.timers], [[], 0]);
  log.add(new Error("after a silence"), { command: "BUG" });
  assertEquals(lines.length, 1);
  log.close();
  assertEquals(clock.timers, 0);
});

Deno.test("EventLog - errors of other commands, classes and codes are not held back", () => {
  const { log, clock, lines } = begin();
  const errors = [new Error("x"), new TypeError("x"), new RpcError("A", "x"), new RpcError("B", "x"), "x", null];
  for (const command of ["ONE", "OTHER", undefined]) for (const error of errors) log.add(error, { command });
  assertEquals([lines.length, new Set(lines).size], [18, 18]);
  log.close();
  assertEquals([lines.length, clock.timers], [18, 0]);
});

Deno.test("EventLog - errors that each have a name of their own are bounded too", async () => {
  const { log, clock, lines } = begin();
  for (let count = 0; count < 100_000; count++) log.add(Object.assign(new Error("x"), { name: `N${count}` }), {});
  assert(lines.length < 100 && clock.timers < 100, `${lines.length} lines, ${clock.timers} timers`);
  await clock.advance(1_000);
  assertMatch(lines.at(-1) as string, /^packline: error: .*x \(and 99,\d{3} more like this\)$/);
  assert(lines.length < 100);
  log.close();
});

Deno.test("EventLog - what has been counted is written at the end", () => {
  const { log, clock, lines } = begin();
  for (let count = 0; count < 3; count++) log.add(new Error(`${count}`), {});
  log.close();
  assertEquals(lines, ["packline: error: Error: 0", "packline: error: Error: 2 (and 1 more like this)"]);
  assertEquals(clock.timers, 0);
});

Deno.test("EventLog - a line is one line, of a bounded length, wherever its parts come from", () => {
  const { log, lines } = begin();
  const evil = "a\nb\r\nc\x1b[2J\u2028\u202e\u200b";
  log.add(evil.repeat(100_000), { peer: evil, command: evil });
  log.close();
  assertEquals(lines.length, 1);
  assertMatch(lines[0], /^[\x20-\x7e…]+$/);
  assert(lines[0].length < 30_000, `${lines[0].length} characters`);
});

/** An error without the places of this test. */
function bare<Thrown extends Error>(error: Thrown, more: object = {}): Thrown {
  return Object.assign(error, { stack: `${error.name}: ${error.message}` }, more);
}

Deno.test("EventLog - an error is written with its causes, and with the errors that it stands for", () => {
  const { log, lines } = begin();
  const inner = bare(new Error("refused", { cause: "a text" }));
  const pair = {
    name: "SuppressedError",
    error: bare(new Error("at the close")),
    suppressed: bare(new Error("before")),
  };
  const round = bare(new Error("round"));
  round.cause = round;
  log.add(bare(new Error("outer", { cause: inner })), { command: "CAUSE" });
  log.add(bare(new AggregateError([bare(new Error("one", { cause: inner })), 2], "all")), { command: "MANY" });
  log.add(bare(new Error("two"), pair), { command: "PAIR" });
  log.add(round, { command: "ROUND" });
  log.add(bare(new Error("odd", { cause: new Proxy(new Error(), { get: () => assert(false) }) })), { command: "ODD" });
  log.close();
  const behind = 'caused by: Error: refused | caused by: thrown: "a text"';
  assertEquals(lines, [
    `packline: error in CAUSE: Error: outer | ${behind}`,
    `packline: error in MANY: AggregateError: all | caused by: Error: one | ${behind} | caused by: thrown: 2`,
    "packline: error in PAIR: Error: two | caused by: Error: at the close | caused by: Error: before",
    "packline: error in ROUND: Error: round",
    "packline: error in ODD: Error: odd | caused by: thrown: something that cannot be shown",
  ]);
});

Deno.test("EventLog - of a chain of causes without an end, the first errors are written", () => {
  const { log, lines } = begin();
  class Endless extends Error {
    override get cause(): Error {
      return bare(new Endless("next"));
    }
  }
  log.add(bare(new Endless("first")), {});
  log.add(bare(new AggregateError(Array.from({ length: 1_000 }, (_, at) => bare(new Error(`${at}`))), "many")), {});
  log.close();
  assertEquals(lines.map((line) => line.split("caused by").length), [8, 8]);
});

Deno.test("EventLog - a line of JSON has the causes too, and no text of any length", () => {
  const lines: string[] = [];
  const log = new EventLog(new FakeClock(), (line) => lines.push(line), { logFormat: "json" });
  log.add(bare(new Error("outer", { cause: bare(new Error("inner")) })), {});
  const { message, stack } = JSON.parse(lines[0]);
  assertEquals([message, stack], ["Error: outer", "Error: outer\ncaused by: Error: inner"]);
  const long = "x".repeat(1_000_000);
  log.add(bare(new Error(long, { cause: new Error(long) }), { code: long, name: long }), { peer: long, command: long });
  log.note({ event: "wrong_protocol", message: long, peer: long, code: long });
  log.close();
  assertEquals(lines.length, 3);
  for (const line of lines) assert(line.length < 25_000, `${line.length} characters`);
});

Deno.test("EventLog cuts no character in two", () => {
  const lines: string[] = [];
  const log = new EventLog(new FakeClock(), (line) => lines.push(line), { logFormat: "json" });
  log.note({ event: "wrong_protocol", message: "x" + "😀".repeat(4_000), code: "HTTP" });
  log.close();
  assertEquals(JSON.parse(lines[0]).message, `x${"😀".repeat(1_999)}…`);
});
