/** Level 1: frames, values, requests without `seq`, replies, failures, the end of a connection. */

import { encode, Raw } from "../msgpack.ts";
import { ANY, bytesOf, NUMBER, repeated } from "../values.ts";
import { frame, longHeader, MAX_SHORT_BYTES, type Message } from "../wire.ts";
import {
  CLIENT_FIN,
  exchanges,
  expect,
  goesOn,
  pong,
  send,
  sendAll,
  sendBytes,
  sendPayload,
  SERVER_FIN,
  type Step,
  type Vector,
  vectorsOf,
} from "./vector.ts";

const DEFAULT_MAX = 1_048_576;
const MIB = { maxPayloadBytes: DEFAULT_MAX };
const INVALID = { err: "INVALID_MESSAGE" };
const NOT_FOUND = { err: "CMD_NOT_FOUND" };
const BAD_FRAME = [expect({ err: "BAD_FRAME" }), SERVER_FIN];

/** ECHO with a text, in a payload of exactly this size. */
function echoOfSize(size: number): [request: Message, reply: Message] {
  const bare = encode({ data: "", cmd: "ECHO" }).length;
  const head = (length: number) => length < 32 ? 0 : length < 256 ? 1 : length < 65_536 ? 2 : 4;
  const length = [0, 1, 2, 4].map((more) => size - bare - more).find((length) =>
    bare + length + head(length) === size
  )!;
  return [{ data: "x".repeat(length), cmd: "ECHO" }, { res: repeated("x", length) }];
}

/** PING with a parameter that it ignores, in a payload of this size. */
function pingOfSize(size: number): Message {
  const bare = encode({ pad: "x".repeat(70_000), cmd: 1 }).length - 70_000;
  return { pad: "x".repeat(size - bare), cmd: 1 };
}

const text = (value: string) => [...new TextEncoder().encode(value)];
const PING = [...frame(encode({ cmd: 1 }))];

const frames: Vector[] = [
  ...vectorsOf(1, "The wire on one page", [], [
    ["the first message on a connection, byte for byte", [
      { send: bytesOf("20 26 81 a3 63 6d 64 01 0a"), shows: { cmd: 1 } },
      expect(pong()),
    ]],
    ["a failure that has a code alone", [send({ cmd: "FOO" }), expect(NOT_FOUND)]],
  ]),
  ...vectorsOf(1, "The frame", ["ECHO"], [
    ...[223, 224, 225, 233, 234, 235, 255, 256, 257, 479, 480, 2_794, 32_767, 57_087, 57_088].map((
      size,
    ): [string, Step[]] => {
      const [request, reply] = echoOfSize(size);
      return [`a payload of ${size} bytes`, [send(request), expect(reply)]];
    }),
    ["a newline in a payload: 10", [send({ data: 10, cmd: "ECHO" }), expect({ res: 10 })]],
    ["newlines in a text", [send({ data: "\n\r\n", cmd: "ECHO" }), expect({ res: "\n\r\n" })]],
    ["a newline as the whole of binary data", [
      send({ data: Uint8Array.of(10), cmd: "ECHO" }),
      expect({ res: Uint8Array.of(10) }),
    ]],
    ["a payload that is a frame in binary data", [
      send({ data: Uint8Array.from(PING), cmd: "ECHO" }),
      expect({ res: Uint8Array.from(PING) }),
    ]],
  ]),
  ...vectorsOf(1, "The frame", [], [
    ["a frame in single bytes", [send({ cmd: 1 }, 1), expect(pong())]],
    ["three frames in pieces of two bytes", [
      sendAll([{ cmd: 1 }, { cmd: 1 }, { cmd: 1 }], 2),
      ...[1, 2, 3].map(() => expect(pong())),
    ]],
    ["forty frames in one write", [
      sendAll(Array.from({ length: 40 }, () => ({ cmd: 1 }))),
      ...Array.from({ length: 40 }, () => expect(pong())),
    ]],
    ["the longest short frame", [send(pingOfSize(MAX_SHORT_BYTES)), expect(pong())]],
  ]),
  ...vectorsOf(1, "Long frames", [], [
    ["a request of 57,311 bytes", [send(pingOfSize(MAX_SHORT_BYTES + 1)), expect(pong())], MIB],
    ["a request of 65,536 bytes", [send(pingOfSize(65_536)), expect(pong())], MIB],
    ["a request as large as the server's limit", [send(pingOfSize(DEFAULT_MAX)), expect(pong())], MIB],
  ]),
  ...vectorsOf(1, "Long frames", ["ECHO"], [
    ["a long reply that the client has not asked for", [
      send({ data: "x".repeat(60_000), cmd: "ECHO" }),
      expect({ err: "REPLY_TOO_LARGE" }),
      ...goesOn(),
    ], MIB],
    ["a long reply after `max`", [
      send({ cmd: 0, max: 100_000 }),
      send({ data: "x".repeat(60_000), cmd: "ECHO" }),
      expect({ res: repeated("x", 60_000) }),
    ], MIB],
    ["a reply just over `max`", [
      send({ cmd: 0, max: 60_000 }),
      send({ data: "x".repeat(60_000), cmd: "ECHO" }),
      expect({ err: "REPLY_TOO_LARGE" }),
    ], MIB],
    ["a `max` below a short frame", [
      send({ cmd: 0, max: 100 }),
      send({ data: "x".repeat(100), cmd: "ECHO" }),
      expect({ err: "REPLY_TOO_LARGE" }),
      ...goesOn(),
    ]],
    ["a later `max` replaces the earlier one", [
      send({ cmd: 0, max: 100 }),
      send({ cmd: 0, max: 1_000 }),
      send({ data: "x".repeat(100), cmd: "ECHO" }),
      expect({ res: repeated("x", 100) }),
    ]],
    ["a `max` over the server's limit", [
      send({ cmd: 0, max: 2 ** 40 }),
      send({ data: "x".repeat(60_000), cmd: "ECHO" }),
      expect({ res: repeated("x", 60_000) }),
    ], MIB],
  ]),
  ...vectorsOf(1, "Long frames", [], [
    ["a failure leaves even if `max` is 0", [send({ cmd: 0, max: 0 }), send({ cmd: "FOO" }), expect(NOT_FOUND)]],
  ]),
];

