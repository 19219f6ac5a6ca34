/** `cli/line_words.ts` and `cli/completion.ts`: what is typed at the prompt. */

import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../cli/arguments.ts";
import { completionsOf, knownCommands } from "../../cli/completion.ts";
import { wordsOf } from "../../cli/line_words.ts";

Deno.test("wordsOf() cuts at blanks, and not within JSON or single quotes", () => {
  const lines: [line: string, words: string[]][] = [
    ["", []],
    [" \t ", []],
    ["PING", ["PING"]],
    ["  DELAY\t 2 ", ["DELAY", "2"]],
    ["GREET name=Ada times=2", ["GREET", "name=Ada", "times=2"]],
    ['A b="c d" e=1', ["A", 'b="c d"', "e=1"]],
    ['A b="c \\" d"', ["A", 'b="c \\" d"']],
    ["A b='c \" d' e=''", ["A", 'b=c " d', "e="]],
    ['A b={"c": [1, {"d": "} ]"}]} e=2', ["A", 'b={"c": [1, {"d": "} ]"}]}', "e=2"]],
    ["A b=[]x", ["A", "b=[]x"]],
    ["A b=it's c=x[1 d==[1", ["A", "b=it's", "c=x[1", "d==[1"]],
    ["'A B' c", ["A B", "c"]],
  ];
  for (const [line, words] of lines) assertEquals(wordsOf(line), words, line);
});

Deno.test("wordsOf() refuses what is not closed", () => {
  for (const line of ['A b="c', "A b='c", 'A b="c\\"']) assertThrows(() => wordsOf(line), UsageError, "is not closed");
  for (const line of ["A b=[1", 'A b={"c": [1}']) assertThrows(() => wordsOf(line), UsageError, "is missing");
});

Deno.test("completionsOf() offers commands, then parameters that are not there yet", () => {
  const commands = knownCommands([
    { name: "PING", params: [] },
    { name: "GREET", params: ["name", "times"] },
    { name: "GRAB", params: ["name"] },
    { name: "not a word", params: [] },
    { name: "\x1b[2J" },
    null,
    { name: 7 },
  ]);
  assertEquals(commands.map(({ name }) => name), ["PING", "GREET", "GRAB"]);
  assertEquals(completionsOf("", commands), [["PING ", "GREET ", "GRAB ", "describe ", "help", "quit"], ""]);
  assertEquals(completionsOf("GR", commands), [["GREET ", "GRAB "], "GR"]);
  assertEquals(completionsOf(" q", commands), [["quit"], "q"]);
  assertEquals(completionsOf("GREET ", commands), [["name=", "times="], ""]);
  assertEquals(completionsOf("GREET name=Ada t", commands), [["times="], "t"]);
  assertEquals(completionsOf("GREET name=Ada ", commands), [["times="], ""]);
  assertEquals(completionsOf("NOPE n", commands), [[], "n"]);
  assertEquals(completionsOf('GREET name="Ada t', commands), [[], "t"]);
});

Deno.test("completionsOf() offers names in any writing, if they can be typed as one word", () => {
  const commands = knownCommands([
    { name: "größe", params: ["länge", "長さ", "with\u3000space", "hid\u200bden"] },
    { name: "a\u00a0b", params: [] },
  ]);
  assertEquals(completionsOf("gr", commands), [["größe "], "gr"]);
  assertEquals(completionsOf("größe ", commands), [["länge=", "長さ="], ""]);
});

Deno.test("completionsOf() knows the call on a line with --meta", () => {
  const commands = knownCommands([{ name: "GREET", params: ["name", "times"] }]);
  assertEquals(completionsOf("--meta token=a GR", commands), [["GREET "], "GR"]);
  assertEquals(completionsOf("--meta=token=a GREET name=Ada ", commands), [["times="], ""]);
  assertEquals(completionsOf("GREET --meta token='a b' --meta x=1 t", commands), [["times="], "t"]);
  assertEquals(completionsOf("--meta GR", commands), [[], "GR"]);
  assertEquals(completionsOf("--meta token=a describe GR", commands), [["GREET "], "GR"]);
});
