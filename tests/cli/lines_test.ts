/** Lines out of bytes. */

import { assertEquals } from "@std/assert";
import { linesOf } from "../../cli/lines.ts";

Deno.test("linesOf() finds the lines, however they are cut", async () => {
  const text = "one\n\ntwo ä\nthree";
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 100]) {
    const chunks = [];
    for (let start = 0; start < bytes.length; start += size) chunks.push(bytes.slice(start, start + size));
    assertEquals(await Array.fromAsync(linesOf(ReadableStream.from(chunks))), text.split("\n"));
  }
  assertEquals(await Array.fromAsync(linesOf(ReadableStream.from([new TextEncoder().encode("a\n")]))), ["a"]);
});
