/** Level 3: streams of items, both ways. */

import { encode, Raw } from "../msgpack.ts";
import { ABSENT, repeated, TEXT } from "../values.ts";
import { frame, type Message } from "../wire.ts";
import {
  CLIENT_FIN,
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

const INVALID = { err: "INVALID_MESSAGE" };
const TICK = { cmd: "TICK", interval: 0 };
const LONG = { sleep: 3600, cmd: 2 };
const BROKEN = sendBytes(...frame(encode({ cmd: 1 })).subarray(0, -1), 0x0d);

const TWO_AS_FLOAT = new Raw(Uint8Array.of(0xcb, 0x40, 0, 0, 0, 0, 0, 0, 0));

function item(seq: number | undefined, res: unknown): Step {
  return expect({ ...seq !== undefined && { seq }, res, more: true });
}

function last(seq: number | undefined, res: unknown): Step {
  return expect({ ...seq !== undefined && { seq }, res });
}

function ticks(seq: number | undefined, from: number, to: number): Step[] {
  return Array.from({ length: to - from + 1 }, (_, index) => item(seq, from + index));
}

function failed(seq: number, err: string): Step {
  return expect({ seq, err });
}

const grant = (seq: number, credit: number) => send({ cmd: 0, seq, credit });
const cancel = (seq: number) => send({ cmd: 0, seq, cancel: true });

const replyStreams: Vector[] = [
  ...vectorsOf(3, "Streams and credit", ["TICK"], [
    ["two items and the end", [send({ ...TICK, count: 2, seq: 5 }), ...ticks(5, 1, 2), last(5, 2)]],
    ["no item", [send({ ...TICK, count: 0, seq: 5 }), last(5, 0)]],
    ["a hundred items", [send({ ...TICK, count: 100, seq: 5 }), ...ticks(5, 1, 100), last(5, 100)]],
    ["without `seq`, the stream holds up the queue", [
      sendAll([{ ...TICK, count: 2 }, { cmd: 1 }]),
      ...ticks(undefined, 1, 2),
      last(undefined, 2),
      expect(pong()),
    ]],
    ["items stop at the credit, the connection goes on", [
      send({ ...TICK, count: 3, seq: 6, credit: 2 }),
      ...ticks(6, 1, 2),
      ...goesOn(7),
      ...goesOn(8),
      grant(6, 2),
      item(6, 3),
      last(6, 3),
    ]],
    ["at credit 0, the end is not told either", [
      send({ ...TICK, count: 2, seq: 6, credit: 2 }),
      ...ticks(6, 1, 2),
      ...goesOn(7),
      ...goesOn(7),
      grant(6, 1),
      last(6, 2),
    ]],
    ["credit adds up", [
      sendAll([{ ...TICK, seq: 6, credit: 1 }, { cmd: 0, seq: 6, credit: 1 }, { cmd: 0, seq: 6, credit: 2 }]),
      ...ticks(6, 1, 4),
      ...goesOn(7),
      ...goesOn(7),
      cancel(6),
      failed(6, "CANCELLED"),
    ]],
    ["more credit than there are items", [
      send({ ...TICK, count: 2, seq: 6, credit: 1_000 }),
      ...ticks(6, 1, 2),
      last(6, 2),
    ]],
    ["whole floats are credit too", [
      send({ ...TICK, count: 3, seq: 6, credit: TWO_AS_FLOAT }),
      ...ticks(6, 1, 2),
      send({ cmd: 0, seq: 6, credit: TWO_AS_FLOAT }),
      item(6, 3),
      last(6, 3),
    ]],
    ["the largest credit", [send({ ...TICK, count: 1, seq: 6, credit: 2 ** 53 - 1 }), item(6, 1), last(6, 1)]],
    ["two streams side by side", [
      sendAll([{ ...TICK, count: 2, seq: 1, credit: 1 }, { ...TICK, count: 1, seq: 2, credit: 2 }]),
      {
        anyOrder: [
          { seq: 1, res: 1, more: true },
          { seq: 2, res: 1, more: true },
          { seq: 2, res: 1 },
        ],
      },
      grant(1, 2),
      item(1, 2),
      last(1, 2),
    ]],
    ["a cancel of a stream that waits for credit", [
      send({ ...TICK, seq: 8, credit: 1 }),
      item(8, 1),
      cancel(8),
      failed(8, "CANCELLED"),
      ...goesOn(8),
    ]],
    ["a cancel of a stream that waits for its time", [
      send({ cmd: "TICK", interval: 3600, seq: 8, credit: 9 }),
      item(8, 1),
      cancel(8),
      failed(8, "CANCELLED"),
    ]],
    ["no more credit can come: the client has ended its half", [
      send({ ...TICK, seq: 1, credit: 1 }),
      item(1, 1),
      CLIENT_FIN,
      failed(1, "CANCELLED"),
      SERVER_FIN,
    ]],
    ["no more credit can come: the client has sent a broken frame", [
      send({ ...TICK, seq: 1, credit: 1 }),
      item(1, 1),
      BROKEN,
      failed(1, "CANCELLED"),
      expect({ err: "BAD_FRAME" }),
      SERVER_FIN,
    ]],
    ["a stream with enough credit is answered behind the end", [
      send({ ...TICK, count: 2, seq: 1, credit: 9 }),
      CLIENT_FIN,
      ...ticks(1, 1, 2),
      last(1, 2),
      SERVER_FIN,
    ]],
    ["an empty stream with a result says so where credit was granted", [
      send({ ...TICK, count: 0, seq: 1, credit: 1 }),
      expect({ seq: 1, res: 0, $items: 0 }),
    ]],
    ["an empty stream without credit does not", [
      send({ ...TICK, count: 0, seq: 1 }),
      expect({ seq: 1, res: 0, $items: ABSENT }),
    ]],
  ]),
  ...vectorsOf(3, "Streams and credit", [], [
    ["`credit` means nothing for a command that answers once", [send({ cmd: 1, seq: 1, credit: 1 }), expect(pong(1))]],
    ["credit for a call that is not in flight is ignored", [grant(99, 1), ...goesOn()]],
  ]),
  ...vectorsOf(3, "Streams and credit", ["DELAY"], [
    ["credit for a call without a stream is ignored", [
      send({ ...LONG, seq: 1 }),
      grant(1, 1),
      ...goesOn(2),
      cancel(1),
      failed(1, "CANCELLED"),
    ]],
  ]),
  ...vectorsOf(3, "Deadlines", ["TICK"], [
    ["the time is for the whole stream", [
      send({ cmd: "TICK", interval: 3600, seq: 1, ttl: 50 }),
      item(1, 1),
      failed(1, "DEADLINE_EXCEEDED"),
    ]],
    ["time without credit counts", [
      send({ ...TICK, seq: 1, credit: 1, ttl: 50 }),
      item(1, 1),
      failed(1, "DEADLINE_EXCEEDED"),
    ]],
  ]),
  ...vectorsOf(3, "TICK", ["TICK"], [
    ...([
      ["`count` is negative", { count: -1 }],
      ["`count` is a text", { count: "1" }],
      ["`count` is nil", { count: null }],
      ["`interval` is negative", { interval: -1 }],
      ["`interval` is longer than a timer can be", { interval: 2_147_484 }],
    ] as [string, Message][]).map(([name, fields]): [string, Step[]] => [
      name,
      [send({ ...TICK, ...fields, seq: 1 }), failed(1, "INVALID_PARAMS"), ...goesOn()],
    ]),
  ]),
];

const requests: Vector[] = [
  ...vectorsOf(3, "Requests", [], [
    ...([
      ["`credit` is 0", { seq: 1, credit: 0 }, 1],
      ["`credit` is negative", { seq: 1, credit: -1 }, 1],
      ["`credit` is a fraction", { seq: 1, credit: 1.5 }, 1],
      ["`credit` is a text", { seq: 1, credit: "1" }, 1],
      ["`credit` is nil", { seq: 1, credit: null }, 1],
      ["`credit` is 2^53", { seq: 1, credit: 2n ** 53n }, 1],
      ["`credit` without `seq`", { credit: 1 }, undefined],
      ["`$items` without `seq`", { $items: true }, undefined],
      ["`$items` is false", { seq: 1, $items: false }, 1],
      ["`$items` is 1", { seq: 1, $items: 1 }, 1],
    ] as [string, Message, number | undefined][]).map(([name, fields, seq]): [string, Step[]] => [
      name,
      [...goesOn(), send({ cmd: 1, ...fields }), expect({ ...seq && { seq }, ...INVALID }), ...goesOn()],
    ]),
    ["`item` and `end` are free outside a control message", [
      send({ cmd: 1, seq: 1, item: 1, end: 2 }),
      expect(pong(1)),
    ]],
  ]),
  ...vectorsOf(3, "control (0)", [], [
    ...([
      ["`credit` is 0", { seq: 1, credit: 0 }],
      ["`credit` is a fraction", { seq: 1, credit: 1.5 }],
      ["`credit` is nil", { seq: 1, credit: null }],
      ["`credit` without `seq`", { credit: 1 }],
      ["`end` is false", { seq: 1, end: false }],
      ["`end` without `seq`", { end: true }],
      ["`item` without `seq`", { item: 1 }],
      ["`item` with a `seq` of a wrong kind", { seq: "1", item: 1 }],
      ["`item` and `end`: two meanings", { seq: 1, item: null, end: true }],
      ["`item` and `cancel`: two meanings", { seq: 1, item: 1, cancel: true }],
      ["`credit` and `item`: two meanings", { seq: 1, item: 1, credit: 1 }],
    ] as [string, Message][]).map(([name, fields]): [string, Step[]] => [
      name,
      [...goesOn(), send({ cmd: 0, ...fields }), expect(INVALID), ...goesOn()],
    ]),
  ]),
];

const tally = (seq: number, items: number, bytes: number) => last(seq, { items, bytes });
const begin = (cmd: string, seq: number, more: Message = {}) => send({ cmd, $items: true, seq, ...more });
const upload = (seq: number, items: unknown[], end = true): Step => ({ upload: { seq, items, end } });

const callerStreams: Vector[] = [
  ...vectorsOf(3, "Streams from the caller", ["TALLY"], [
    ["no item", [begin("TALLY", 1), upload(1, []), tally(1, 0, 0)]],
    ["one item, before any grant", [
      sendAll([{ cmd: "TALLY", $items: true, seq: 1 }, { cmd: 0, seq: 1, item: "a" }]),
      upload(1, []),
      tally(1, 1, 1),
    ]],
    ["request, one item and the end in one write", [
      sendAll([{ cmd: "TALLY", $items: true, seq: 1 }, { cmd: 0, seq: 1, item: "a" }, { cmd: 0, seq: 1, end: true }]),
      tally(1, 1, 1),
    ]],
    ["two items", [begin("TALLY", 1), upload(1, ["Hello", "you"]), tally(1, 2, 8)]],
    ["bytes of a text are those of UTF-8", [begin("TALLY", 1), upload(1, ["é"]), tally(1, 1, 2)]],
    ["binary items", [begin("TALLY", 1), upload(1, [Uint8Array.of(1, 2), new Uint8Array(3)]), tally(1, 2, 5)]],
    ["any value, nil as well", [begin("TALLY", 1), upload(1, [null, 1, { a: 1 }, ["b"], false]), tally(1, 5, 0)]],
    ["500 items, as they are granted", [
      begin("TALLY", 1),
      upload(1, Array.from({ length: 500 }, () => "x")),
      tally(1, 500, 500),
    ]],
    ["an item in a long frame", [begin("TALLY", 1), upload(1, [repeated("x", 60_000)]), tally(1, 1, 60_000)], {
      maxPayloadBytes: 1_048_576,
    }],
    ["two uploads side by side", [
      begin("TALLY", 1),
      begin("TALLY", 2),
      upload(1, ["a"], false),
      upload(2, ["bc"], false),
      upload(1, ["d"]),
      tally(1, 2, 2),
      upload(2, ["e"]),
      tally(2, 2, 3),
    ]],
    ["other calls are answered meanwhile", [
      begin("TALLY", 1),
      upload(1, ["a"], false),
      ...goesOn(2),
      ...goesOn(),
      upload(1, ["b"]),
      tally(1, 2, 2),
    ]],
    ["a cancel breaks the stream off", [
      begin("TALLY", 1),
      upload(1, ["half"], false),
      cancel(1),
      failed(1, "CANCELLED"),
      ...goesOn(1),
    ]],
    ["the end of the client's half breaks the stream off", [
      begin("TALLY", 1),
      upload(1, ["half"], false),
      CLIENT_FIN,
      failed(1, "CANCELLED"),
      SERVER_FIN,
    ]],
    ["an end and the end of the client's half", [
      begin("TALLY", 1),
      upload(1, ["whole"]),
      CLIENT_FIN,
      tally(1, 1, 5),
      SERVER_FIN,
    ]],
    ["the time is for the whole call", [
      begin("TALLY", 1, { ttl: 50 }),
      upload(1, ["half"], false),
      failed(1, "DEADLINE_EXCEEDED"),
    ]],
    ["a message that cannot be read fails every stream that is not complete", [
      begin("TALLY", 1),
      upload(1, ["half"], false),
      sendPayload(0xc1),
      { anyOrder: [INVALID, { seq: 1, ...INVALID }] },
      ...goesOn(1),
    ]],
    ["a command that needs a stream, without one", [
      send({ cmd: "TALLY", seq: 9 }),
      failed(9, "INVALID_PARAMS"),
      ...goesOn(9),
    ]],
  ]),
  ...vectorsOf(3, "Streams from the caller", ["ECHO"], [
    ["items both ways", [
      begin("ECHO", 2, { credit: 8 }),
      upload(2, ["a"], false),
      item(2, "a"),
      upload(2, [{ b: 1 }], false),
      item(2, { b: 1 }),
      upload(2, [null]),
      item(2, null),
      last(2, null),
    ]],
    ["no items both ways", [begin("ECHO", 2, { credit: 8 }), upload(2, []), last(2, null)]],
    ["the client's credit holds back what the server sends", [
      begin("ECHO", 2, { credit: 1 }),
      upload(2, ["a"], false),
      item(2, "a"),
      ...goesOn(3),
      grant(2, 2),
      upload(2, ["b"]),
      item(2, "b"),
      last(2, null),
    ]],
    ["an item that is too long for the client ends the stream", [
      begin("ECHO", 2, { credit: 8 }),
      upload(2, [repeated("x", 60_000)], false),
      failed(2, "REPLY_TOO_LARGE"),
      ...goesOn(2),
    ], { maxPayloadBytes: 1_048_576 }],
    ["a long item after `max`", [
      send({ cmd: 0, max: 100_000 }),
      begin("ECHO", 2, { credit: 8 }),
      upload(2, [repeated("x", 60_000)]),
      item(2, repeated("x", 60_000)),
      last(2, null),
    ], { maxPayloadBytes: 1_048_576 }],
  ]),
  ...vectorsOf(3, "Streams from the caller", [], [
    ["a command that takes no items is answered as ever", [
      begin("PING", 1),
      expect(pong(1)),
    ]],
    ["an item and an end behind the reply are ignored", [
      begin("PING", 1),
      expect(pong(1)),
      send({ cmd: 0, seq: 1, item: 1 }),
      send({ cmd: 0, seq: 1, item: 2 }),
      send({ cmd: 0, seq: 1, end: true }),
      ...goesOn(1),
    ]],
    ["an item of a call that is not in flight is ignored", [send({ cmd: 0, seq: 99, item: 1 }), ...goesOn()]],
    ["an end of a call that is not in flight is ignored", [send({ cmd: 0, seq: 99, end: true }), ...goesOn()]],
  ]),
  ...vectorsOf(3, "Streams from the caller", ["DELAY"], [
    ["an item beyond the credit fails the call", [
      send({ ...LONG, $items: true, seq: 6 }),
      send({ cmd: 0, seq: 6, item: 1 }),
      send({ cmd: 0, seq: 6, item: 2 }),
      failed(6, "INVALID_MESSAGE"),
      ...goesOn(6),
    ]],
    ["an item behind the end fails the call", [
      send({ ...LONG, $items: true, seq: 6 }),
      send({ cmd: 0, seq: 6, end: true }),
      send({ cmd: 0, seq: 6, item: 1 }),
      failed(6, "INVALID_MESSAGE"),
      ...goesOn(6),
    ]],
    ["a second end fails the call", [
      send({ ...LONG, $items: true, seq: 6 }),
      send({ cmd: 0, seq: 6, end: true }),
      send({ cmd: 0, seq: 6, end: true }),
      failed(6, "INVALID_MESSAGE"),
      ...goesOn(6),
    ]],
    ["an item of a call without `$items` fails it", [
      send({ ...LONG, seq: 6 }),
      send({ cmd: 0, seq: 6, item: 1 }),
      failed(6, "INVALID_MESSAGE"),
      ...goesOn(6),
    ]],
    ["an end of a call without `$items` fails it", [
      send({ ...LONG, seq: 6 }),
      send({ cmd: 0, seq: 6, end: true }),
      failed(6, "INVALID_MESSAGE"),
      ...goesOn(6),
    ]],
  ]),
];

const failures: Vector[] = vectorsOf(3, "What goes wrong", ["TICK"], [
  ["INVALID_PARAMS says where", [
    send({ ...TICK, count: "x", seq: 1 }),
    expect({ seq: 1, err: "INVALID_PARAMS", data: [{ path: ["count"], message: TEXT }] }),
  ]],
]);

/** All of level 3. */
export const STREAMS: Vector[] = [...replyStreams, ...requests, ...callerStreams, ...failures];
