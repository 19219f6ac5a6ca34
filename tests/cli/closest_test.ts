/** `cli/closest.ts`: what a mistyped word stands for. */

import { assertEquals } from "@std/assert";
import { closest } from "../../cli/closest.ts";

const NAMES = ["PING", "DELAY", "INFO", "STATS", "TICK", "thumbnail.create", "hostname", "in-flight"];

Deno.test("closest() finds a word through a few mistakes of typing, and by its beginning", () => {
  const expected: [word: string, name: string | undefined][] = [
    ["ping", "PING"],
    ["PNIG", "PING"],
    ["PIN", "PING"],
    ["PINGG", "PING"],
    ["PONG", "PING"],
    ["STAT", "STATS"],
    ["DALEY", "DELAY"],
    ["tumbnail.craete", "thumbnail.create"],
    ["host", "hostname"],
    ["inflight", "in-flight"],
    ["FOO", undefined],
    ["HELP", undefined],
    ["P", undefined],
    ["", undefined],
    ["PINGING", undefined],
  ];
  for (const [word, name] of expected) assertEquals(closest(word, NAMES), name, word);
  assertEquals(closest("PING", []), undefined);
  assertEquals(closest("TICKS", ["STICK", "TICK"]), "TICK");
});
