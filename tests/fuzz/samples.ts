/**
 * What mutations start from: valid payloads of every kind that a client or a server sends, every encoding of the public
 * MessagePack suite, the article's own vectors, and some that are hard to read. Written by `@std/msgpack`, not by the
 * code that is to be tested.
 *
 * In: nothing. Out: payloads, small and large, and one request that any reader must be able to read at any time.
 */

import { FIELD_NAMES } from "../../codec/message.ts";
import { encode } from "jsr:@std/msgpack@^1.0.3";
import suite from "msgpack-test-suite" with { type: "json" };
import vectors from "../vectors.json" with { type: "json" };
import { concat, unhex } from "../support/wire.ts";

/** The npm copy has no types, and std's leaves out what it takes. */
const stdEncode: (value: unknown) => Uint8Array<ArrayBuffer> = encode as never;

/** Commands by name and number: the built-in ones, and those of `conversation.ts`. */
const COMMANDS = [
  ...[1, 2, 3, 4, 7, 16, 17, "PING", "DELAY", "TICK", "ECHO"],
  ...["LATER", "REFUSE", "CHECKED", "ITEMS", "UPLOAD", "CHAT", "NOBODY", ""],
];

const REQUESTS = COMMANDS.flatMap((cmd) => [
  { cmd },
  { sleep: 10, value: "\n", cmd },
  { cmd, seq: 5, sleep: 10, value: [1, { a: null, b: -1 }] },
  { cmd, seq: 5, $items: true, count: 3 },
  { cmd, seq: 2 ** 40, ttl: 1_500, meta: { token: "hunter2", trace: "00-1" }, credit: 3, count: 4, sleep: 3 },
]);

const CONTROLS = [
  { cmd: 0, max: 100_000 },
  { cmd: 0, max: 57_310, alive: 30_000, notice: true },
  { cmd: 0, alive: 1_000 },
  { cmd: 0, seq: 5, cancel: true },
  { cmd: 0, seq: 5, credit: 10 },
  { cmd: 0, seq: 5, item: ["an item", { a: null }] },
  { cmd: 0, seq: 2 ** 40, item: null },
  { item: new Uint8Array(20), seq: 5, cmd: 0 },
  { cmd: 0, seq: 5, end: true },
  { cmd: 0, seq: 5, later: "what a later version may say" },
  { cmd: 0 },
];

/** Calls with a stream of the caller's. */
const STREAM_REQUESTS = [5, 6].flatMap((seq) => [
  ...["UPLOAD", "CHAT"].map((cmd) => ({ cmd, seq, $items: true })),
  { cmd: "UPLOAD", seq, $items: true, count: 1, ttl: 5_000 },
  { cmd: "CHAT", seq, $items: true, credit: 1 },
  { cmd: 16, seq, $items: true, value: 1 },
]);

/** What may follow them. */
const STREAM_MESSAGES = [5, 6].flatMap((seq) => [
  ...["text", null, 7, new Uint8Array(300)].map((item) => ({ cmd: 0, seq, item })),
  ...[1, 2].map((credit) => ({ cmd: 0, seq, credit })),
  { cmd: 0, seq, end: true },
  { cmd: 0, seq, cancel: true },
]);

const REPLIES = [
  { res: "PONG" },
  { seq: 5, res: "DONE", slept: 3.003000020980835 },
  { seq: 6, res: [1, 2, 3], more: true },
  { seq: 6, res: null },
  { err: "INVALID_SLEEP" },
  { seq: 6, res: "x", $id: 7, more: true },
  { seq: 5, credit: 10 },
  { seq: 5, credits: 10 }, // what a later version may say unasked
  { going: 5_000 },
  { gone: 5_000 },
  { err: "OVERLOADED", $after: 200 },
  { seq: 5, msg: "no reply, and nothing new" },
  { seq: 7, err: "INVALID_PARAMS", msg: "a.b: must be a number", data: [{ path: ["a", "b"], message: "no" }] },
];

const HARD = [
  JSON.parse(
    '{"cmd": "ECHO", "seq": 5, "value": {"__proto__": {"isAdmin": true}, "toString": 1}, "__proto__": {"a": 1}}',
  ),
  JSON.parse('{"cmd": 1, "meta": {"__proto__": "x", "constructor": "y"}}'),
  { cmd: "ECHO", value: ["\ufeffa", "é", "漢字", "🍺", "\ufffd", "\0\r\n", "x".repeat(40), "é".repeat(40)] },
  { cmd: "ECHO", value: [2n ** 53n, -(2n ** 63n), 2n ** 64n - 1n, 1n, NaN, -Infinity, 0.1, 2 ** 32, -(2 ** 31)] },
  { cmd: "ECHO", value: [new Uint8Array([0, 255, 10]), new Uint8Array(300)], 1: 2, "-1": 3 },
  { cmd: 1, seq: 5n, ttl: 10n, credit: 3n },
  { cmd: 0, seq: 5, cancel: true, credit: 10 },
  { cmd: 0, seq: 5, max: 100_000 },
  { cmd: 0, seq: 5, item: 1, end: true },
  { cmd: 0, seq: 5, item: new Array(40).fill([]), later: { item: 1 } },
  { cmd: "DELAY", sleep: 2 ** 31, ttl: 1e300 },
  { cmd: "ECHO", value: [...new Array(40).fill([]), ...new Array(40).fill({})] }, // as many as may be in one another
  Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`key ${index}`, index])),
];

