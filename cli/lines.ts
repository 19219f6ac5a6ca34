/**
 * Splits a stream of bytes into lines of text.
 *
 * In: bytes. Out: lines without their newlines; the last one may lack it. Refused, if the options say so: bytes that
 * are not UTF-8, by a `TypeError`; a line that is too long, by a `RangeError`.
 */

/** Which lines are refused. */
interface LineOptions {
  /** Whether bytes that are not UTF-8 are refused; otherwise they are replaced. */
  readonly fatal?: boolean;
  /** Lines much longer than this are refused, because a line is held in memory until its end. */
  readonly maxLength?: number;
}

/** The lines of a stream. */
export async function* linesOf(
  bytes: AsyncIterable<Uint8Array>,
  { fatal = false, maxLength = Infinity }: LineOptions = {},
): AsyncGenerator<string, void> {
  const decoder = new TextDecoder("utf-8", { fatal });
  // A long line may come in many parts, which are joined once.
  let parts: string[] = [];
  let length = 0;
  for await (const chunk of bytes) {
    const [end, ...lines] = decoder.decode(chunk, { stream: true }).split("\n");
    parts.push(end);
    length += end.length;
    if (length > maxLength) throw new RangeError("the line is too long");
    const begun = lines.pop();
    if (begun === undefined) continue;
    yield parts.join("");
    yield* lines;
    parts = [begun];
    length = begun.length;
  }
  parts.push(decoder.decode());
  const rest = parts.join("");
  if (rest !== "") yield rest;
}
