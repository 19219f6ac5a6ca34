/** `cli/table.ts` and `cli/printable.ts`: text that is fit for a terminal, in columns. */

import { assertEquals } from "@std/assert";
import { printable } from "../../cli/printable.ts";
import { table } from "../../cli/table.ts";

Deno.test("table() makes each column as wide as its widest cell, with no blanks at the end of a line", () => {
  assertEquals(table([]), "");
  assertEquals(
    table([["number", "name"], ["1", "PING"], ["", ""], ["16", "A LONG NAME", "more"]]),
    "number  name\n1       PING\n\n16      A LONG NAME  more",
  );
});

Deno.test("table() keeps a cell in its place, whatever is in it", () => {
  assertEquals(table([["a\nb\x1b[2J", "c"], ["d", "e"]]), "a\\u000ab\\u001b[2J  c\nd                  e");
});

Deno.test("printable() escapes control characters and line separators, and nothing else", () => {
  assertEquals(
    printable("a\tb\r\n\x00\x7f\x85\x9f\u2028\u2029"),
    "a\\u0009b\\u000d\\u000a\\u0000\\u007f\\u0085\\u009f\\u2028\\u2029",
  );
  const text = "Ada Lovelace, naïve 東京 🚀 \u00a0\\";
  assertEquals(printable(text), text);
});