const broken: Vector[] = vectorsOf(1, "Broken frames", [], [
  ...([
    ["57,311 bytes in a short frame", [0xff, 0xff]],
    ["65,534 bytes in a short frame", [0x1f, 0x1e]],
    ["57,568 bytes in a short frame: 00 20 wraps", [0x00, 0x20]],
    ["57,343 bytes in a short frame", [0xff, 0x1f]],
    ["a long frame for 6 bytes", [...longHeader(6), ...encode({ cmd: 1 })]],
    ["a long frame for 57,310 bytes", [...longHeader(MAX_SHORT_BYTES)]],
    ["a long frame for 0 bytes", [...longHeader(0)]],
    ["a long frame of 2^32 - 1 bytes", [0x1f, 0x1f, 0xff, 0xff, 0xff, 0xff]],
    ["a carriage return in place of the newline", [...PING.slice(0, -1), 0x0d]],
    ["a carriage return before the newline", [...PING.slice(0, -1), 0x0d, 0x0a]],
    ["a zero in place of the newline", [...PING.slice(0, -1), 0x00]],
    ["a header that is one too short", [0x20, 0x25, ...PING.slice(2)]],
    ["a header that is one too long, and the next frame", [0x20, 0x27, ...PING.slice(2), ...PING]],
  ] as [string, number[]][]).map(([name, bytes]): [string, Step[]] => [
    name,
    [...goesOn(), sendBytes(...bytes), ...BAD_FRAME],
  ]),
  ["a long frame over the server's limit", [
    ...goesOn(),
    sendBytes(...longHeader(DEFAULT_MAX + 1)),
    ...BAD_FRAME,
  ], MIB],
  ["nothing behind a broken frame is run", [
    sendBytes(...PING, ...PING.slice(0, -1), 0x0d, ...PING, ...PING),
    expect(pong()),
    ...BAD_FRAME,
  ]],
  ["an end inside a payload", [sendBytes(...PING, ...PING.slice(0, 4)), CLIENT_FIN, expect(pong()), SERVER_FIN]],
  ["an end inside a header", [sendBytes(...PING, 0x20), CLIENT_FIN, expect(pong()), SERVER_FIN]],
  ["an end before the newline", [sendBytes(...PING, ...PING.slice(0, -1)), CLIENT_FIN, expect(pong()), SERVER_FIN]],
]);

