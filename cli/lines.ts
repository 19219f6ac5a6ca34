/**
 * Splits a stream of bytes into lines of text.
 *
 * In: bytes. Out: lines without their newlines; the last one may lack it. Refused: nothing.
 */

/** The lines of a stream. */
export async function* linesOf(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string, void> {
  // A long line may come in many parts, which are joined once.
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
