/** `cli/hex_dump.ts`: bytes as `xxd` shows them. */

import { assertEquals } from "@std/assert";
import { hexDump } from "../../cli/hex_dump.ts";

Deno.test("hexDump() shows offset, pairs and text as xxd does", () => {
  assertEquals(hexDump(new Uint8Array()), []);
  assertEquals(hexDump(Uint8Array.of(0x0a)), ["00000000: 0a                                       ."]);
  assertEquals(hexDump(new TextEncoder().encode("0123456789abcdef")), [
    "00000000: 3031 3233 3435 3637 3839 6162 6364 6566  0123456789abcdef",
  ]);
  assertEquals(hexDump(Uint8Array.from({ length: 35 }, (_, index) => 0x70 + index)), [
    "00000000: 7071 7273 7475 7677 7879 7a7b 7c7d 7e7f  pqrstuvwxyz{|}~.",
    "00000010: 8081 8283 8485 8687 8889 8a8b 8c8d 8e8f  ................",
    "00000020: 9091 92                                  ...",
  ]);
  assertEquals(hexDump(new Uint8Array(1024)).length, 64);
  const cut = hexDump(new Uint8Array(1025));
  assertEquals([cut.length, cut[15].slice(0, 10), cut[16]], [17, "000000f0: ", "and 769 more bytes"]);
});
