/**
 * Lines of text out of a stream of bytes.
 *
 * In: bytes, as they come. Out: each line without its newline; the last one may lack it. Refused: nothing.
 */

/** The lines of a stream. */
export async function* linesOf(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string, void> {
  // A line may be long, and come in many parts: they are joined once.
  let parts: string[] = [];
  for await (const text of bytes.pipeThrough(new TextDecoderStream())) {
    const [end, ...lines] = text.split("\n");
    parts.push(end);
    const begun = lines.pop();
    if (begun === undefined) continue;
    yield parts.join("");
    yield* lines;
    parts = [begun];
  }
  const rest = parts.join("");
  if (rest !== "") yield rest;
}
