/** `codec/text.ts`: the beginning of a text is a text. */

import { assertEquals } from "@std/assert";
import { beginningOf, shortened } from "../../codec/text.ts";

Deno.test("a text is shortened between characters, never within one", () => {
  assertEquals(shortened("abc", 3), "abc");
  assertEquals(shortened("abcd", 3), "abc…");
  assertEquals(shortened("ab😀", 4), "ab😀");
  assertEquals(shortened("ab😀c", 4), "ab😀…");
  assertEquals(shortened("ab😀c", 3), "ab…");
  assertEquals(beginningOf("😀😀", 3), "😀");
  assertEquals(beginningOf("ab", 3), "ab");
  assertEquals(beginningOf("😀", 1), "");
});
