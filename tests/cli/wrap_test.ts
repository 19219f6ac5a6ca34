/** `cli/wrap.ts`: long lines on a narrow terminal. */

import { assertEquals } from "@std/assert";
import { wrap } from "../../cli/wrap.ts";

Deno.test("wrap() breaks a line between words, and goes on a little further in", () => {
  assertEquals(wrap("one two three four five six", 16), "one two three\nfour five six");
  assertEquals(wrap("  one two three four five six", 24), "  one two three four\n      five six");
  assertEquals(wrap("short\n\nlines", 5), "short\n\nlines");
  assertEquals(wrap("one two three", Infinity), "one two three");
});

Deno.test("wrap() goes on below the last column of a table, where that leaves room", () => {
  assertEquals(
    wrap("number  name  summary\n1       PING  answers PONG, each time, at once", 34),
    "number  name  summary\n1       PING  answers PONG, each\n              time, at once",
  );
  assertEquals(wrap("FAIL  2  0.22  INSUFFICIENT_FUNDS 2", 32), "FAIL  2  0.22\n    INSUFFICIENT_FUNDS 2");
  assertEquals(wrap("number  name  answers PONG each time", 24), "number  name  answers\n    PONG each time");
});

Deno.test("wrap() loses nothing, and breaks no word, however narrow the terminal is", () => {
  const text =
    "  --max-payload-bytes BYTES  the largest payload, either way (default 1048576)\nPING: 2,000 calls in 0.30 s";
  const words = (lines: string) => lines.split(/\s+/).filter((word) => word !== "");
  for (let columns = 1; columns < 90; columns++) {
    const wrapped = wrap(text, columns);
    assertEquals(words(wrapped), words(text));
    for (const line of wrapped.split("\n")) {
      assertEquals(line.length <= columns || !line.trim().includes(" "), true, `${columns}: ${line}`);
    }
  }
});

Deno.test("wrap() takes a line of any number of words", () => {
  assertEquals(wrap("a ".repeat(400_000), 80).split("\n").length, 10_527);
});

Deno.test("wrap() measures wide characters as the terminal does", () => {
  assertEquals(wrap("挨拶を する コマンド です", 20), "挨拶を する コマンド\n    です");
  assertEquals(wrap("挨拶を する コマンド です", 25), "挨拶を する コマンド です");
  const summary = "とても 長い 説明";
  assertEquals(wrap(`挨拶  ${summary}`, 24), "挨拶  とても 長い 説明");
  assertEquals(wrap(`挨拶  ${summary} です`, 24), "挨拶  とても 長い 説明\n      です");
});