/** Values of which most are wrong for any field that means something to the wire. */
const ODD = [
  ...[null, true, 0, 1, -1, 1.5, NaN, Infinity, 2 ** 53, 2n ** 53n, 7n],
  ...["5", [], [1], {}, { a: "b" }, { a: 1 }, new Uint8Array(0)],
];

const FIELDS = [...FIELD_NAMES, "$new"].flatMap((name) =>
  ODD.flatMap((value) => [{ cmd: 1, seq: 9, [name]: value }, { [name]: value, cmd: 0 }])
);

/** Every encoding of the suite: all forms and widths of all types, also those that are refused. */
const ENCODINGS = (Object.values(suite) as { msgpack: string[] }[][]).flat()
  .flatMap(({ msgpack }) => msgpack.map((digits) => unhex(digits.replaceAll("-", ""))));

/** What no encoder of ours would write. */
const FORMS = [
  unhex("80"),
  unhex("90"),
  unhex("dc 00 00"),
  unhex("df 00 00 00 00"),
  unhex("82 a3 63 6d 64 01 a3 63 6d 64 d9 04 50 49 4e 47"), // cmd twice
  unhex("81 db 00 00 00 03 63 6d 64 d3 00 00 00 00 00 00 00 01"), // { cmd: 1 } in its widest form
  unhex("82 a3 63 6d 64 01 cf ff ff ff ff ff ff ff ff 01"), // a key that std refuses
];

/** `{ cmd: "ECHO", res: nil, value: ... }` around a value in one of its encodings: a request to a server, a reply to a client. */
function asked(value: Uint8Array): Uint8Array<ArrayBuffer> {
  return concat(unhex("83 a3 63 6d 64 a4 45 43 48 4f a3 72 65 73 c0 a5 76 61 6c 75 65"), value);
}

/** The same to a server, and a reply to a client. */
function withRes(fields: Record<string, unknown>): Uint8Array<ArrayBuffer> {
  return stdEncode({ res: "PONG", ...fields });
}

/** Payloads of less than a kilobyte, by kind. */
export const SMALL: readonly (readonly Uint8Array<ArrayBuffer>[])[] = [
  vectors.frames.map(({ hex }) => unhex(hex).slice(2, -1)),
  REQUESTS.map(stdEncode),
  CONTROLS.map(stdEncode),
  REPLIES.map(stdEncode),
  HARD.map(withRes),
  FIELDS.map(withRes),
  ENCODINGS.map(asked),
  FORMS,
  REQUESTS.map(withRes),
];

/** Payloads of which streams from a caller are made: what begins one, and what may follow. */
export const CALLER_STREAMS = { begin: STREAM_REQUESTS.map(stdEncode), follow: STREAM_MESSAGES.map(stdEncode) };

/** Payloads at the end of the short frame, and in long frames. */
export const LARGE: readonly Uint8Array<ArrayBuffer>[] = [
  stdEncode({ cmd: 1, text: "x".repeat(57_310 - 15) }), // the largest short one
  stdEncode({ cmd: 1, text: "x".repeat(57_311 - 15) }), // the smallest long one
  stdEncode({ cmd: "ECHO", value: "\n".repeat(66_000) }),
  stdEncode({ cmd: "ECHO", seq: 5, value: new Uint8Array(70_000) }),
  stdEncode({ res: Array.from({ length: 3_000 }, (_, id) => ({ id, name: `n${id}` })) }),
  stdEncode({ cmd: "ECHO", value: Array.from({ length: 9_000 }, (_, index) => index * 7) }),
  concat(unhex("82 a3 63 6d 64 01 a1 61"), new Uint8Array(63).fill(0x91), unhex("90")), // one too deep
  concat(unhex("82 a3 63 6d 64 01 a1 61 dd 00 04 00 00"), new Uint8Array(2 ** 18).fill(0xc0)), // nils that are too many
];

/** A request that can be read whatever came before it. */
export const GOOD: Uint8Array<ArrayBuffer> = stdEncode({ cmd: "ECHO", seq: 1, value: "still here" });