const first: Vector[] = vectorsOf(1, "The first message", [], [
  ...([
    ["three bytes of an HTTP request", text("GET")],
    ["a whole HTTP request", text("POST / HTTP/1.1\r\nHost: a\r\n\r\n")],
    ["a TLS handshake", [0x16, 0x03, 0x01, 0x02, 0x00, 0x01]],
    ["an array of one", [...frame(Uint8Array.of(0x91, 0x01))]],
    ["a number", [...frame(Uint8Array.of(0x01))]],
    ["nil", [...frame(Uint8Array.of(0xc0))]],
    ["a text", [...frame(encode("cmd"))]],
    ["a payload that is no map, and a PING behind it", [...frame(Uint8Array.of(0x01)), ...PING]],
  ] as [string, number[]][]).map(([name, bytes]): [string, Step[]] => [name, [sendBytes(...bytes), ...BAD_FRAME]]),
  ["an empty array, which counts as an empty map", [sendPayload(0x90), expect(NOT_FOUND), ...goesOn()]],
  ["a map that is no request", [send({}), expect(NOT_FOUND), ...goesOn()]],
]);

/** A value to ECHO, and what comes back. */
function echo(name: string, sent: string | unknown, back: unknown, limits?: Record<string, number>): Vector {
  const data = typeof sent === "string" ? new Raw(bytesOf(sent)) : sent;
  const reply = back === INVALID ? INVALID : { res: back };
  const request = send({ data, cmd: "ECHO" });
  return vectorsOf(1, "Values", ["ECHO"], [[name, [
    ...goesOn(),
    send({ cmd: 0, max: DEFAULT_MAX }),
    { send: (request as { send: Uint8Array }).send }, // the bytes are what counts: the message is in the name
    expect(reply),
    ...goesOn(),
  ], limits]])[0];
}

const nested = (depth: number) => Array.from({ length: depth - 1 }).reduce<unknown[]>((inner) => [inner], []);

