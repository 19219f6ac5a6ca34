/** Headers and the bounds of a frame: every length, every header, every truncation, every refusal. */

import { assert, assertEquals } from "@std/assert";
import { FrameScanner, TERMINATOR, writeLongHeader, writeShortHeader } from "../../codec/frame.ts";
import { concat, frame, hex, unhex } from "../support/wire.ts";

const MIB = 1024 * 1024;

/** Lengths whose headers were made by the article's own code. */
const HEADERS: [length: number, header: string][] = [
  [0, "20 20"],
  [1, "20 21"],
  [9, "20 29"],
  [10, "20 2a"],
  [11, "20 2b"],
  [223, "20 ff"],
  [224, "20 00"],
  [233, "20 09"],
  [234, "20 0a"],
  [235, "20 0b"],
  [255, "20 1f"],
  [256, "21 20"],
  [480, "21 00"],
  [2_794, "2a 0a"],
  [57_088, "ff 20"],
  [57_310, "ff fe"],
];

const LONG_HEADERS: [length: number, header: string][] = [
  [57_311, "1f 1f 00 00 df df"],
  [65_536, "1f 1f 00 01 00 00"],
  [MIB, "1f 1f 00 10 00 00"],
  [64 * MIB, "1f 1f 04 00 00 00"],
  [2 ** 32 - 1, "1f 1f ff ff ff ff"],
];

Deno.test("writeShortHeader() and writeLongHeader() write the headers of PROTOCOL.md", () => {
  for (const [length, header] of HEADERS) {
    const bytes = new Uint8Array(4);
    writeShortHeader(bytes, 1, length);
    assertEquals(hex(bytes), `00 ${header} 00`);
  }
  for (const [length, header] of LONG_HEADERS) {
    const bytes = new Uint8Array(8);
    writeLongHeader(bytes, 1, length);
    assertEquals(hex(bytes), `00 ${header} 00`);
  }
});

Deno.test("scan() finds the bounds of a frame of every short length", () => {
  const scanner = new FrameScanner(MIB);
  const bytes = new Uint8Array(57_313);
  for (let length = 0; length <= 57_310; length++) {
    writeShortHeader(bytes, 0, length);
    bytes[2 + length] = TERMINATOR;
    const frameBytes = scanner.scan(bytes, 0, length + 3);
    bytes[2 + length] = 0;
    if (frameBytes !== length + 3 || scanner.payloadStart !== 2 || scanner.payloadEnd !== 2 + length) {
      assertEquals([frameBytes, scanner.payloadStart, scanner.payloadEnd], [length + 3, 2, 2 + length]);
    }
  }
});

Deno.test("scan() takes every header for what it is: a length, the long mark, or none", () => {
  const scanner = new FrameScanner(MIB);
  let lengths = 0;
  let refused = 0;
  for (let high = 0; high < 256; high++) {
    for (let low = 0; low < 256; low++) {
      const length = ((high + 224) % 256) * 256 + (low + 224) % 256;
      const answer = scanner.scan(Uint8Array.of(high, low), 0, 2);
      const isHeader = length < 57_311 || high === 0x1f && low === 0x1f;
      assertEquals(answer, isHeader ? 0 : -1, `header ${hex(Uint8Array.of(high, low))}`);
      if (isHeader) lengths++;
      else refused++;
    }
  }
  assertEquals([lengths, refused], [57_312, 8_224]);
});

Deno.test("scan() finds a frame between others, and says where its payload lies", () => {
  const scanner = new FrameScanner(MIB);
  const first = frame(unhex("0a 0a 0a"));
  const second = frame(new Uint8Array(57_311).fill(0x0a));
  const bytes = concat(first, second, first);
  assertEquals(scanner.scan(bytes, first.length, bytes.length), second.length);
  assertEquals(scanner.payloadStart, first.length + 6);
  assertEquals(scanner.payloadEnd, first.length + 6 + 57_311);
});

Deno.test("scan() asks for more at every truncation, and looks at no byte behind the end", () => {
  const scanner = new FrameScanner(MIB);
  for (const payload of [0, 1, 10, 224, 234]) {
    const whole = frame(new Uint8Array(payload));
    // Behind the end stands the rest of the frame all the same.
    for (let end = 0; end < whole.length; end++) assertEquals(scanner.scan(whole, 0, end), 0, `${end} bytes`);
    assertEquals(scanner.scan(whole, 0, whole.length), whole.length);
  }
  const long = frame(new Uint8Array(57_311));
  for (const end of [0, 1, 2, 3, 4, 5, 6, 7, 57_316, 57_317]) {
    assertEquals(scanner.scan(long, 0, end), 0, `${end} bytes`);
  }
  assertEquals(scanner.scan(long, 0, long.length), long.length);
});

Deno.test("scan() refuses a frame that does not end in a newline, whatever stands there", () => {
  const scanner = new FrameScanner(MIB);
  for (let byte = 0; byte < 256; byte++) {
    const bytes = unhex("20 21 90 00");
    bytes[3] = byte;
    assertEquals(scanner.scan(bytes, 0, 4), byte === 0x0a ? 4 : -1);
  }
  assert(scanner.reason.includes("0x0A"), scanner.reason);
  // Neither CR LF, nor a newline one byte later, is an end.
  assertEquals(scanner.scan(unhex("20 21 90 0d 0a"), 0, 5), -1);
});

Deno.test("scan() refuses a length over the limit as soon as it has been declared, and takes the limit", () => {
  for (const limit of [1, 5, 224, 57_309]) {
    const scanner = new FrameScanner(limit);
    const header = new Uint8Array(2);
    writeShortHeader(header, 0, limit);
    assertEquals(scanner.scan(header, 0, 2), 0);
    writeShortHeader(header, 0, limit + 1);
    assertEquals(scanner.scan(header, 0, 2), -1);
    assert(scanner.reason.includes(`${limit + 1}`) && scanner.reason.includes(`${limit}`), scanner.reason);
  }
  for (const limit of [57_311, MIB, 64 * MIB]) {
    const scanner = new FrameScanner(limit);
    const header = new Uint8Array(6);
    writeLongHeader(header, 0, limit);
    assertEquals(scanner.scan(header, 0, 6), 0);
    writeLongHeader(header, 0, limit + 1);
    assertEquals(scanner.scan(header, 0, 6), -1);
    writeLongHeader(header, 0, 2 ** 32 - 1);
    assertEquals(scanner.scan(header, 0, 6), -1);
    assert(scanner.reason.includes("4294967295"), scanner.reason);
  }
});

Deno.test("scan() refuses a long frame for what fits a short one", () => {
  const scanner = new FrameScanner(MIB);
  for (const length of [0, 1, 255, 57_310]) {
    const header = new Uint8Array(6);
    writeLongHeader(header, 0, length);
    assertEquals(scanner.scan(header, 0, 6), -1, `${length} bytes`);
    assert(scanner.reason.includes("short"), scanner.reason);
  }
});
