/**
 * Formats bytes as `xxd` does: offset, sixteen bytes in pairs, and their text.
 *
 * In: bytes. Out: one line for each sixteen bytes; long input is cut. Refused: nothing.
 */

const BYTES_A_LINE = 16;

/** Longer input, such as a chunk of an upload, is cut to `CUT_BYTES`. */
const MAX_BYTES = 1024;
const CUT_BYTES = 256;

/** Eight groups of four digits, and the seven spaces between them. */
const HEX_COLUMNS = 39;

/** The dump, line by line. */
export function hexDump(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  const shownBytes = bytes.length > MAX_BYTES ? CUT_BYTES : bytes.length;
  for (let offset = 0; offset < shownBytes; offset += BYTES_A_LINE) {
    lines.push(dumpLine(offset, bytes.subarray(offset, Math.min(offset + BYTES_A_LINE, shownBytes))));
  }
  if (shownBytes < bytes.length) lines.push(`and ${bytes.length - shownBytes} more bytes`);
  return lines;
}

function dumpLine(offset: number, bytes: Uint8Array): string {
  const pairs = bytes.toHex().match(/.{1,4}/g) ?? [];
  const text = Array.from(bytes, (byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".").join("");
  return `${offset.toString(16).padStart(8, "0")}: ${pairs.join(" ").padEnd(HEX_COLUMNS)}  ${text}`;
}
