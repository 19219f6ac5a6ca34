/** `cli/table.ts`: rows of text in columns. */

import { assertEquals } from "@std/assert";
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

Deno.test("table() aligns columns by their width on the terminal, also of wide characters", () => {
  // Characters of East Asia take two columns, a combining accent none.
  assertEquals(
    table([["挨拶", "名前"], ["GREET", "name"], ["e\u0301", "x"], ["ｶﾅ👍", "y"]]),
    "挨拶   名前\nGREET  name\ne\u0301      x\nｶﾅ👍   y",
  );
});
