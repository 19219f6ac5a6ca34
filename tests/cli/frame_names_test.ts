/** `cli/frame_names.ts`: every byte of a frame has its meaning, and no bytes break it. */

import { assert, assertEquals } from "@std/assert";
import { LONG_HEADER_BYTES, TERMINATOR, writeLongHeader } from "../../codec/frame.ts";
import { encode } from "../support/msgpack.ts";
import type { Direction } from "../../cli/frame_tap.ts";
import { nameFrame } from "../../cli/frame_names.ts";
import { newSeed, Random } from "../support/random.ts";
import { frame } from "./scripts.ts";

/** The lines with one blank between bytes and meaning. */
const names = (bytes: Uint8Array, direction: Direction = "sent") =>
  nameFrame(bytes, direction).map((line) => line.trim().replace(/ +/, " "));

Deno.test("nameFrame() names the header, each key and value, and the newline", () => {
  const message = {
    list: [1, -1, 300, 2 ** 40, 0.5],
    map: { "": null, a: true },
    bytes: Uint8Array.of(1, 2),
    text: "ä\u001b",
    cmd: 2,
  };
  assertEquals(nameFrame(frame(message), "sent"), [
    "  2060                        header: 64 bytes of payload, request",
    "  85                          map of 5",
    '  a46c697374                    key "list"',
    "  95                            array of 5",
    "  01                              int 1",
    "  ff                              int -1",
    "  cd012c                          int 300",
    "  cb4270000000000000              float 1099511627776",
    "  cb3fe0000000000000              float 0.5",
    '  a36d6170                      key "map"',
    "  82                            map of 2",
    '  a0                              key ""',
    "  c0                              nil",
    '  a161                            key "a"',
    "  c3                              true",
    '  a56279746573                  key "bytes"',
    "  c4020102                      binary of 2 bytes",
    '  a474657874                    key "text"',
    '  a3c3a41b                      text "ä\\u001b"',
    '  a3636d64                      key "cmd"',
    "  02                            int 2: DELAY",
    "  0a                          newline: the end of the frame",
  ]);
});

Deno.test("nameFrame() names the kind of each message, and of a control message at its cmd too", () => {
  const cases: [message: Record<string, unknown>, direction: Direction, kind: string, cmd?: string][] = [
    [{ cmd: 1 }, "sent", "request", "int 1: PING"],
    [{ cmd: 16 }, "sent", "request", "int 16"],
    [{ cmd: "PING" }, "sent", "request", 'text "PING"'],
    [{ cmd: 0, max: 5 }, "sent", "settings", "int 0: settings"],
    [{ cmd: 0, seq: 1, cancel: true }, "sent", "cancel", "int 0: cancel"],
    [{ cmd: 0, seq: 1, credit: 2 }, "sent", "credit", "int 0: credit"],
    [{ cmd: 0, seq: 1, item: { cmd: 2 } }, "sent", "request item", "int 0: request item"],
    [{ cmd: 0, seq: 1, item: null }, "sent", "request item", "int 0: request item"],
    [{ cmd: 0, seq: 1, end: true }, "sent", "request end", "int 0: request end"],
    [{ cmd: 0, item: 1 }, "sent", "invalid message", "int 0"],
    [{ cmd: 0, later: 1 }, "sent", "unknown control", "int 0: unknown control"],
    [{ cmd: 0, seq: 1, cancel: false }, "sent", "invalid message", "int 0"],
    [{ cmd: 1, seq: "1" }, "sent", "invalid message", "int 1: PING"],
    [{ res: 1, more: true }, "received", "item"],
    [{ res: 1 }, "received", "reply"],
    [{ res: 1, cmd: 1 }, "received", "reply", "int 1"],
    [{ res: 1, cmd: 0 }, "received", "reply", "int 0"],
    [{ err: "NO" }, "received", "error"],
    [{ going: 5_000 }, "received", "going"],
    [{ gone: 5_000 }, "received", "unknown notice"],
    [{ seq: 1, credit: 5 }, "received", "request credit"],
    [{ seq: 1, credit: 0 }, "received", "invalid message"],
    [{ seq: 1, res: 1, $id: 5, more: true }, "received", "item"],
    [{ cmd: 16, seq: 1, $items: true }, "sent", "request", "int 16"],
    [{ cmd: 16, $items: true }, "sent", "invalid message", "int 16"],
    [{ seq: "1" }, "received", "invalid message"],
  ];
  for (const [message, direction, kind, cmd] of cases) {
    const lines = names(frame(message), direction);
    assert(lines[0].endsWith(`of payload, ${kind}`), `${lines[0]} is no ${kind}`);
    const value = lines[lines.findIndex((line) => line.endsWith('key "cmd"')) + 1];
    if (cmd !== undefined) assertEquals(value.replace(/^[0-9a-f]+ +/, ""), cmd);
  }
});