const values: Vector[] = [
  echo("nil", "c0", null),
  echo("false", "c2", false),
  echo("true", "c3", true),
  echo("127", "7f", 127),
  echo("-32", "e0", -32),
  echo("255 as uint8", "cc ff", 255),
  echo("65,535 as uint16", "cd ff ff", 65_535),
  echo("2^32 - 1 as uint32", "ce ff ff ff ff", 4_294_967_295),
  echo("-128 as int8", "d0 80", -128),
  echo("-32,768 as int16", "d1 80 00", -32_768),
  echo("-2^31 as int32", "d2 80 00 00 00", -2_147_483_648),
  echo("1 as uint64", "cf 00*7 01", 1),
  echo("-1 as int64", "d3 ff ff ff ff ff ff ff ff", -1),
  echo("2^53 - 1 as uint64", "cf 00 1f ff ff ff ff ff ff", 2 ** 53 - 1),
  echo("-(2^53 - 1) as int64", "d3 ff e0 00 00 00 00 00 01", -(2 ** 53 - 1)),
  echo("2^53 as uint64", "cf 00 20 00 00 00 00 00 00", 2n ** 53n),
  echo("2^64 - 1", "cf ff ff ff ff ff ff ff ff", 2n ** 64n - 1n),
  echo("-2^63", "d3 80 00 00 00 00 00 00 00", -(2n ** 63n)),
  echo("1.5 as float32", "ca 3f c0 00 00", 1.5),
  echo("0.1 as float64", "cb 3f b9 99 99 99 99 99 9a", 0.1),
  echo("NaN", "cb 7f f8 00 00 00 00 00 00", NaN),
  echo("infinity", "cb 7f f0 00 00 00 00 00 00", Infinity),
  echo("a whole float is an integer", "cb 3f f0 00 00 00 00 00 00", 1),
  echo("an empty text", "a0", ""),
  echo("a text in a longer form than it needs", "d9 01 61", "a"),
  echo("a text with a length of four bytes", "db 00 00 00 01 61", "a"),
  echo("a text outside the basic plane", "a4 f0 9f 98 80", "\u{1f600}"),
  echo("a text that begins with a byte order mark", "a4 ef bb bf 61", "\ufeffa"),
  echo("a text that holds a zero", "a1 00", "\0"),
  echo("a text that is not UTF-8", "a1 ff", INVALID),
  echo("overlong UTF-8", "a2 c0 80", INVALID),
  echo("half a surrogate pair", "a3 ed a0 80", INVALID),
  echo("a text that ends inside a character", "a2 e2 82", INVALID),
  echo("binary", "c4 02 01 02", Uint8Array.of(1, 2)),
  echo("empty binary", "c4 00", new Uint8Array()),
  echo("binary with a length of two bytes", "c5 00 01 ff", Uint8Array.of(255)),
  echo("an empty array", "90", []),
  echo("an array with a length of four bytes", "dd 00 00 00 01 01", [1]),
  echo("a map with a length of two bytes", "de 00 01 a1 61 01", { a: 1 }),
  echo("an integer for a key", "81 07 01", { "7": 1 }),
  echo("a negative integer for a key", "81 ff 01", { "-1": 1 }),
  echo("a 64-bit integer for a key", "81 cf 00*7 07 01", { "7": 1 }),
  echo("a float for a key", "81 ca 3f c0 00 00 01", INVALID),
  echo("nil for a key", "81 c0 01", INVALID),
  echo("a boolean for a key", "81 c3 01", INVALID),
  echo("binary for a key", "81 c4 01 61 01", INVALID),
  echo("an array for a key", "81 90 01", INVALID),
  echo("a key twice: the last counts", "82 a1 61 01 a1 61 02", { a: 2 }),
  echo("`__proto__` for a key", "81 a9 5f 5f 70 72 6f 74 6f 5f 5f 01", JSON.parse('{"__proto__": 1}')),
  echo("an empty key", "81 a0 01", { "": 1 }),
  echo("a timestamp", "d6 ff 00 00 00 00", INVALID),
  echo("an extension type", "c7 01 05 00", INVALID),
  echo("a fixed extension type", "d4 05 00", INVALID),
  echo("the byte c1", "c1", INVALID),
  echo("a message that is 64 deep", nested(63), nested(63), { maxDepth: 64 }),
  echo("a message that is 65 deep", nested(64), INVALID, { maxDepth: 64 }),
  echo("a claim of 2^32 - 1 values", "dd ff ff ff ff", INVALID),
  echo("a claim of 2^32 - 1 fields", "df ff ff ff ff", INVALID),
  echo("a claim of 2^32 - 1 bytes", "db ff ff ff ff", INVALID),
  echo("values of more memory than a message may take", "dd 00 08 00 00 01*524288", INVALID, {
    maxMessageBytes: 8_388_608,
    ...MIB,
  }),
];

