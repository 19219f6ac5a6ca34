/**
 * Splits a stream of bytes into lines.
 *
 * In: bytes. Out: lines without their newlines, as bytes or as text; the last one may lack its newline. Refused, if the
 * options say so: bytes that are not UTF-8, by a `TypeError`; a line that is too long, by a `RangeError`.
 */

import { joined } from "../codec/compact.ts";

/** Which lines are refused. */
interface LineOptions {
  /** Whether bytes that are not UTF-8 are refused; otherwise they are replaced. */
  readonly fatal?: boolean;
  /** Lines with more bytes than this are refused, because a line is held in memory until its end. */
  readonly maxBytes?: number;
}

const NEWLINE = 0x0a;

/** The lines of a stream as text. */
export async function* linesOf(
  bytes: AsyncIterable<Uint8Array>,
  { fatal = false, maxBytes }: LineOptions = {},
): AsyncGenerator<string, void> {
  let decoder = new TextDecoder("utf-8", { fatal });
  for await (const line of byteLinesOf(bytes, maxBytes)) {
    yield decoder.decode(line);
    if (!decoder.ignoreBOM) decoder = new TextDecoder("utf-8", { fatal, ignoreBOM: true }); // only the first has a mark
  }
}

/** The lines of a stream as bytes. */
export async function* byteLinesOf(
  bytes: AsyncIterable<Uint8Array>,
  maxBytes = Infinity,
): AsyncGenerator<Uint8Array, void> {
  // A long line may come in many parts, which are joined once.
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of bytes) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const line = chunk.subarray(start, end);
      start = end + 1;
      yield parts.length === 0 ? line : joined([...parts, line]);
      parts = [];
      length = 0;
    }
    parts.push(chunk.subarray(start));
    length += chunk.length - start;
    if (length > maxBytes) throw new RangeError("the line is too long");
  }
  if (length > 0) yield joined(parts);
}
