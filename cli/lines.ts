/**
 * Splits a stream of bytes into lines of text.
 *
 * In: bytes. Out: lines without their newlines; the last one may lack it. Refused: nothing, unless it is told to: bytes
 * that are not UTF-8, by a `TypeError`.
 */

/** The lines of a stream. Bytes that are not UTF-8 are replaced, or if `fatal` refused. */
export async function* linesOf(
  bytes: AsyncIterable<Uint8Array>,
  { fatal = false }: { fatal?: boolean } = {},
): AsyncGenerator<string, void> {
  const decoder = new TextDecoder("utf-8", { fatal });
  // A long line may come in many parts, which are joined once.
  let parts: string[] = [];
  for await (const chunk of bytes) {
    const [end, ...lines] = decoder.decode(chunk, { stream: true }).split("\n");
    parts.push(end);
    const begun = lines.pop();
    if (begun === undefined) continue;
    yield parts.join("");
    yield* lines;
    parts = [begun];
  }
  parts.push(decoder.decode());
  const rest = parts.join("");
  if (rest !== "") yield rest;
}