const payloads: Vector[] = [
  ...([
    ["`cmd` as a 64-bit integer", "81 a3 63 6d 64 d3 00*7 01", pong()],
    ["`cmd` as a whole float", "81 a3 63 6d 64 cb 3f f0 00 00 00 00 00 00", pong()],
    ["a command by its name", "81 a3 63 6d 64 a4 50 49 4e 47", pong()],
    ["a parameter that the command does not know", "82 a3 63 6d 64 01 a5 66 6f 6f 62 61 c3", pong()],
    ["a name with $ that the protocol does not know", "82 a3 63 6d 64 01 a2 24 78 01", pong()],
    ["`cmd` behind a parameter", "82 a1 61 01 a3 63 6d 64 01", pong()],
    ["a name as binary", "81 a3 63 6d 64 c4 04 50 49 4e 47", NOT_FOUND],
    ["small letters", "81 a3 63 6d 64 a4 70 69 6e 67", NOT_FOUND],
    ["a number in a text", "81 a3 63 6d 64 a1 31", NOT_FOUND],
    ["a number without a command", "81 a3 63 6d 64 0f", NOT_FOUND],
    ["a negative number", "81 a3 63 6d 64 ff", NOT_FOUND],
    ["a fraction", "81 a3 63 6d 64 cb 3f f8 00 00 00 00 00 00", NOT_FOUND],
    ["a boolean", "81 a3 63 6d 64 c3", NOT_FOUND],
    ["`cmd` nil", "81 a3 63 6d 64 c0", NOT_FOUND],
    ["the name of a property of all objects", "81 a3 63 6d 64 ab 63 6f 6e 73 74 72 75 63 74 6f 72", NOT_FOUND],
    ["an empty name", "81 a3 63 6d 64 a0", NOT_FOUND],
    ["the name of the control message", "81 a3 63 6d 64 a7 63 6f 6e 74 72 6f 6c", NOT_FOUND],
    ["no `cmd`", "80", NOT_FOUND],
    ["an empty array", "90", NOT_FOUND],
    ["an array", "91 01", INVALID],
    ["a number as the message", "01", INVALID],
    ["an empty payload", "", INVALID],
    ["a value, and something behind it", "81 a3 63 6d 64 01 c0", INVALID],
    ["a key as binary", "81 c4 03 63 6d 64 01", INVALID],
    ["a key without a value", "81 a3 63 6d 64", INVALID],
    ["a map that ends early", "82 a3 63 6d 64 01", INVALID],
  ] as [string, string, Message][]).map(([name, payload, reply]) =>
    vectorsOf(1, "Requests", [], [[name, [
      ...goesOn(),
      sendPayload(...bytesOf(payload)),
      expect(reply),
      ...goesOn(),
    ]]])[0]
  ),
  ...exchanges(1, "Meta", [], [
    ["a token", { cmd: 1, meta: { token: "sesame" } }, pong()],
    ["an empty map", { cmd: 1, meta: {} }, pong()],
    ["an empty array", { cmd: 1, meta: [] }, pong()],
    ["a value that is no text", { cmd: 1, meta: { a: 1 } }, INVALID],
    ["a value that is binary", { cmd: 1, meta: { a: Uint8Array.of(0x61) } }, INVALID],
    ["a list", { cmd: 1, meta: ["a"] }, INVALID],
    ["a text", { cmd: 1, meta: "a" }, INVALID],
    ["nil", { cmd: 1, meta: null }, INVALID],
  ]),
];

const replies: Vector[] = [
  ...exchanges(1, "Replies", ["ECHO"], [
    ["a result that is nil", { cmd: "ECHO", data: null }, { res: null }],
    ["a result that is false", { cmd: "ECHO", data: false }, { res: false }],
    ["a result that looks as a failure", { cmd: "ECHO", data: { err: "NO" } }, { res: { err: "NO" } }],
  ]),
  ...vectorsOf(1, "Order", ["ECHO"], [
    ["a hundred requests at once", [
      sendAll(Array.from({ length: 100 }, (_, data) => ({ cmd: "ECHO", data }))),
      ...Array.from({ length: 100 }, (_, res) => expect({ res })),
    ]],
  ]),
  ...vectorsOf(1, "Order", ["DELAY"], [
    ["the second waits for the first", [
      sendAll([{ sleep: 0.05, cmd: 2 }, { cmd: 1 }]),
      expect({ res: "DONE", slept: NUMBER }),
      expect(pong()),
    ]],
    ["a message that cannot be read is answered in its turn", [
      sendAll([{ sleep: 0.05, cmd: 2 }]),
      sendPayload(0xc1),
      send({ cmd: 1 }),
      expect({ res: "DONE", slept: NUMBER }),
      expect(INVALID),
      expect(pong()),
    ]],
    ["a failure is answered in its turn", [
      sendAll([{ sleep: 0.05, cmd: 2 }, { cmd: "FOO" }, { cmd: 1 }]),
      expect({ res: "DONE", slept: NUMBER }),
      expect(NOT_FOUND),
      expect(pong()),
    ]],
    ["everything before a broken frame is answered", [
      send({ sleep: 0.05, cmd: 2 }),
      sendBytes(...PING, ...PING.slice(0, -1), 0x0d),
      expect({ res: "DONE", slept: NUMBER }),
      expect(pong()),
      ...BAD_FRAME,
    ]],
  ]),
];

