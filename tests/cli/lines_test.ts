/** Lines out of bytes. */

import { assert, assertEquals } from "@std/assert";
import { wordsOf } from "../../cli/line_words.ts";
import { linesOf } from "../../cli/lines.ts";

Deno.test("linesOf() finds the lines, however they are cut", async () => {
  const text = "one\n\ntwo ä\nthree";
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 100]) {
    const chunks = [];
    for (let start = 0; start < bytes.length; start += size) chunks.push(bytes.slice(start, start + size));
    assertEquals(await Array.fromAsync(linesOf(ReadableStream.from(chunks))), text.split("\n"));
  }
  const encode = (text: string) => ReadableStream.from([new TextEncoder().encode(text)]);
  assertEquals(await Array.fromAsync(linesOf(encode("a\n"))), ["a"]);
  assertEquals(await Array.fromAsync(linesOf(encode("\ufeffa\n\ufeffb"))), ["a", "\ufeffb"], "the mark of a file");
});

Deno.test("linesOf() and wordsOf() take time for a long line as for many short ones", async () => {
  const seconds = async (lines: string[]) => {
    const bytes = new TextEncoder().encode(lines.join("\n"));
    const chunks = [];
    for (let start = 0; start < bytes.length; start += 4096) chunks.push(bytes.slice(start, start + 4096));
    const startMs = performance.now();
    let count = 0;
    for await (const line of linesOf(ReadableStream.from(chunks))) count += wordsOf(line).length;
    assertEquals(count, 2 * lines.length);
    return performance.now() - startMs;
  };
  const value = `"a=b c"${"=x".repeat(50)}`;
  await seconds(["A v=1"]);
  const many = await seconds(Array(40_000).fill(`A v=${value}`));
  const long = await seconds([`A v=${value.repeat(40_000).replaceAll(" ", "")}`]);
  assert(long < 5 * many + 200, `${long} ms for one line, ${many} ms for many`);
});
