/**
 * Formats bytes as `xxd` does: offset, sixteen bytes in pairs, and their text.
 *
 * In: bytes. Out: one line for every sixteen. Refused: nothing.
 */

const BYTES_A_LINE = 16;

/** Eight groups of four digits, and the seven spaces between them. */
const HEX_COLUMNS = 39;

/** The dump, line by line. */
export function hexDump(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  for (let offset = 0; offset < bytes.length; offset += BYTES_A_LINE) {
    lines.push(dumpLine(offset, bytes.subarray(offset, offset + BYTES_A_LINE)));
  }
  return lines;
}

function dumpLine(offset: number, bytes: Uint8Array): string {
  const pairs = bytes.toHex().match(/.{1,4}/g) ?? [];
  const text = Array.from(bytes, (byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".").join("");
  return `${offset.toString(16).padStart(8, "0")}: ${pairs.join(" ").padEnd(HEX_COLUMNS)}  ${text}`;
}
