/**
 * Lines of text out of a stream of bytes.
 *
 * In: bytes, as they come. Out: each line without its newline; the last one may lack it. Refused: nothing.
 */

/** The lines of a stream. */
export async function* linesOf(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string, void> {
  let rest = "";
  for await (const text of bytes.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}