const commands: Vector[] = [
  ...vectorsOf(1, "control (0)", [], [
    ["`max` has no reply", [send({ cmd: 0, max: 1_048_576 }), ...goesOn()]],
    ["a field that the server does not know", [send({ cmd: 0, later: 1 }), ...goesOn()]],
    ["several fields that it does not know", [send({ cmd: 0, later: 1, seq: 1, more: [1] }), ...goesOn()]],
    ["no field at all", [send({ cmd: 0 }), ...goesOn()]],
    ["200 unknown ones are no strikes", [
      sendAll(Array.from({ length: 200 }, () => ({ cmd: 0, later: 1 }))),
      ...goesOn(),
    ]],
    ...([["a text", "1"], ["negative", -1], ["a fraction", 1.5], ["nil", null], ["2^53", 2n ** 53n]] as const).map((
      [name, max],
    ): [string, Step[]] => [`\`max\` is ${name}`, [...goesOn(), send({ cmd: 0, max }), expect(INVALID), ...goesOn()]]),
  ]),
  ...exchanges(1, "PING (1)", [], [["by its number", { cmd: 1 }, pong()]]),
  ...exchanges(1, "DELAY (2)", ["DELAY"], [
    ["no time", { sleep: 0, cmd: 2 }, { res: "DONE", slept: NUMBER }],
    ["a fraction of a second", { sleep: 0.02, cmd: 2 }, { res: "DONE", slept: NUMBER }],
    ["by its name", { sleep: 0, cmd: "DELAY" }, { res: "DONE", slept: NUMBER }],
    ...([
      ["missing", undefined],
      ["nil", null],
      ["a text", "2"],
      ["a boolean", true],
      ["negative", -1],
      ["not a number", NaN],
      ["infinite", Infinity],
      ["longer than a timer can be", 2_147_484],
    ] as const).map(([name, sleep]): [string, Message, Message] => [
      `\`sleep\` is ${name}`,
      { sleep, cmd: 2 },
      { err: "INVALID_SLEEP" },
    ]),
  ]),
  ...exchanges(1, "INFO (3)", [], [
    ["by its number", { cmd: 3 }, { res: ANY }],
    ["by its name", { cmd: "INFO" }, { res: ANY }],
  ]),
  ...exchanges(1, "ECHO", ["ECHO"], [
    ["without `data`", { cmd: "ECHO" }, { res: null }],
    ["a map", { cmd: "ECHO", data: { a: [1, "b", { c: null }] } }, { res: { a: [1, "b", { c: null }] } }],
  ]),
];

const ends: Vector[] = [
  ...vectorsOf(1, "The end of a connection", [], [
    ["nothing was sent", [CLIENT_FIN, SERVER_FIN]],
    ["a request and the end in one go", [send({ cmd: 1 }), CLIENT_FIN, expect(pong()), SERVER_FIN]],
    ["fifty requests and the end", [
      sendAll(Array.from({ length: 50 }, () => ({ cmd: 1 }))),
      CLIENT_FIN,
      ...Array.from({ length: 50 }, () => expect(pong())),
      SERVER_FIN,
    ]],
    ["a control message and the end", [send({ cmd: 0, max: 60_000 }), CLIENT_FIN, SERVER_FIN]],
  ]),
  ...vectorsOf(1, "The end of a connection", ["DELAY"], [
    ["what takes its time is answered behind the end", [
      sendAll([{ sleep: 0.05, cmd: 2 }, { cmd: 1 }]),
      CLIENT_FIN,
      expect({ res: "DONE", slept: NUMBER }),
      expect(pong()),
      SERVER_FIN,
    ]],
  ]),
];

/** All of level 1. */
export const IN_ORDER: Vector[] = [
  ...frames,
  ...broken,
  ...first,
  ...values,
  ...payloads,
  ...replies,
  ...commands,
  ...ends,
];