Deno.test("nameFrame() cuts what is long", () => {
  const payload = encode({ text: "x".repeat(70_000), list: new Array(100).fill(7) });
  const long = new Uint8Array(LONG_HEADER_BYTES + payload.length + 1);
  writeLongHeader(long, 0, payload.length);
  long.set(payload, LONG_HEADER_BYTES);
  long[long.length - 1] = TERMINATOR;
  const lines = nameFrame(long, "received");
  assertEquals(
    lines[0],
    "  1f1f000111e7                header of a long frame: 70119 bytes of payload, unknown notice",
  );
  assertEquals(
    lines[3],
    `  db00011170${"78".repeat(7)}..    text of 70000 characters, "${"x".repeat(40)}" ..`,
  );
  assertEquals([lines.length, lines[48]], [49, "  and 59 more bytes"]);
});

Deno.test("nameFrame() cuts no character in two", () => {
  const lines = nameFrame(frame({ text: "x" + "😀".repeat(50) }), "sent");
  assert(lines[3].endsWith(`text of 101 characters, "x${"😀".repeat(19)}" ..`), lines[3]);
});

Deno.test("nameFrame() says where the bytes stop making sense", () => {
  const cases: [hex: string, names: string[]][] = [
    ["2026", ["2026 half a frame"]],
    ["2026" + "81a3636d6401" + "0d", [
      "202681a3636d64010d invalid frame: the byte after the payload of 6 bytes is not 0x0A",
    ]],
    ["2021" + "c1" + "0a", [
      "2021 header: 1 byte of payload, invalid message",
      "c1 invalid MessagePack",
      "0a newline: the end of the frame",
    ]],
    [
      "2022" + "8101" + "0a",
      [
        "2022 header: 2 bytes of payload, invalid message",
        "81 map of 1",
        "01 key int 1",
        "a value is missing here",
        "0a newline: the end of the frame",
      ],
    ],
    [
      "2023" + "d90161" + "0a",
      ["2023 header: 3 bytes of payload, invalid message", 'd90161 text "a"', "0a newline: the end of the frame"],
    ],
    [
      "2024" + "a1ffc0c0" + "0a",
      [
        "2024 header: 4 bytes of payload, invalid message",
        "a1ff text that is not UTF-8",
        "c0c0 left over",
        "0a newline: the end of the frame",
      ],
    ],
    [
      "2023" + "d40501" + "0a",
      [
        "2023 header: 3 bytes of payload, invalid message",
        "d40501 extension of 3 bytes",
        "0a newline: the end of the frame",
      ],
    ],
  ];
  for (const [hex, expected] of cases) assertEquals(names(Uint8Array.fromHex(hex)), expected, hex);
});

Deno.test("nameFrame() takes any bytes, and its groups are all of them", () => {
  const seed = newSeed();
  const random = new Random(seed);
  for (let round = 0; round < 3000; round++) {
    const payload = random.bytes(random.below(20));
    const bytes = Uint8Array.of(32, 32 + payload.length, ...payload, 10);
    const direction = random.pick<Direction>(["sent", "received"]);
    const lines = nameFrame(bytes, direction);
    const hex = lines.map((line) => line.slice(2, 28).trim()).join("");
    assert(hex.includes("..") || hex === bytes.toHex(), `${bytes.toHex()}: ${lines.join("\n")}; seed ${seed}`);
    nameFrame(payload, direction);
  }
});
